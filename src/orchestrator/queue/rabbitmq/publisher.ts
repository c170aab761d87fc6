/** Publishes a message until the broker has answered. */
import { type ConfirmChannel, IllegalOperationError, type Options } from "amqplib";
import { orAbort, sleep } from "../../../shared/abort.ts";
import { Backoff } from "../../../shared/backoff.ts";
import type { Logger } from "../../../shared/logging.ts";
import { type OpenChannel, ReopeningChannel, type Session } from "./channel.ts";

/**
 * Identifies a publish when the broker returns its message. A message id cannot: two messages with the same id may be
 * in flight to the same queue.
 */
const PUBLISH_ID_HEADER = "x-blacktree-publish";
const RETRY_DELAY = { initialMs: 50, maxMs: 5_000 };
const CLOSING_PAUSE_MS = 20;
const ANSWER_AFTER_ABORT_MS = 2_000;
const NACKED = "message nacked";

export interface Outgoing {
  /** The default exchange unless it is named; `queue` is then the routing key. */
  readonly exchange?: string;
  readonly queue: string;
  readonly body: Buffer;
  readonly options: Options.Publish;
}

/** "unroutable": the queue does not exist. "refused": the queue rejects the message, for example because it is full. */
type Answer = "confirmed" | "unroutable" | "refused";

export interface PublisherOptions {
  readonly closing: AbortSignal;
  readonly logger: Logger;
}

export class Publisher {
  readonly #channel: ReopeningChannel<ConfirmChannel>;
  readonly #returned = new WeakMap<ConfirmChannel, Set<string>>();
  #lastId = 0;

  constructor(private readonly options: PublisherOptions) {
    this.#channel = new ReopeningChannel({
      open: (model) => model.createConfirmChannel(),
      prepare: (open) => this.#watchReturns(open),
      ...options,
    });
  }

  attach(session: Session): Promise<void> {
    return this.#channel.attach(session);
  }

  /** Publishes until the message is confirmed; calls `declare` when its queue does not exist. */
  async publish(message: Outgoing, declare: () => Promise<void>, signal?: AbortSignal): Promise<void> {
    const delay = new Backoff(RETRY_DELAY);
    for (;;) {
      const answer = await this.publishOnce(message, signal);
      if (answer === "confirmed") return;
      this.options.logger.warn(
        { queue: message.queue, answer },
        "RabbitMQ did not accept a message, publishing it again",
      );
      await orAbort(sleep(delay.nextMs()), signal, this.options.closing);
      if (answer === "unroutable") {
        await declare().catch((error) =>
          this.options.logger.warn({ err: error, queue: message.queue }, "failed to declare a queue"),
        );
      }
    }
  }

  /** Publishes until the broker has answered, across lost channels and connections. */
  async publishOnce(message: Outgoing, signal?: AbortSignal): Promise<Answer> {
    for (;;) {
      const open = await this.#channel.whenOpen(signal);
      signal?.throwIfAborted();
      const answer = await this.#answered(this.#attempt(open, message), signal);
      if (answer !== "lost") return answer;
      // The channels of a connection that is about to close stay open for a moment.
      await orAbort(sleep(CLOSING_PAUSE_MS), signal, this.options.closing);
    }
  }

  /**
   * A message that was sent is probably stored already. So an abort of `signal` waits for the broker's answer for a
   * moment: otherwise a result that was published would count as unpublished, and be published again.
   */
  async #answered(attempt: Promise<Answer | "lost">, signal?: AbortSignal): Promise<Answer | "lost"> {
    try {
      return await orAbort(attempt, signal, this.options.closing);
    } catch (error) {
      const tooLate = sleep(ANSWER_AFTER_ABORT_MS).then(() => Promise.reject(error));
      return await orAbort(Promise.race([attempt, tooLate]), this.options.closing);
    }
  }

  #attempt({ channel }: OpenChannel<ConfirmChannel>, message: Outgoing): Promise<Answer | "lost"> {
    const id = String(++this.#lastId);
    const returned = this.#returned.get(channel);
    const options: Options.Publish = {
      ...message.options,
      headers: { ...message.options.headers, [PUBLISH_ID_HEADER]: id },
      persistent: true,
      mandatory: true,
    };
    return new Promise((resolve, reject) => {
      // The broker returns a message before it confirms it.
      const onAnswer = (error: Error | null) => {
        if (returned?.delete(id)) resolve("unroutable");
        else if (error === null) resolve("confirmed");
        else resolve(error.message === NACKED ? "refused" : "lost");
      };
      try {
        channel.publish(message.exchange ?? "", message.queue, message.body, options, onAnswer);
      } catch (error) {
        // Any other error means that the message itself cannot be encoded.
        if (error instanceof IllegalOperationError) resolve("lost");
        else reject(error);
      }
    });
  }

  async #watchReturns({ channel }: OpenChannel<ConfirmChannel>): Promise<void> {
    const returned = new Set<string>();
    this.#returned.set(channel, returned);
    channel.on("return", (message) => {
      returned.add(String(message.properties.headers?.[PUBLISH_ID_HEADER]));
    });
  }
}
