/** Takes messages from the ready queues, one at a time. */
import type { GetMessage } from "amqplib";
import { orAbort } from "../../../shared/abort.ts";
import { PRIORITIES } from "../../../shared/job.ts";
import type { Logger } from "../../../shared/logging.ts";
import type { ReadyDelivery, ReadyQueue } from "../queue.ts";
import {
  asOpenChannel,
  closeGracefully,
  type OpenChannel,
  onDedicatedChannel,
  type Session,
} from "./channel.ts";
import { copiedOptions, nearsDeliveryLimit, RabbitMqReadyDelivery, readEnvelope } from "./delivery.ts";
import type { Publisher } from "./publisher.ts";
import type { Regions } from "./regions.ts";
import { sendableOptions } from "./sendable.ts";
import { ensureQueue, type Names, readyQueueName, replyCode } from "./topology.ts";

const MAX_IDLE_CHANNELS = 64;
/** For everything else that uses the connection. */
const RESERVED_CHANNELS = 64;
/** How often it is logged that no channel is left. */
const FULL_LOG_INTERVAL_MS = 60_000;
/** About as long as a cluster needs to elect another leader of a queue. */
const TAKE_TIMEOUT_MS = 10_000;

export interface ReadyQueuesOptions {
  readonly names: Names;
  readonly publisher: Publisher;
  readonly regions: Regions;
  readonly logger: Logger;
  /** A message can be taken from this ready queue again, after no channel was left for it. */
  readonly onChannelFree: (readyQueue: ReadyQueue) => void;
  /** A request for a message is given up after this time. Default: 10 s. */
  readonly takeTimeoutMs?: number;
}

/**
 * Every taken message has a dedicated channel until it is settled: when a delivery stays unacked for RabbitMQ's
 * consumer timeout, RabbitMQ closes the channel with every delivery on it, and a long build must not affect another
 * job. Channels without a message are kept for the next ones.
 */
export class ReadyQueues {
  #session: Session | undefined;
  #idle: OpenChannel[] = [];
  readonly #open = new Set<OpenChannel>();
  /** By name: ready queues that a message was not taken from, since no channel was left. */
  readonly #postponed = new Map<string, ReadyQueue>();
  #fullLoggedAtMs = Number.NEGATIVE_INFINITY;

  constructor(private readonly options: ReadyQueuesOptions) {}

  attach(session: Session): void {
    this.#session = session;
    this.#idle = [];
  }

