/** Connections to Redis (single server, Sentinel or Cluster) that reconnect by themselves and fail commands quickly. */
import { Cluster, type ClusterOptions, Redis, type RedisOptions } from "ioredis";
import { delayBeforeAttempt } from "../../shared/backoff.ts";
import type { Logger } from "../../shared/logging.ts";
import { maskUrlPasswords } from "../../shared/settings/settings.ts";
import type { RedisClient } from "./script.ts";
import { checkSetup } from "./setup-check.ts";

export type { RedisClient };

/** SELECT failed: the server has fewer databases. */
class DatabaseMissing extends Error {
  override readonly name = "DatabaseMissing";
}

/**
 * ioredis only emits an error when SELECT fails while it connects, and would continue in database 0. Here the
 * connection ends then, before any other command can be sent: until the client is ready, ioredis sends only its own.
 */
class RedisInDatabase extends Redis {
  constructor(options: RedisOptions) {
    // The default, which is part of the type of its replies.
    super({ ...options, replyMapping: "legacy" });
  }

  override async select(...args: Parameters<Redis["select"]>): Promise<"OK"> {
    const { stream } = this;
    try {
      return await super.select(...args);
    } catch (error) {
      // An answer that was lost with its connection fails later, maybe when the next connection is already in use.
      if (this.stream === stream) this.disconnect(true);
      const isMissing = error instanceof Error && error.message.includes("DB index");
      throw isMissing ? new DatabaseMissing(`database ${args[0]} does not exist`, { cause: error }) : error;
    }
  }
}

export interface RedisClientOptions {
  /**
   * `redis://` or `rediss://`. Comma separated: the nodes of a Cluster, or, with `?sentinel=<master name>` on the
   * first one, Sentinels whose master is used; login and database are then those of the first URL. A single URL with
   * `?cluster` is the address of a Cluster.
   */
  readonly url: string;
  readonly logger: Logger;
  /** With a hash tag. */
  readonly keyPrefix: string;
  /** Default `REDIS_TIMEOUTS`; other ones are for tests. */
  readonly timeouts?: RedisTimeouts;
}

export interface RedisTimeouts {
  readonly connectMs: number;
  readonly commandMs: number;
  /** A connection without an answer for this long is closed. */
  readonly answerMs: number;
}

/**
 * By default commands to a frozen server wait for ever. With these times every command fails within moments, and the
 * server may or may not have executed it.
 */
export const REDIS_TIMEOUTS: RedisTimeouts = { connectMs: 1_000, commandMs: 1_500, answerMs: 2_000 };

const DEFAULT_PORT = 6379;
const DEFAULT_SENTINEL_PORT = 26_379;
const RECONNECT_DELAY = { initialMs: 100, maxMs: 5_000 };
/** How often the loss is logged again while Redis stays unreachable. */
const REMINDER_INTERVAL_MS = 30_000;
/** A server that is connected but not usable is connected again and checked this often. */
const RECHECK_INTERVAL_MS = 5_000;

/** No command waits for another connection. */
function failingSoon({ connectMs, commandMs, answerMs }: RedisTimeouts): RedisOptions {
  return {
    connectTimeout: connectMs,
    commandTimeout: commandMs,
    socketTimeout: answerMs,
    maxRetriesPerRequest: 1,
    autoResendUnfulfilledCommands: false,
    // ioredis would not handle its failure. Subscribers subscribe again when their connection is ready.
    autoResubscribe: false,
    enableOfflineQueue: false,
    reconnectOnError: isFromUnusableServer,
  };
}

/**
 * A demoted master refuses writes with READONLY; the next connection looks up the master again. Others have no disk
 * space or no memory left, which the check of the next connection reports. Before Redis 7, the error of a script contains the
 * one of its command.
 */
export function isFromUnusableServer({ message }: Error): boolean {
  return /^(ERR Error running script .* -)?(READONLY|MISCONF|OOM) /.test(message);
}

/** Clients whose server has passed its check since the connection was made. */
const usable = new WeakSet<RedisClient>();

/**
 * Not connected yet: call `connectInBackground`. Emits "usable" when its server has been checked, after each connection;
 * the availability and faults of the server are logged.
 */
export function createRedisClient(options: RedisClientOptions): RedisClient {
  const client = makeClient(options);
  reportAvailability(client, options);
  return client;
}

