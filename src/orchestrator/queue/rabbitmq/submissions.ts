/** Consumes the job queue. */
import type { Channel, ConsumeMessage } from "amqplib";
import { orAbort, sleep } from "../../../shared/abort.ts";
import type { Logger } from "../../../shared/logging.ts";
import { FailureDelays } from "../failure-delays.ts";
import type { Delivery, Subscription } from "../queue.ts";
import { closeGracefully, type OpenChannel, ReopeningChannel, type Session } from "./channel.ts";
import { copiedOptions, nearsDeliveryLimit, RabbitMqDelivery } from "./delivery.ts";
import type { Publisher } from "./publisher.ts";
import { sendableOptions } from "./sendable.ts";
import { ensureQueue } from "./topology.ts";

/** Enough to keep intake busy over a round trip, few enough for several orchestrators to share a burst. */
const PREFETCH = 64;
/**
 * A channel of a quorum queue forwards 32 acks at once and buffers the rest until the first ones are replicated. It
 * drops the buffered ones when it is closed, so it stays open for this long after the last ack.
 */
const SETTLING_TIME_MS = 300;

export type SubmissionHandler = (delivery: Delivery) => Promise<void>;

export interface SubmissionsOptions {
  readonly jobQueue: string;
  readonly publisher: Publisher;
  readonly closing: AbortSignal;
  readonly logger: Logger;
  /** A stream would deliver only what arrives after its consumer. */
  readonly isStream: (session: Session) => Promise<boolean>;
}

export class Submissions {
  readonly #channel: ReopeningChannel<Channel>;
  #handler: SubmissionHandler | undefined;
  readonly #failureDelays = new FailureDelays();
  #isPaused = false;
  /** Resolved while the job queue can be consumed. */
  #usable = Promise.withResolvers<void>();
  #isUsable = false;
  #lastSettledAtMs = Number.NEGATIVE_INFINITY;
  #consumer: { readonly open: OpenChannel; readonly tag: string } | undefined;