  async take(readyQueue: ReadyQueue): Promise<ReadyDelivery | undefined> {
    const session = this.#session;
    if (!session || session.lost.aborted || !this.options.regions.known.includes(readyQueue.region))
      return undefined;
    if (this.#idle.length === 0 && this.#open.size >= maxTaken(session)) return this.#postpone(readyQueue);
    try {
      return await this.#takeFrom(session, readyQueue);
    } catch (error) {
      if (session.lost.aborted) return undefined;
      if (replyCode(error) === 404) await this.options.regions.declareAgain(readyQueue.region);
      else this.options.logger.warn({ err: error, ...readyQueue }, "failed to take a waiting job");
      return undefined;
    }
  }

  /** Number of messages in all ready queues, without the taken ones. @throws without a connection */
  async waiting(): Promise<number> {
    const session = this.#session;
    if (!session) throw new Error("not connected to RabbitMQ");
    const readyQueues = this.options.regions.known.flatMap((region) =>
      PRIORITIES.map((priority) => ({ region, priority })),
    );
    return onDedicatedChannel(session, "the ready queues", async (channel) => {
      let messages = 0;
      for (const readyQueue of readyQueues)
        messages += (await channel.checkQueue(readyQueueName(this.options.names, readyQueue))).messageCount;
      return messages;
    });
  }

  async close(): Promise<void> {
    this.#session = undefined;
    await Promise.all([...this.#open].map(closeGracefully));
  }

  #postpone(readyQueue: ReadyQueue): undefined {
    const nowMs = performance.now();
    if (nowMs - this.#fullLoggedAtMs >= FULL_LOG_INTERVAL_MS) {
      this.#fullLoggedAtMs = nowMs;
      this.options.logger.warn(
        { jobs: this.#open.size },
        "this orchestrator has as many jobs as its connection to RabbitMQ has channels: start more orchestrators, or raise channel_max of RabbitMQ",
      );
    }
    this.#postponed.set(readyQueueName(this.options.names, readyQueue), readyQueue);
    return undefined;
  }

  #resume(): void {
    const postponed = [...this.#postponed.values()];
    this.#postponed.clear();
    for (const readyQueue of postponed) this.options.onChannelFree(readyQueue);
  }

  async #takeFrom(session: Session, readyQueue: ReadyQueue): Promise<ReadyDelivery | undefined> {
    const open = await this.#idleChannel(session);
    for (;;) {
      const message = await this.#get(open, readyQueue);
      if (message === false) {
        this.#release(session, open);
        return undefined;
      }
      const envelope = readEnvelope(message);
      const isOwnQueue = !this.options.regions.isForeign(readyQueue);
      if (envelope && !nearsDeliveryLimit(message, { isOwnQueue })) {
        const onSettled = () => this.#release(session, open);
        const { heartbeatMs } = session;
        return new RabbitMqReadyDelivery(message, readyQueue, envelope, open, heartbeatMs, onSettled);
      }
      await this.#republish(
        session,
        message,
        envelope ? readyQueueName(this.options.names, readyQueue) : this.options.names.jobQueue,
      );
      open.channel.ack(message);
    }
  }

  /**
   * While the leader of the queue is frozen or cut off from the other nodes, RabbitMQ answers only after a minute. Closing
   * the channel returns a message that it sends after the timeout.
   */
  async #get(open: OpenChannel, readyQueue: ReadyQueue): Promise<GetMessage | false> {
    const { names, takeTimeoutMs = TAKE_TIMEOUT_MS } = this.options;
    const overdue = new AbortController();
    const timer = setTimeout(
      () => overdue.abort(new Error(`RabbitMQ did not answer within ${takeTimeoutMs / 1000} s`)),
      takeTimeoutMs,
    );
    try {
      return await orAbort(open.channel.get(readyQueueName(names, readyQueue)), overdue.signal);
    } finally {
      clearTimeout(timer);
      if (overdue.signal.aborted) void closeGracefully(open);
    }
  }

  /** A message without an envelope goes to intake; one near the delivery limit is copied to its ready queue. */
  async #republish(session: Session, message: GetMessage, queue: string): Promise<void> {
    this.options.logger.info({ queue }, "publishing a waiting message again");
    await this.options.publisher.publish(
      {
        queue,
        body: message.content,
        options: sendableOptions(copiedOptions(message), {}, this.options.publisher.frameMaxBytes),
      },
      { declare: () => ensureQueue(session, queue), signal: session.lost },
    );
  }

  async #idleChannel(session: Session): Promise<OpenChannel> {
    for (let open = this.#idle.pop(); open; open = this.#idle.pop()) {
      if (!open.lost.aborted) return open;
    }
    const open = await asOpenChannel(session.model.createChannel(), this.options.logger);
    this.#open.add(open);
    const onLost = () => {
      this.#open.delete(open);
      this.#resume();
    };
    open.lost.addEventListener("abort", onLost, { once: true });
    return open;
  }

  #release(session: Session, open: OpenChannel): void {
    if (open.lost.aborted || session !== this.#session) return;
    if (this.#idle.length >= MAX_IDLE_CHANNELS) void closeGracefully(open);
    else {
      this.#idle.push(open);
      this.#resume();
    }
  }
}

/** How many messages can be taken at the same time. */
function maxTaken({ channelMax }: Session): number {
  return channelMax - Math.min(RESERVED_CHANNELS, Math.floor(channelMax / 2));
}