/** For subscriptions only, or one of several to the same server: neither checks the server nor logs anything. */
export function createQuietRedisClient(options: Pick<RedisClientOptions, "url" | "timeouts">): RedisClient {
  const client = makeClient(options);
  client.on("error", () => undefined);
  client.on("ready", () => usable.add(client));
  return client;
}

/** Keeps trying until the client is disconnected. */
export function connectInBackground(client: RedisClient): void {
  // Only the first failure rejects; it is already logged, and the client retries by itself.
  client.connect().catch(() => undefined);
}

export function isReady(client: RedisClient): boolean {
  return client.status === "ready" && usable.has(client);
}

function makeClient({
  url: urlList,
  timeouts = REDIS_TIMEOUTS,
}: Pick<RedisClientOptions, "url" | "timeouts">): RedisClient {
  const limits = failingSoon(timeouts);
  const urls = urlList.split(",").map((each) => new URL(each.trim()));
  const [first] = urls;
  if (!first) throw new TypeError("no Redis URL");
  const sentinelMaster = first.searchParams.get("sentinel");
  if (sentinelMaster !== null)
    return new RedisInDatabase({ ...limits, ...sentinelOptions(urls, first, sentinelMaster) });
  if (urls.length > 1 || first.searchParams.has("cluster"))
    return new Cluster(urls.map(addressOf), clusterOptions(first, limits));
  return new RedisInDatabase({
    ...limits,
    ...loginOf(first),
    ...addressOf(first),
    db: databaseOf(first),
    lazyConnect: true,
    retryStrategy: reconnectDelayMs,
  });
}

function sentinelOptions(urls: readonly URL[], first: URL, name: string): RedisOptions {
  return {
    ...loginOf(first),
    sentinels: urls.map((url) => ({ ...addressOf(url), port: Number(url.port) || DEFAULT_SENTINEL_PORT })),
    name,
    db: databaseOf(first),
    enableTLSForSentinelMode: first.protocol === "rediss:",
    sentinelTLS: loginOf(first).tls,
    lazyConnect: true,
    retryStrategy: reconnectDelayMs,
    sentinelRetryStrategy: reconnectDelayMs,
  };
}

function clusterOptions(first: URL, limits: RedisOptions): ClusterOptions {
  const { enableOfflineQueue, ...redisOptions } = limits;
  return {
    enableOfflineQueue,
    redisOptions: { ...redisOptions, ...loginOf(first) },
    lazyConnect: true,
    clusterRetryStrategy: reconnectDelayMs,
    // Host names are not resolved here, since certificates are issued for names.
    dnsLookup: (host, callback) => callback(null, host),
    // A command during a failover fails soon, too.
    maxRedirections: 3,
  };
}

function addressOf(url: URL): { host: string; port: number } {
  return { host: url.hostname.replace(/^\[|\]$/g, ""), port: Number(url.port) || DEFAULT_PORT };
}

function loginOf(url: URL): Pick<RedisOptions, "username" | "password" | "tls"> {
  return {
    username: decodeURIComponent(url.username) || undefined,
    password: decodeURIComponent(url.password) || undefined,
    tls: url.protocol === "rediss:" ? {} : undefined,
  };
}

function databaseOf(url: URL): number {
  return Number(url.pathname.slice(1)) || 0;
}

function reconnectDelayMs(attempt: number): number {
  return delayBeforeAttempt(attempt, RECONNECT_DELAY);
}

function reportAvailability(client: RedisClient, options: RedisClientOptions): void {
  const { url, logger, keyPrefix } = options;
  const report = new AvailabilityReport(maskUrlPasswords(url), logger);
  let recheck: NodeJS.Timeout | undefined;
  const check = async () => {
    const { stream } = client as { stream?: unknown };
    const isSameConnection = () =>
      client.status === "ready" && (client as { stream?: unknown }).stream === stream;
    try {
      const { problem, warning } = await checkSetup(client, { keyPrefix, isSingle: client instanceof Redis });
      if (!isSameConnection()) return;
      if (problem === undefined) {
        usable.add(client);
        report.usable(warning);
        client.emit("usable");
        return;
      }
      report.unusable(problem);
    } catch (error) {
      if (!isSameConnection()) return;
      report.unusable(`its check failed: ${reasonOf(error as Error)}`);
    }
    // The address may name another server by then, and the user may have other rights.
    recheck = setTimeout(() => client.disconnect(true), RECHECK_INTERVAL_MS);
  };
  client.on("error", (error: Error) => report.failed(error));
  client.on("ready", () => void check());
  client.on("reconnecting", () => report.lost());
  client.on("close", () => {
    usable.delete(client);
    clearTimeout(recheck);
  });
}

