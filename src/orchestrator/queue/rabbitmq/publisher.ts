/** Publishes a message until the broker has answered. */
import { type ConfirmChannel, IllegalOperationError, type Options } from "amqplib";
import { orAbort, sleep } from "../../../shared/abort.ts";
import { Backoff } from "../../../shared/backoff.ts";
import type { Logger } from "../../../shared/logging.ts";
import {
  asOpenChannel,
  closeGracefully,
  type OpenChannel,
  ReopeningChannel,
  type Session,
} from "./channel.ts";
import { isNotFound, type Refusal, refusalOf } from "./refusal.ts";

/**
 * Identifies a publish when the broker returns its message. A message id cannot: two messages with the same id may be
 * in flight to the same queue.
 */
const PUBLISH_ID_HEADER = "x-blacktree-publish";
const RETRY_DELAY = { initialMs: 50, maxMs: 5_000 };
/** A refused message is refused again until the configuration of the broker changes. */
const REFUSED_DELAY = { initialMs: 1_000, maxMs: 60_000 };
const CLOSING_PAUSE_MS = 20;
const ANSWER_AFTER_ABORT_MS = 2_000;
const NACKED = "message nacked";
/** Without a majority of its nodes, or after a memory or disk alarm, the broker answers nothing. */
const UNCONFIRMED_PROBLEM_MS = 10_000;

export interface Outgoing {
  /** The default exchange unless it is named; `queue` is then the routing key. */
  readonly exchange?: string;
  readonly queue: string;
  readonly body: Buffer;
  readonly options: Options.Publish;
  /** The broker returns a message that gets into no queue. Default: true. */
  readonly isMandatory?: boolean;
}

export type Answer =
  | { readonly kind: "confirmed" }
  /** The queue does not exist. */
  | { readonly kind: "unroutable" }
  /** The queue rejects the message, for example because it is full. */
  | { readonly kind: "nacked" }
  /** The broker closed the channel because of this message. */
  | { readonly kind: "refused"; readonly refusal: Refusal };

/** For log lines. */
export function textOf(answer: Answer): string {
  if (answer.kind === "refused") return answer.refusal.text;
  return answer.kind === "nacked" ? "refused" : answer.kind;
}

const targetOf = ({ exchange, queue }: Outgoing) => exchange ?? queue;

export interface PublishOptions {
  /** Called when the queue or the exchange does not exist. */
  readonly declare: () => Promise<void>;
  readonly signal?: AbortSignal;
  /** Called when the broker refuses the message; returns the message to publish instead. */
  readonly replace?: (refused: Outgoing, refusal: Refusal) => Outgoing;
}

export interface PublisherOptions {
  readonly closing: AbortSignal;
  readonly logger: Logger;
}

export class Publisher {
  readonly #channel: ReopeningChannel<ConfirmChannel>;
  readonly #returned = new WeakMap<ConfirmChannel, Set<string>>();
  readonly #notAccepted = new Map<Outgoing, string>();
  /** When the publish began. */
  readonly #unconfirmed = new Map<Outgoing, number>();
  #session: Session | undefined;
  #lastId = 0;

