import { type Channel, type ChannelModel, IllegalOperationError } from "amqplib";
import { orAbort, sleep } from "../../../shared/abort.ts";
import { Backoff } from "../../../shared/backoff.ts";
import type { Logger } from "../../../shared/logging.ts";

const REOPEN_DELAY = { initialMs: 50, maxMs: 5_000 };

/** Lets one client at a time declare queues. */
export interface DeclarationLock {
  /** Not reentrant. */
  run(session: Session, declare: () => Promise<void>): Promise<void>;
}

/** The time from one established connection to its loss, or until it is given up because it cannot be prepared. */
export interface Session {
  readonly model: ChannelModel;
  readonly lost: AbortSignal;
  /** After a silence of this time, in ms, and no earlier, the broker may take this end for dead. */
  readonly heartbeatMs: number;
  /** RabbitMQ closes the connection when a frame is longer; the properties of a message are one frame. */
  readonly frameMaxBytes: number;
  /** How many channels the connection may have at the same time. */
  readonly channelMax: number;
  readonly declarations: DeclarationLock;
  /** What the broker has not answered yet, for the warning about a session that is not prepared in time. */
  readonly unanswered: Set<{ readonly what: string }>;
}

/** Waits for the broker's answer. @throws the reason of the session's loss: amqplib does not always report it. */
export async function answered<T>(session: Session, what: string, answer: Promise<T>): Promise<T> {
  const entry = { what };
  session.unanswered.add(entry);
  try {
    return await orAbort(answer, session.lost);
  } finally {
    session.unanswered.delete(entry);
  }
}

/** An open channel. `lost` aborts when the channel closes, alone or with its connection. */
export interface OpenChannel<C extends Channel = Channel> {
  readonly channel: C;
  readonly lost: AbortSignal;
}

/** The abort reason when a channel or its connection is lost. */
export class ChannelLost extends Error {
  override readonly name = "ChannelLost";
}

/** Opens a channel whose errors are logged and reported only through `lost`. */
export async function asOpenChannel<C extends Channel>(
  opening: Promise<C>,
  logger: Logger,
): Promise<OpenChannel<C>> {
  const channel = await opening;
  const lost = new AbortController();
  let cause: unknown;
  channel.on("error", (error) => {
    cause = error;
    logger.warn({ err: error }, "RabbitMQ closed a channel");
  });
  channel.on("close", () => lost.abort(new ChannelLost("RabbitMQ channel lost", { cause })));
  channel.on("handler-error", (error) => logger.error({ err: error }, "RabbitMQ event handler failed"));
  return { channel, lost: lost.signal };
}

/**
 * Runs `use` on a dedicated channel, since the broker closes a channel on which it refuses a request. `what` names the
 * queue or exchange.
 */
export function onDedicatedChannel<T>(
  session: Session,
  what: string,
  use: (channel: Channel) => Promise<T>,
): Promise<T> {
  return answered(session, what, useAndClose(session.model, use));
}

async function useAndClose<T>(model: ChannelModel, use: (channel: Channel) => Promise<T>): Promise<T> {
  const channel = await model.createChannel();
  const closed = new AbortController();
  channel.on("error", () => undefined);
  channel.on("close", () => closed.abort());
  try {
    return await use(channel);
  } finally {
    // amqplib never settles a close whose connection is lost meanwhile; the session's owner handles that loss.
    if (!closed.signal.aborted) await orAbort(channel.close(), closed.signal).catch(() => undefined);
  }
}

/** The broker does not confirm acks and requeues: a graceful close of the channel makes sure that they arrive. */
export async function closeGracefully(open: OpenChannel): Promise<void> {
  if (open.lost.aborted) return;
  try {
    await orAbort(open.channel.close(), open.lost);
  } catch (error) {
    // The channel was lost meanwhile, or is being closed already.
    if (!(open.lost.aborted || error instanceof IllegalOperationError)) throw error;
  }
}

export interface ReopeningChannelOptions<C extends Channel> {
  readonly open: (model: ChannelModel) => Promise<C>;
  /** Runs on every new channel before the channel is used. */
  readonly prepare: (open: OpenChannel<C>, session: Session) => Promise<void>;
  readonly closing: AbortSignal;
  readonly logger: Logger;
}

/** A channel that is reopened when it is lost while its connection is still open. */
export class ReopeningChannel<C extends Channel> {
  #current: OpenChannel<C> | undefined;
  #opened = Promise.withResolvers<OpenChannel<C>>();

  constructor(private readonly options: ReopeningChannelOptions<C>) {}

  get current(): OpenChannel<C> | undefined {
    return this.#current;
  }

  /** @throws the reason of `signal`, or QueueClosed. */
  async whenOpen(signal?: AbortSignal): Promise<OpenChannel<C>> {
    return this.#current ?? (await orAbort(this.#opened.promise, signal, this.options.closing));
  }

  /** To be called once per session. */
  async attach(session: Session): Promise<void> {
    const open = await asOpenChannel(this.options.open(session.model), this.options.logger);
    try {
      await orAbort(this.options.prepare(open, session), open.lost, session.lost);
    } catch (error) {
      await closeGracefully(open);
      throw error;
    }
    this.#current = open;
    this.#opened.resolve(open);
    const onLost = () => {
      // The connection of a session that was given up may be lost only after the next session has begun.
      if (this.#current !== open) return;
      this.#current = undefined;
      this.#opened = Promise.withResolvers();
      void this.#reopen(session);
    };
    if (open.lost.aborted) onLost();
    else open.lost.addEventListener("abort", onLost, { once: true });
  }

  async #reopen(session: Session): Promise<void> {
    const delay = new Backoff(REOPEN_DELAY);
    for (;;) {
      // The delay also lets the connection detect its own loss, which its channels report first.
      await sleep(delay.nextMs());
      if (session.lost.aborted || this.options.closing.aborted) return;
      try {
        return await this.attach(session);
      } catch (error) {
        if (!session.lost.aborted)
          this.options.logger.warn({ err: error }, "failed to reopen a RabbitMQ channel, retrying");
      }
    }
  }
}
