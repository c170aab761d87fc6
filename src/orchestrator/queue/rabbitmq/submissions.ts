/** Consuming the job queue. */
import type { Channel, ConsumeMessage } from "amqplib";
import { sleep } from "../../../shared/abort.ts";
import type { Logger } from "../../../shared/logging.ts";
import type { Delivery } from "../queue.ts";
import { closeInOrder, LastingChannel, type OpenChannel, type Session } from "./channel.ts";
import { copiedOptions, RabbitMqDelivery, wearsOut } from "./delivery.ts";
import type { Publisher } from "./publisher.ts";
import { ensureQueue } from "./topology.ts";

/** Enough to keep intake busy over a round trip, few enough for several orchestrators to share a burst. */
const PREFETCH = 64;
/** How long a message stays in our hands after its handler failed, so that it does not spin. */
const FAILURE_PAUSE_MS = 1_000;
/**
 * A quorum queue's channel passes on 32 acks at once and keeps the rest until the first ones are replicated. Those it
 * forgets when it is closed, so it stays open for a while after the last.
 */
const SETTLING_TIME_MS = 300;

export type SubmissionHandler = (delivery: Delivery) => Promise<void>;

export interface SubmissionsOptions {
  readonly jobQueue: string;
  readonly publisher: Publisher;
  readonly closing: AbortSignal;
  readonly logger: Logger;
}

export class Submissions {
  readonly #channel: LastingChannel<Channel>;
  #handler: SubmissionHandler | undefined;
  #lastSettledAtMs = Number.NEGATIVE_INFINITY;
  #consumer: { readonly open: OpenChannel; readonly tag: string } | undefined;

  constructor(private readonly options: SubmissionsOptions) {
    this.#channel = new LastingChannel({
      open: (model) => model.createChannel(),
      prepare: (open, session) => this.#prepare(open, session),
      ...options,
    });
  }

  attach(session: Session): Promise<void> {
    return this.#channel.attach(session);
  }

  handle(handler: SubmissionHandler): () => Promise<void> {
    this.#handler = handler;
    void this.#consumeWhenOpen();
    return () => this.#stop();
  }

  async close(): Promise<void> {
    await this.#stop();
    const current = this.#channel.current;
    if (!current) return;
    const settledAgoMs = performance.now() - this.#lastSettledAtMs;
    if (settledAgoMs < SETTLING_TIME_MS) await sleep(SETTLING_TIME_MS - settledAgoMs);
    await closeInOrder(current);
  }

  async #prepare(open: OpenChannel, session: Session): Promise<void> {
    await ensureQueue(session, this.options.jobQueue);
    await open.channel.prefetch(PREFETCH);
    await this.#consume(open);
  }

  /** For a handler that comes after the channel; `#prepare` has done it for one that came before. */
  async #consumeWhenOpen(): Promise<void> {
    try {
      const open = await this.#channel.whenOpen();
      if (this.#consumer?.open !== open) await this.#consume(open);
    } catch (error) {
      // A lost channel consumes when it comes back.
      if (!this.options.closing.aborted)
        this.options.logger.warn({ err: error }, "the job queue could not be consumed");
    }
  }

  async #consume(open: OpenChannel): Promise<void> {
    if (!this.#handler) return;
    const { consumerTag } = await open.channel.consume(this.options.jobQueue, (message) => {
      if (message === null) void this.#onCancelled(open);
      else void this.#receive(new RabbitMqDelivery(message, open, this.#onSettled), message);
    });
    this.#consumer = { open, tag: consumerTag };
    if (!this.#handler) await this.#cancel();
  }

  /**
   * The queue was deleted, or a delivery outlasted the consumer timeout of RabbitMQ 4.3. What is on the channel is
   * then no longer surely ours, so all of it goes back; the channel that follows declares and consumes again.
   */
  async #onCancelled(open: OpenChannel): Promise<void> {
    this.options.logger.warn(
      { queue: this.options.jobQueue },
      "RabbitMQ cancelled the consumer of the job queue",
    );
    await closeInOrder(open);
  }

  readonly #onSettled = () => {
    this.#lastSettledAtMs = performance.now();
  };

  async #receive(delivery: RabbitMqDelivery, message: ConsumeMessage): Promise<void> {
    try {
      if (wearsOut(message)) await this.#renew(delivery, message);
      else if (this.#handler) await this.#handler(delivery);
      // Sent before the broker knew that we had stopped.
      else delivery.requeue();
    } catch (error) {
      if (delivery.revoked.aborted) return;
      this.options.logger.warn(
        { err: error },
        "a submitted message could not be handled; it goes back to the queue",
      );
      await sleep(FAILURE_PAUSE_MS, delivery.revoked).catch(() => undefined);
      delivery.requeue();
    }
  }

  async #renew(delivery: RabbitMqDelivery, message: ConsumeMessage): Promise<void> {
    await this.options.publisher.publish(
      { queue: this.options.jobQueue, body: message.content, options: copiedOptions(message) },
      async () => undefined,
      delivery.revoked,
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
    // Fails only with its channel, and then the consumer is gone as well.
    await consumer.open.channel.cancel(consumer.tag).catch(() => undefined);
  }
}
