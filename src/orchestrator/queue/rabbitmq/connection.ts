/** One connection to RabbitMQ that comes back after every loss, and channels that do the same within it. */
import { type Channel, type ChannelModel, connect, IllegalOperationError } from "amqplib";
import { orAbort } from "../../../shared/abort.ts";
import { GrowingDelay, sleep } from "../../../shared/backoff.ts";
import type { Logger } from "../../../shared/logging.ts";
import { maskUrlPasswords } from "../../../shared/settings/settings.ts";
import { aborted } from "../../../shared/shutdown.ts";
import { QueueClosed } from "../queue.ts";

const RECONNECT_DELAY = { firstMs: 250, mostMs: 10_000 };
const REOPEN_DELAY = { firstMs: 50, mostMs: 5_000 };
const CONNECT_TIMEOUT_MS = 10_000;
const CLOSE_TIMEOUT_MS = 3_000;

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

export interface RabbitMqConnectionOptions {
  /** Tried in turn. */
  readonly urls: readonly string[];
  readonly heartbeatSeconds: number;
  readonly logger: Logger;
  /** Declares and opens whatever a session needs; the connection counts as ready when it has resolved. */
  readonly prepare: (session: Session) => Promise<void>;
  readonly onReady: () => void;
  /** The last thing on a connection that is being closed by us. */
  readonly beforeClose: () => Promise<void>;
}

export class RabbitMqConnection {
  readonly #closing = new AbortController();
  #session: Session | undefined;
  #running: Promise<void> | undefined;

  constructor(private readonly options: RabbitMqConnectionOptions) {}

  /** The prepared session, if there is one now. */
  get session(): Session | undefined {
    return this.#session;
  }

  /** Aborts with QueueClosed. */
  get closing(): AbortSignal {
    return this.#closing.signal;
  }

  start(): void {
    this.#running ??= this.#stayConnected();
  }

  async close(): Promise<void> {
    this.#closing.abort(new QueueClosed("the queue was closed"));
    await this.#running;
  }

  async #stayConnected(): Promise<void> {
    const delay = new GrowingDelay(RECONNECT_DELAY);
    for (let attempt = 0; !this.closing.aborted; attempt++) {
      const url = this.options.urls[attempt % this.options.urls.length] ?? "";
      const reason = await this.#holdSession(url, delay);
      if (this.closing.aborted) return;
      const delayMs = delay.nextMs();
      this.options.logger.warn(
        { retry_in_ms: delayMs },
        `RabbitMQ is not reachable at ${maskUrlPasswords(url)} (${describe(reason)}); trying again in ${seconds(delayMs)}`,
      );
      await sleep(delayMs, this.closing).catch(() => undefined);
    }
  }

  /** Resolves with the cause once the connection is gone or could not be made. */
  async #holdSession(url: string, delay: GrowingDelay): Promise<unknown> {
    const connecting = this.#connect(url);
    let model: ChannelModel;
    try {
      model = await orAbort(connecting, this.closing);
    } catch (error) {
      // A connection that nobody waits for any more may still come about, or fail; the latter is no news.
      if (this.closing.aborted) void connecting.then((unwanted) => unwanted.close()).catch(() => undefined);
      return error;
    }
    const lost = this.#watch(model, url);
    const session = { model, serverMajorVersion: majorVersion(model), lost };
    try {
      await orAbort(this.options.prepare(session), lost, this.closing);
      this.#session = session;
      delay.reset();
      this.#announceReady(model, url);
      await orAbort(aborted(lost), this.closing);
    } catch (error) {
      if (!lost.aborted && !this.closing.aborted) return error;
    } finally {
      this.#session = undefined;
      if (!lost.aborted) await this.#end(model);
    }
    return lost.reason;
  }

  async #connect(url: string): Promise<ChannelModel> {
    return await connect(withHeartbeat(url, this.options.heartbeatSeconds), {
      noDelay: true,
      keepAlive: true,
      timeout: CONNECT_TIMEOUT_MS,
      clientProperties: { connection_name: "blacktree-orchestrator" },
    });
  }

  #announceReady(model: ChannelModel, url: string): void {
    const { version } = model.connection.serverProperties;
    this.options.logger.info({ version }, `connected to RabbitMQ at ${maskUrlPasswords(url)}`);
    this.options.onReady();
  }

  /** A frozen broker answers nothing, so nothing here waits for ever. */
  async #end(model: ChannelModel): Promise<void> {
    const ended = this.options
      .beforeClose()
      .then(() => model.close())
      // It can only fail by being gone already.
      .catch(() => undefined);
    await Promise.race([ended, sleep(CLOSE_TIMEOUT_MS)]);
  }

  #watch(model: ChannelModel, url: string): AbortSignal {
    const lost = new AbortController();
    let cause: unknown;
    model.on("error", (error) => {
      cause = error;
    });
    model.on("close", (error) =>
      lost.abort(new ChannelLost("the connection to RabbitMQ was lost", { cause: cause ?? error })),
    );
    model.on("blocked", (reason) =>
      this.options.logger.warn(
        { reason },
        `RabbitMQ at ${maskUrlPasswords(url)} takes no messages for now; see its alarms`,
      ),
    );
    model.on("unblocked", () =>
      this.options.logger.info(`RabbitMQ at ${maskUrlPasswords(url)} takes messages again`),
    );
    model.on("handler-error", (error) =>
      this.options.logger.error({ err: error }, "a RabbitMQ listener failed"),
    );
    return lost.signal;
  }
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
    const delay = new GrowingDelay(REOPEN_DELAY);
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

/** amqplib takes the heartbeat from nowhere but the URL. One that the operator wrote there stays. */
function withHeartbeat(url: string, heartbeatSeconds: number): string {
  const parsed = new URL(url);
  if (!parsed.searchParams.has("heartbeat")) parsed.searchParams.set("heartbeat", String(heartbeatSeconds));
  return parsed.href;
}

function majorVersion(model: ChannelModel): number {
  return Number.parseInt(model.connection.serverProperties.version, 10) || 0;
}

function describe(reason: unknown): string {
  if (!(reason instanceof Error)) return String(reason);
  if (reason instanceof ChannelLost && reason.cause !== undefined) return describe(reason.cause);
  if ("code" in reason && typeof reason.code === "string") return reason.code;
  return reason.message;
}

function seconds(durationMs: number): string {
  return `${Math.max(0.1, Math.round(durationMs / 100) / 10)} s`;
}