/** Logs each change once, and reminds of a fault that lasts. */
class AvailabilityReport {
  /** Of the current attempt to connect: the errors that follow it are its consequences. */
  #firstError: Error | undefined;
  #reported: { readonly kind: string; readonly atMs: number } | undefined;
  #warning: string | undefined;

  constructor(
    private readonly address: string,
    private readonly logger: Logger,
  ) {}

  failed(error: Error): void {
    this.#firstError ??= error;
  }

  lost(): void {
    const error = this.#firstError;
    this.#firstError = undefined;
    // The connection was ended to check the server again.
    if (error === undefined && this.#reported?.kind.startsWith("unusable")) return;
    if (error instanceof DatabaseMissing) {
      this.unusable(
        `${error.message} on this server. Set REDIS_URL to an existing database, or raise "databases" in redis.conf`,
      );
      return;
    }
    this.#report("lost", `Redis is not reachable at ${this.address} (${reasonOf(error)}); trying again`);
  }

  unusable(problem: string): void {
    this.#report(`unusable: ${problem}`, `Redis at ${this.address} is not usable: ${problem}; trying again`);
  }

  usable(warning: string | undefined): void {
    this.logger.info(
      this.#reported === undefined
        ? `connected to Redis at ${this.address}`
        : `Redis is reachable again at ${this.address}`,
    );
    this.#reported = undefined;
    this.#firstError = undefined;
    if (warning !== undefined && warning !== this.#warning)
      this.logger.warn(`Redis at ${this.address}: ${warning}`);
    this.#warning = warning;
  }

  #report(kind: string, message: string): void {
    const before = this.#reported;
    if (before?.kind === kind && performance.now() - before.atMs < REMINDER_INTERVAL_MS) return;
    this.#reported = { kind, atMs: performance.now() };
    this.logger.warn(message);
  }
}

/** Remedies for faults of a connection, by the beginning of their code or message. */
const REMEDIES: readonly (readonly [pattern: RegExp, remedy: string])[] = [
  [/^NOAUTH/, "it requires a login: write REDIS_URL as redis://:password@host or redis://user:password@host"],
  [
    /^WRONGPASS|^ERR invalid password/,
    "it refuses the user or the password of REDIS_URL; special characters in them are written percent-encoded",
  ],
  [
    /^DENIED/,
    "it is in protected mode, which refuses other machines: set a password on the server, or protected-mode no",
  ],
  [
    /^ECONNRESET|^EPIPE/,
    // In protected mode Redis closes a connection at once, so its reason is mostly lost.
    "if the port expects TLS, use rediss://; if Redis is in protected mode, set a password on it; else another service may listen there",
  ],
  [/^ERR_SSL_(WRONG_VERSION|PACKET)/, "the port does not use TLS: use redis://"],
  [/^ETIMEDOUT/, "it does not answer; with rediss://, check that the port uses TLS"],
  [/^(Protocol error|Unknown RESP type)/, "another service than Redis answers there"],
  [/^ENOTFOUND|^EAI_AGAIN/, "the name of the host is not known"],
  [/^ERR_TLS_CERT_ALTNAME/, "its certificate is for another host name"],
  [/CERT/, "its certificate is not trusted: name the file of its CA in NODE_EXTRA_CA_CERTS"],
  [
    /^Failed to refresh slots cache|cluster support disabled/,
    "its nodes do not answer, or are not those of a Cluster: name a single server by one URL without ?cluster",
  ],
];

function reasonOf(error: (Error & { code?: unknown }) | undefined): string {
  if (!error) return "the connection was lost";
  const reason = typeof error.code === "string" ? error.code : error.message;
  const remedy = REMEDIES.find(([pattern]) => pattern.test(reason))?.[1];
  return remedy === undefined ? reason : `${shortened(reason)}: ${remedy}`;
}

/** The first word of an error of Redis names it. */
function shortened(reason: string): string {
  return /^[A-Z][A-Z_]+(?= )/.exec(reason)?.[0] ?? reason.replace(/\.$/, "");
}
