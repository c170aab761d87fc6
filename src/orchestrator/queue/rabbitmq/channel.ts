import { type Channel, type ChannelModel, IllegalOperationError } from "amqplib";
import { orAbort, sleep } from "../../../shared/abort.ts";
import { Backoff } from "../../../shared/backoff.ts";
import type { Logger } from "../../../shared/logging.ts";

const REOPEN_DELAY = { initialMs: 50, maxMs: 5_000 };

/** The time from one established connection to its loss. */
export interface Session {
  readonly model: ChannelModel;
  readonly serverMajorVersion: number;
  readonly lost: AbortSignal;
}

/** A channel as long as it is open. `lost` aborts whether it ends alone or with its connection. */
export interface OpenChannel<C extends Channel = Channel> {
  readonly channel: C;
  readonly lost: AbortSignal;
}

/** Why something that was in hand no longer is. */
export class ChannelLost extends Error {
  override readonly name = "ChannelLost";
}

/** Opens a channel whose errors are noted in `lost` and go nowhere else. */
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
  channel.on("close", () => lost.abort(new ChannelLost("the RabbitMQ channel was lost", { cause })));
  channel.on("handler-error", (error) => logger.error({ err: error }, "a RabbitMQ listener failed"));
  return { channel, lost: lost.signal };
}

/** Runs `use` on a channel of its own, since a refusal by the broker closes the channel that it is given on. */
export async function onOwnChannel<T>(
  model: ChannelModel,
  use: (channel: Channel) => Promise<T>,
): Promise<T> {
  const channel = await model.createChannel();
  const closed = new AbortController();
  channel.on("error", () => undefined);
  channel.on("close", () => closed.abort());
  try {
    return await use(channel);
  } finally {
    // amqplib never answers a close whose connection is lost meanwhile; the session's owner sees the loss.
    if (!closed.signal.aborted) await orAbort(channel.close(), closed.signal).catch(() => undefined);
  }
}

/** Acks and requeues are only written, never answered: closing the channel in order makes sure that they arrive. */
export async function closeInOrder(open: OpenChannel): Promise<void> {
  if (open.lost.aborted) return;
  try {
    await orAbort(open.channel.close(), open.lost);
  } catch (error) {
    // It was lost meanwhile, or somebody else is closing it.
    if (!(open.lost.aborted || error instanceof IllegalOperationError)) throw error;
  }
}

export interface LastingChannelOptions<C extends Channel> {
  readonly open: (model: ChannelModel) => Promise<C>;
  /** Runs on every new channel before anybody gets it. */
  readonly prepare: (open: OpenChannel<C>, session: Session) => Promise<void>;
  readonly closing: AbortSignal;
  readonly logger: Logger;
}

/** A channel that is opened again when it is lost while its connection lives. */
export class LastingChannel<C extends Channel> {
  #current: OpenChannel<C> | undefined;
  #opened = Promise.withResolvers<OpenChannel<C>>();

  constructor(private readonly options: LastingChannelOptions<C>) {}

  get current(): OpenChannel<C> | undefined {
    return this.#current;
  }

  /** @throws the reason of `signal`, or QueueClosed. */
  async whenOpen(signal?: AbortSignal): Promise<OpenChannel<C>> {
    return this.#current ?? (await orAbort(this.#opened.promise, signal, this.options.closing));
  }

  /** Called once for each session. */
  async attach(session: Session): Promise<void> {
    const open = await asOpenChannel(this.options.open(session.model), this.options.logger);
    try {
      await orAbort(this.options.prepare(open, session), open.lost);
    } catch (error) {
      await closeInOrder(open);
      throw error;
    }
    this.#current = open;
    this.#opened.resolve(open);
    const onLost = () => {
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
      // Also leaves the connection the time to notice its own end, of which its channels hear first.
      await sleep(delay.nextMs());
      if (session.lost.aborted || this.options.closing.aborted) return;
      try {
        return await this.attach(session);
      } catch (error) {
        if (!session.lost.aborted)
          this.options.logger.warn({ err: error }, "a RabbitMQ channel could not be opened again");
      }
    }
  }
}
