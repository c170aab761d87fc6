/** One connection to RabbitMQ that is reopened after every loss. */
import { type ChannelModel, connect } from "amqplib";
import { aborted, orAbort, sleep } from "../../../shared/abort.ts";
import { Backoff, delayBeforeAttempt } from "../../../shared/backoff.ts";
import type { Logger } from "../../../shared/logging.ts";
import { maskUrlPasswords } from "../../../shared/settings/settings.ts";
import { QueueClosed } from "../queue.ts";
import { ChannelLost, type Session } from "./channel.ts";
import { ExclusiveQueueLock } from "./declaration-lock.ts";
import { setupProblem, vhostOf } from "./setup-problem.ts";

const RECONNECT_DELAY = { initialMs: 250, maxMs: 10_000 };
const CONNECT_TIMEOUT_MS = 10_000;
const CLOSE_TIMEOUT_MS = 3_000;
const PREPARE_TIMEOUT_MS = 30_000;

export interface RabbitMqConnectionOptions {
  /** Tried in turn. */
  readonly urls: readonly string[];
  readonly heartbeatSeconds: number;
  /** Name of the queue that serves as the lock for declarations. */
  readonly lockQueue: string;
  /** A session that is not prepared in this time is given up. Default: 30 s. */
  readonly prepareTimeoutMs?: number;
  readonly logger: Logger;
  /** Declares and opens everything that a session needs; the connection is ready once this has resolved. */
  readonly prepare: (session: Session) => Promise<void>;
  readonly onReady: () => void;
  /** Runs before this process closes a connection. */
  readonly beforeClose: () => Promise<void>;
}

export class RabbitMqConnection {
  readonly #closing = new AbortController();
  #session: Session | undefined;
  #running: Promise<void> | undefined;

  constructor(private readonly options: RabbitMqConnectionOptions) {}

  /** The current prepared session, if any. */
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
      const delayMs = this.#isRoundOver(attempt) ? delay.nextMs() : delayBeforeAttempt(1, RECONNECT_DELAY);
      this.options.logger.warn(
        { retry_in_ms: delayMs },
        `${describeLoss(reason, url)}; trying again in ${seconds(delayMs)}`,
      );
      await sleep(delayMs, this.closing).catch(() => undefined);
    }
  }

  /** All nodes are tried in quick succession: only one of them may be left. The delay grows from round to round. */
  #isRoundOver(attempt: number): boolean {
    return (attempt + 1) % this.options.urls.length === 0;
  }

  /** Resolves with the cause once the connection is lost or could not be opened. */
  async #holdSession(url: string, delay: Backoff): Promise<unknown> {
    const connecting = this.#connect(url);
    let model: ChannelModel;
    try {
      model = await orAbort(connecting, this.closing);
    } catch (error) {
      // The abandoned attempt may still succeed, and the connection is closed then; a failure needs no report.
      if (this.closing.aborted) void connecting.then((unwanted) => unwanted.close()).catch(() => undefined);
      return error;
    }
    const disconnected = this.#watch(model, url);
    const over = new AbortController();
    const session: Session = {
      model,
      lost: over.signal,
      ...negotiated(model),
      declarations: new ExclusiveQueueLock(this.options.lockQueue),
      unanswered: new Set(),
    };
    const onDisconnected = () =>
      over.abort(this.#session === session ? disconnected.reason : interrupted(session, disconnected.reason));
    disconnected.addEventListener("abort", onDisconnected, { once: true });
    try {
      await this.#prepare(session, over);
      this.#session = session;
      delay.reset();
      this.#announceReady(model, url);
      await orAbort(aborted(session.lost), this.closing);
    } catch (error) {
      if (!session.lost.aborted && !this.closing.aborted) return error;
    } finally {
      this.#session = undefined;
      if (!disconnected.aborted) await this.#end(model);
    }
    return session.lost.reason;
  }

  /** `over` ends the session when the time is up, so that none of its work continues beside the next session. */
  async #prepare(session: Session, over: AbortController): Promise<void> {
    const { prepare, prepareTimeoutMs = PREPARE_TIMEOUT_MS } = this.options;
    const timer = setTimeout(() => {
      const error = `not prepared within ${seconds(prepareTimeoutMs)}, still waiting for ${unansweredIn(session)}`;
      over.abort(new Error(error));
    }, prepareTimeoutMs);
    await orAbort(prepare(session), session.lost, this.closing).finally(() => clearTimeout(timer));
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

  /** A frozen broker never answers, so this waits for a limited time only. */
  async #end(model: ChannelModel): Promise<void> {
    const ended = this.options
      .beforeClose()
      .then(() => model.close())
      // This fails only when the connection is already closed.
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
      lost.abort(new ChannelLost("connection to RabbitMQ lost", { cause: cause ?? error })),
    );
    model.on("blocked", (reason) =>
      this.options.logger.warn(
        { reason },
        `RabbitMQ at ${maskUrlPasswords(url)} is blocking publishers; check its memory and disk alarms`,
      ),
    );
    model.on("unblocked", () =>
      this.options.logger.info(`RabbitMQ at ${maskUrlPasswords(url)} accepts messages again`),
    );
    model.on("handler-error", (error) =>
      this.options.logger.error({ err: error }, "RabbitMQ event handler failed"),
    );
    return lost.signal;
  }
}

/** amqplib reads the heartbeat only from the URL. A heartbeat that the operator set there stays. */
function withHeartbeat(url: string, heartbeatSeconds: number): string {
  const parsed = new URL(url);
  if (!parsed.searchParams.has("heartbeat")) parsed.searchParams.set("heartbeat", String(heartbeatSeconds));
  return parsed.href;
}

/** What client and broker have agreed on; the types of amqplib do not have it. */
interface Negotiated {
  readonly heartbeat: number;
  readonly frameMax: number;
  readonly channelMax: number;
}

function negotiated(model: ChannelModel): Pick<Session, "heartbeatMs" | "frameMaxBytes" | "channelMax"> {
  const { heartbeat, frameMax, channelMax } = model.connection as unknown as Negotiated;
  // Without heartbeats the broker waits longer.
  const heartbeatMs = heartbeat === 0 ? Number.POSITIVE_INFINITY : heartbeat * 1000;
  return { heartbeatMs, frameMaxBytes: frameMax, channelMax };
}

/** A node without a majority of the cluster accepts a connection, and closes it when a queue does not answer. */
function interrupted(session: Session, reason: unknown): ChannelLost {
  return new ChannelLost(`${describe(reason)}, while waiting for ${unansweredIn(session)}`);
}

function unansweredIn({ unanswered }: Session): string {
  return [...new Set([...unanswered].map(({ what }) => what))].join(", ");
}

function describeLoss(reason: unknown, url: string): string {
  const problem = setupProblem(causeOf(reason), vhostOf(url));
  return problem === undefined
    ? `RabbitMQ is not reachable at ${maskUrlPasswords(url)} (${describe(reason)})`
    : `RabbitMQ at ${maskUrlPasswords(url)} is not usable: ${problem}`;
}

function causeOf(reason: unknown): Error {
  if (reason instanceof ChannelLost && reason.cause instanceof Error) return causeOf(reason.cause);
  return reason instanceof Error ? reason : new Error(String(reason));
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
