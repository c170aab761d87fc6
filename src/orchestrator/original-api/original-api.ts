/**
 * Takes and answers the messages of the original Blacktree, so that an installation can replace its orchestrator and
 * workers and keep its API. Each message becomes a job in the job queue, whose result comes back on a queue between the
 * two; a message is acked only after the next one is confirmed, so that none is lost.
 */
import type { Channel, ConsumeMessage } from "amqplib";
import { sleep } from "../../shared/abort.ts";
import type { Logger } from "../../shared/logging.ts";
import { FailureDelays } from "../queue/failure-delays.ts";
import {
  closeGracefully,
  type OpenChannel,
  onDedicatedChannel,
  ReopeningChannel,
  type Session,
} from "../queue/rabbitmq/channel.ts";
import { RabbitMqConnection } from "../queue/rabbitmq/connection.ts";
import { RabbitMqDelivery } from "../queue/rabbitmq/delivery.ts";
import { Publisher } from "../queue/rabbitmq/publisher.ts";
import {
  declarationLockQueue,
  ensureQueue,
  exchangeExists,
  originalResultQueue,
  queueExists,
} from "../queue/rabbitmq/topology.ts";
import { answerOf, jobMessageOf, type OriginalTarget } from "./messages.ts";

/** Names that the original's two programs have in common. */
const EXCHANGE = "blacktree.direct";
const REQUESTS = { queue: "execute.queue", key: "worker.execute" };
/** The queue that the original's orchestrator declared; its API binds another one to the same key. */
const ANSWERS = { queue: "status.queue", key: "api.result" };

const PREFETCH = 16;
const HEARTBEAT_SECONDS = 10;

export interface OriginalApiOptions {
  readonly urls: readonly string[];
  readonly jobQueue: string;
  readonly target: OriginalTarget;
  readonly logger: Logger;
}

export class OriginalApi {
  readonly #connection: RabbitMqConnection;
  readonly #publisher: Publisher;
  readonly #channel: ReopeningChannel<Channel>;
  readonly #failureDelays = new FailureDelays();
  readonly #results: string;

  constructor(private readonly options: OriginalApiOptions) {
    const { urls, jobQueue, logger } = options;
    this.#results = originalResultQueue(options);
    this.#connection = new RabbitMqConnection({
      urls,
      heartbeatSeconds: HEARTBEAT_SECONDS,
      lockQueue: declarationLockQueue({ readyPrefix: `${jobQueue}.original` }),
      logger,
      prepare: async (session) => {
        await this.#publisher.attach(session);
        await this.#channel.attach(session);
      },
      onReady: () => logger.info({ queue: REQUESTS.queue }, "taking messages of the original API"),
      beforeClose: async () => {
        const open = this.#channel.current;
        if (open) await closeGracefully(open);
      },
    });
    const { closing } = this.#connection;
    this.#publisher = new Publisher({ closing, logger });
    this.#channel = new ReopeningChannel({
      open: (model) => model.createChannel(),
      prepare: (open, session) => this.#consume(open, session),
      closing,
      logger,
    });
  }

  start(): void {
    this.#connection.start();
  }

  /** Messages that are not passed on yet return to their queues. */
  close(): Promise<void> {
    return this.#connection.close();
  }

  async #consume(open: OpenChannel<Channel>, session: Session): Promise<void> {
    await this.#declare(session);
    await open.channel.prefetch(PREFETCH);
    const consume = (
      queue: string,
      handle: (message: ConsumeMessage, revoked: AbortSignal) => Promise<void>,
    ) =>
      open.channel.consume(queue, (message) => {
        // The queue was deleted: a new channel declares it again.
        if (message === null) void closeGracefully(open);
        else void this.#handle(new RabbitMqDelivery(message, open, () => undefined), message, handle);
      });
    await consume(REQUESTS.queue, (message, revoked) => this.#passOn(message, revoked));
    await consume(this.#results, (message, revoked) => this.#answer(message, revoked));
  }

  async #handle(
    delivery: RabbitMqDelivery,
    message: ConsumeMessage,
    handle: (message: ConsumeMessage, revoked: AbortSignal) => Promise<void>,
  ): Promise<void> {
    try {
      await handle(message, delivery.revoked);
      this.#failureDelays.forget(delivery);
      delivery.ack();
    } catch (error) {
      if (delivery.revoked.aborted || this.#connection.closing.aborted) return;
      this.options.logger.warn(
        { err: error },
        "failed to pass on a message of the original API, trying again",
      );
      await sleep(this.#failureDelays.nextMs(delivery), delivery.revoked).catch(() => undefined);
      delivery.requeue();
    }
  }

  async #passOn(message: ConsumeMessage, signal: AbortSignal): Promise<void> {
    const { jobQueue, target, logger } = this.options;
    const { body, messageId, correlationId } = jobMessageOf(message.content, target);
    const options = { messageId, correlationId, replyTo: this.#results, contentType: "application/json" };
    await this.#publisher.publish(
      { queue: jobQueue, body, options },
      { declare: () => this.#declareQueue(jobQueue), signal },
    );
    logger.info(
      { job_id: messageId, deployment_id: correlationId },
      "message of the original API became a job",
    );
  }

  async #answer(message: ConsumeMessage, signal: AbortSignal): Promise<void> {
    const answer = answerOf(message.content, message.properties.correlationId);
    if (!answer) {
      // Any client can write into the queue.
      const fields = { queue: this.#results, message_id: message.properties.messageId };
      this.options.logger.warn(fields, "dropped a message that is not a result");
      return;
    }
    const options = { contentType: "application/json", messageId: message.properties.messageId };
    const body = Buffer.from(JSON.stringify(answer));
    const declare = async () => {
      const { session } = this.#connection;
      if (session) await this.#declare(session);
    };
    await this.#publisher.publish(
      { exchange: EXCHANGE, queue: ANSWERS.key, body, options },
      { declare, signal },
    );
  }

  async #declareQueue(queue: string): Promise<void> {
    const { session } = this.#connection;
    if (session) await ensureQueue(session, queue);
  }

  async #declare(session: Session): Promise<void> {
    await ensureQueue(session, this.#results);
    // What exists is used as it is: the user may have no right to declare it.
    if (!(await exchangeExists(session, EXCHANGE)))
      await onDedicatedChannel(session, `exchange ${EXCHANGE}`, (channel) =>
        channel.assertExchange(EXCHANGE, "direct", { durable: true }),
      );
    for (const { queue, key } of [REQUESTS, ANSWERS]) {
      const exists = await queueExists(session, queue);
      await onDedicatedChannel(session, `queue ${queue}`, async (channel) => {
        if (!exists) await channel.assertQueue(queue, { durable: true });
        await channel.bindQueue(queue, EXCHANGE, key);
      });
    }
  }
}