  constructor(private readonly options: SubmissionsOptions) {
    this.#channel = new ReopeningChannel({
      open: (model) => model.createChannel(),
      prepare: (open, session) => this.#prepare(open, session),
      ...options,
    });
  }

  attach(session: Session): Promise<void> {
    return this.#channel.attach(session);
  }

  handle(handler: SubmissionHandler): Subscription {
    this.#handler = handler;
    void this.#consumeWhenOpen();
    return {
      pause: () => this.#pause(),
      resume: () => this.#resume(),
      stop: () => this.#stop(),
    };
  }

  /** The job queue can be consumed. @throws the signal's reason, or QueueClosed */
  async whenUsable(signal?: AbortSignal): Promise<void> {
    await orAbort(this.#usable.promise, signal, this.options.closing);
  }

  /** To be called when the job queue may be usable now. */
  async checkAgain(): Promise<void> {
    const current = this.#channel.current;
    if (current && !this.#isUsable) await closeGracefully(current);
  }

  /** Before its connection is closed. Unless the queue is closing, the next connection is to be consumed from. */
  async close(): Promise<void> {
    if (this.options.closing.aborted) await this.#stop();
    await this.#returnUnsettled();
  }

  async #pause(): Promise<void> {
    this.#isPaused = true;
    await this.#cancel();
    await this.#returnUnsettled();
  }

  #resume(): void {
    this.#isPaused = false;
    void this.#consumeWhenOpen();
  }

  /** Closes the channel, which is reopened unless the queue is closing. All its messages return in their order. */
  async #returnUnsettled(): Promise<void> {
    const current = this.#channel.current;
    if (!current) return;
    const settledAgoMs = performance.now() - this.#lastSettledAtMs;
    if (settledAgoMs < SETTLING_TIME_MS) await sleep(SETTLING_TIME_MS - settledAgoMs);
    await closeGracefully(current);
  }

  async #prepare(open: OpenChannel, session: Session): Promise<void> {
    await ensureQueue(session, this.options.jobQueue);
    this.#setUsable(!(await this.options.isStream(session)));
    await open.channel.prefetch(PREFETCH);
    await this.#consume(open);
  }

  #setUsable(isUsable: boolean): void {
    if (isUsable) this.#usable.resolve();
    else if (this.#isUsable) this.#usable = Promise.withResolvers();
    this.#isUsable = isUsable;
  }

  /** For a handler that is set after the channel opened; `#prepare` consumes for one that was set before. */
  async #consumeWhenOpen(): Promise<void> {
    try {
      const open = await this.#channel.whenOpen();
      if (this.#consumer?.open !== open) await this.#consume(open);
    } catch (error) {
      // A lost channel consumes again once it is reopened.
      if (!this.options.closing.aborted)
        this.options.logger.warn({ err: error }, "failed to consume the job queue");
    }
  }

  async #consume(open: OpenChannel): Promise<void> {
    if (!this.#isWanted) return;
    const { consumerTag } = await open.channel.consume(this.options.jobQueue, (message) => {
      if (message === null) void this.#onCancelled(open);
      else void this.#receive(new RabbitMqDelivery(message, open, this.#onSettled), message);
    });
    this.#consumer = { open, tag: consumerTag };
    if (this.#isWanted) return;
    await this.#cancel();
    if (this.#isPaused) void this.#returnWhenOpen();
  }

  /** For messages that were delivered while the channel was being opened, before the pause took effect. */
  async #returnWhenOpen(): Promise<void> {
    try {
      await this.#channel.whenOpen();
      if (this.#isPaused) await this.#returnUnsettled();
    } catch (error) {
      if (!this.options.closing.aborted)
        this.options.logger.warn({ err: error }, "failed to return messages to the job queue");
    }
  }

  get #isWanted(): boolean {
    return this.#handler !== undefined && !this.#isPaused && this.#isUsable;
  }

  /**
   * The queue was deleted, or a delivery exceeded the consumer timeout of RabbitMQ 4.3. The deliveries on the channel
   * may be revoked then, so all of them are returned; the channel is reopened, which declares and consumes again.
   */
  async #onCancelled(open: OpenChannel): Promise<void> {
    this.options.logger.warn(
      { queue: this.options.jobQueue },
      "RabbitMQ cancelled the consumer of the job queue",
    );
    await closeGracefully(open);
  }

  readonly #onSettled = () => {
    this.#lastSettledAtMs = performance.now();
  };

  async #receive(delivery: RabbitMqDelivery, message: ConsumeMessage): Promise<void> {
    try {
      // The channel is about to be closed, which returns the message.
      if (this.#isPaused) return;
      if (nearsDeliveryLimit(message)) await this.#renew(delivery, message);
      else if (this.#handler) {
        await this.#handler(delivery);
        this.#failureDelays.forget(delivery);
      }
      // The broker sent it before it had processed the cancellation of the consumer.
      else delivery.requeue();
    } catch (error) {
      if (delivery.revoked.aborted) return;
      this.options.logger.warn(
        { err: error },
        "failed to process a submitted message, returning it to the queue",
      );
      await sleep(this.#failureDelays.nextMs(delivery), delivery.revoked).catch(() => undefined);
      delivery.requeue();
    }
  }

  async #renew(delivery: RabbitMqDelivery, message: ConsumeMessage): Promise<void> {
    await this.options.publisher.publish(
      {
        queue: this.options.jobQueue,
        body: message.content,
        options: sendableOptions(copiedOptions(message), {}, this.options.publisher.frameMaxBytes),
      },
      { declare: async () => undefined, signal: delivery.revoked },
    );
    delivery.ack();
  }

  async #stop(): Promise<void> {
    this.#handler = undefined;
    await this.#cancel();
  }

  async #cancel(): Promise<void> {
    const consumer = this.#consumer;
    this.#consumer = undefined;
    if (!consumer || consumer.open.lost.aborted) return;
    // This fails only when the channel is lost, which ends the consumer too.
    await consumer.open.channel.cancel(consumer.tag).catch(() => undefined);
  }
}