  constructor(private readonly options: PublisherOptions) {
    this.#channel = new ReopeningChannel({
      open: (model) => model.createConfirmChannel(),
      prepare: (open) => this.#watchReturns(open),
      ...options,
    });
  }

  async attach(session: Session): Promise<void> {
    this.#session = session;
    await this.#channel.attach(session);
  }

  /** Upper bound of the frame with a message's properties. */
  get frameMaxBytes(): number {
    return this.#session?.frameMaxBytes ?? Number.POSITIVE_INFINITY;
  }

  /** Why the broker does not accept messages that are published again and again now, or has not for a while. */
  get problems(): readonly string[] {
    const nowMs = performance.now();
    const overdue = [...this.#unconfirmed]
      .filter(
        ([message, sinceMs]) => nowMs - sinceMs >= UNCONFIRMED_PROBLEM_MS && !this.#notAccepted.has(message),
      )
      .map(([message]) => `${targetOf(message)} does not confirm messages`);
    return [...new Set([...this.#notAccepted.values(), ...overdue])];
  }

  /** Publishes until the message is confirmed. */
  async publish(message: Outgoing, { declare, signal, replace }: PublishOptions): Promise<void> {
    let outgoing = message;
    let isRefused = false;
    const [delay, refusedDelay] = [new Backoff(RETRY_DELAY), new Backoff(REFUSED_DELAY)];
    this.#unconfirmed.set(message, performance.now());
    try {
      for (;;) {
        // A refusal closes the channel, so a message that was refused once is kept off the shared one.
        const answer: Answer = isRefused
          ? await this.publishAlone(outgoing, signal)
          : await this.#publishShared(outgoing, signal);
        if (answer.kind === "confirmed") return;
        this.#report(message, answer);
        isRefused ||= answer.kind === "refused";
        const replacement = answer.kind === "refused" && replace?.(outgoing, answer.refusal);
        if (replacement && replacement !== outgoing) {
          outgoing = replacement;
          continue;
        }
        const isMissing =
          answer.kind === "unroutable" || (answer.kind === "refused" && isNotFound(answer.refusal));
        const next = isRefused && !isMissing ? refusedDelay : delay;
        await orAbort(sleep(next.nextMs()), signal, this.options.closing);
        if (isMissing) await this.#declare(message, declare);
      }
    } finally {
      this.#notAccepted.delete(message);
      this.#unconfirmed.delete(message);
    }
  }

  /**
   * Publishes on a dedicated channel until the broker has answered, across lost channels and connections: a refusal
   * affects no other message, and is known to be the refusal of this one.
   */
  async publishAlone(message: Outgoing, signal?: AbortSignal): Promise<Answer> {
    for (;;) {
      await this.#channel.whenOpen(signal);
      signal?.throwIfAborted();
      const answer = await this.#publishOnDedicatedChannel(message, signal);
      if (answer !== "lost") return answer;
      await orAbort(sleep(CLOSING_PAUSE_MS), signal, this.options.closing);
    }
  }

  async #publishShared(message: Outgoing, signal?: AbortSignal): Promise<Answer> {
    for (;;) {
      const open = await this.#channel.whenOpen(signal);
      signal?.throwIfAborted();
      const answer = await this.#answered(this.#attempt(open, message), signal);
      if (answer !== "lost") return answer;
      // Of the messages that were in flight on the channel, any may be the refused one.
      if (refusalOf(open)) return await this.publishAlone(message, signal);
      // The channels of a connection that is about to close stay open for a moment.
      await orAbort(sleep(CLOSING_PAUSE_MS), signal, this.options.closing);
    }
  }

  async #publishOnDedicatedChannel(message: Outgoing, signal?: AbortSignal): Promise<Answer | "lost"> {
    const session = this.#session;
    if (!session || session.lost.aborted) return "lost";
    let open: OpenChannel<ConfirmChannel>;
    try {
      const opening = asOpenChannel(session.model.createConfirmChannel(), this.options.logger);
      open = await orAbort(opening, session.lost, signal, this.options.closing);
    } catch (error) {
      if (session.lost.aborted) return "lost";
      throw error;
    }
    try {
      await this.#watchReturns(open);
      const answer = await this.#answered(this.#attempt(open, message), signal);
      const refusal = answer === "lost" ? refusalOf(open) : undefined;
      return refusal ? { kind: "refused", refusal } : answer;
    } finally {
      await closeGracefully(open);
    }
  }

  #report(message: Outgoing, answer: Exclude<Answer, { kind: "confirmed" }>): void {
    const { queue, exchange } = message;
    const why = textOf(answer);
    const problem = `${targetOf(message)} does not accept messages: ${why}`;
    if (this.#notAccepted.get(message) === problem) return;
    this.#notAccepted.set(message, problem);
    this.options.logger.warn(
      { queue, exchange, answer: why, message_id: message.options.messageId, bytes: message.body.length },
      "RabbitMQ did not accept a message, publishing it again",
    );
  }

  async #declare({ queue }: Outgoing, declare: () => Promise<void>): Promise<void> {
    await declare().catch((error) =>
      this.options.logger.warn({ err: error, queue }, "failed to declare a queue"),
    );
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
      mandatory: message.isMandatory ?? true,
    };
    return new Promise((resolve, reject) => {
      // The broker returns a message before it confirms it.
      const onAnswer = (error: Error | null) => {
        if (returned?.delete(id)) resolve({ kind: "unroutable" });
        else if (error === null) resolve({ kind: "confirmed" });
        else resolve(error.message === NACKED ? { kind: "nacked" } : "lost");
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
