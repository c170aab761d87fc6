/** Taking from the ready queues, one message at a time. */
import type { GetMessage } from "amqplib";
import type { Logger } from "../../../shared/logging.ts";
import type { ReadyDelivery, ReadyQueue } from "../queue.ts";
import { asOpenChannel, closeInOrder, type OpenChannel, type Session } from "./channel.ts";
import { copiedOptions, RabbitMqReadyDelivery, readEnvelope, wearsOut } from "./delivery.ts";
import type { Publisher } from "./publisher.ts";
import type { Regions } from "./regions.ts";
import { ensureQueue, type Names, readyQueueName, replyCode } from "./topology.ts";

const MOST_IDLE_CHANNELS = 64;

export interface ReadyQueuesOptions {
  readonly names: Names;
  readonly publisher: Publisher;
  readonly regions: Regions;
  readonly logger: Logger;
  /** One of ours went back into its ready queue. */
  readonly onRequeued: (readyQueue: ReadyQueue) => void;
}

/**
 * Every message taken has a channel to itself until it is settled: RabbitMQ answers a delivery that stays unacked for
 * its consumer timeout by closing the channel with all that is on it, and a long build may disturb no other job.
 * A channel without a message waits here for the next one.
 */
export class ReadyQueues {
  #session: Session | undefined;
  #idle: OpenChannel[] = [];
  readonly #open = new Set<OpenChannel>();

  constructor(private readonly options: ReadyQueuesOptions) {}

  attach(session: Session): void {
    this.#session = session;
    this.#idle = [];
  }

  async take(readyQueue: ReadyQueue): Promise<ReadyDelivery | undefined> {
    const session = this.#session;
    if (!session || session.lost.aborted || !this.options.regions.known.includes(readyQueue.region))
      return undefined;
    try {
      return await this.#takeFrom(session, readyQueue);
    } catch (error) {
      if (session.lost.aborted) return undefined;
      if (replyCode(error) === 404) await this.options.regions.declareAgain(readyQueue.region);
      else this.options.logger.warn({ err: error, ...readyQueue }, "a waiting job could not be taken");
      return undefined;
    }
  }

  async close(): Promise<void> {
    this.#session = undefined;
    await Promise.all([...this.#open].map(closeInOrder));
  }

  async #takeFrom(session: Session, readyQueue: ReadyQueue): Promise<ReadyDelivery | undefined> {
    const open = await this.#idleChannel(session);
    for (;;) {
      const message = await open.channel.get(readyQueueName(this.options.names, readyQueue));
      if (message === false) {
        this.#release(session, open);
        return undefined;
      }
      const envelope = readEnvelope(message);
      if (envelope && !wearsOut(message)) {
        return new RabbitMqReadyDelivery(message, readyQueue, envelope, open, (how) => {
          this.#release(session, open);
          if (how === "requeued") this.options.onRequeued(readyQueue);
        });
      }
      await this.#moveOn(
        session,
        message,
        envelope ? readyQueueName(this.options.names, readyQueue) : this.options.names.jobQueue,
      );
      open.channel.ack(message);
    }
  }

  /** A message without an envelope belongs before intake; a worn one goes back to its ready queue as a copy. */
  async #moveOn(session: Session, message: GetMessage, queue: string): Promise<void> {
    this.options.logger.info({ queue }, "a waiting message is published anew");
    await this.options.publisher.publish(
      { queue, body: message.content, options: copiedOptions(message) },
      () => ensureQueue(session, queue),
      session.lost,
    );
  }

  async #idleChannel(session: Session): Promise<OpenChannel> {
    for (let open = this.#idle.pop(); open; open = this.#idle.pop()) {
      if (!open.lost.aborted) return open;
    }
    const open = await asOpenChannel(session.model.createChannel(), this.options.logger);
    this.#open.add(open);
    open.lost.addEventListener("abort", () => this.#open.delete(open), { once: true });
    return open;
  }

  #release(session: Session, open: OpenChannel): void {
    if (open.lost.aborted || session !== this.#session) return;
    if (this.#idle.length < MOST_IDLE_CHANNELS) this.#idle.push(open);
    else void closeInOrder(open);
  }
}
