/** One connection to RabbitMQ that comes back after every loss, and channels that do the same within it. */
import { type ChannelModel, connect } from "amqplib";
import { aborted, orAbort, sleep } from "../../../shared/abort.ts";
import { Backoff } from "../../../shared/backoff.ts";
import type { Logger } from "../../../shared/logging.ts";
import { maskUrlPasswords } from "../../../shared/settings/settings.ts";
import { QueueClosed } from "../queue.ts";
import { ChannelLost, type Session } from "./channel.ts";

const RECONNECT_DELAY = { initialMs: 250, maxMs: 10_000 };
const CONNECT_TIMEOUT_MS = 10_000;
const CLOSE_TIMEOUT_MS = 3_000;

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
    const delay = new Backoff(RECONNECT_DELAY);
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
  async #holdSession(url: string, delay: Backoff): Promise<unknown> {
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
