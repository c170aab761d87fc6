/** Connections to Redis (single server, Sentinel or Cluster) that reconnect by themselves and fail commands quickly. */
import { Cluster, type ClusterOptions, Redis, type RedisOptions } from "ioredis";
import { delayBeforeAttempt } from "../../shared/backoff.ts";
import type { Logger } from "../../shared/logging.ts";
import { maskUrlPasswords } from "../../shared/settings/settings.ts";

export type RedisClient = Redis | Cluster;

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
   * first one, Sentinels whose master is used; login and database are then those of the first URL.
   */
  readonly url: string;
  readonly logger: Logger;
}

const DEFAULT_PORT = 6379;
const DEFAULT_SENTINEL_PORT = 26_379;
const RECONNECT_DELAY = { initialMs: 100, maxMs: 5_000 };
/** How often the loss is logged again while Redis stays unreachable. */
const REMINDER_INTERVAL_MS = 30_000;

/**
 * By default commands to a frozen server wait for ever. With these options every command fails within moments, and the
 * server may or may not have executed it.
 */
const TIMEOUTS: RedisOptions = {
  connectTimeout: 1_000,
  commandTimeout: 1_500,
  socketTimeout: 2_000,
  maxRetriesPerRequest: 1,
  autoResendUnfulfilledCommands: false,
  enableOfflineQueue: false,
  reconnectOnError: isFromDemotedMaster,
};

/**
 * A demoted master refuses writes with READONLY; the next connection looks up the master again. Before Redis 7, the
 * error of a script contains the one of its command.
 */
export function isFromDemotedMaster({ message }: Error): boolean {
  return /^(ERR Error running script .* -)?READONLY /.test(message);
}

/** Not connected yet: call `connectInBackground`. */
export function createRedisClient(options: RedisClientOptions): RedisClient {
  const client = makeClient(options.url);
  reportAvailability(client, options);
  return client;
}

/** Keeps trying until the client is disconnected. */
export function connectInBackground(client: RedisClient): void {
  // Only the first failure rejects; it is already logged, and the client retries by itself.
  client.connect().catch(() => undefined);
}

export function isReady(client: RedisClient): boolean {
  return client.status === "ready";
}

function makeClient(urlList: string): RedisClient {
  const urls = urlList.split(",").map((each) => new URL(each.trim()));
  const [first] = urls;
  if (!first) throw new TypeError("no Redis URL");
  const sentinelMaster = first.searchParams.get("sentinel");
  if (sentinelMaster !== null) return new RedisInDatabase(sentinelOptions(urls, first, sentinelMaster));
  if (urls.length > 1) return new Cluster(urls.map(addressOf), clusterOptions(first));
  return new RedisInDatabase({
    ...TIMEOUTS,
    ...loginOf(first),
    ...addressOf(first),
    db: databaseOf(first),
    lazyConnect: true,
    retryStrategy: reconnectDelayMs,
  });
}

function sentinelOptions(urls: readonly URL[], first: URL, name: string): RedisOptions {
  return {
    ...TIMEOUTS,
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

function clusterOptions(first: URL): ClusterOptions {
  const { enableOfflineQueue, ...redisOptions } = TIMEOUTS;
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

function reportAvailability(client: RedisClient, { url, logger }: RedisClientOptions): void {
  const address = maskUrlPasswords(url);
  let reported: { readonly atMs: number; readonly isMissing: boolean } | undefined;
  /** Of the current attempt to connect: the errors that follow it are its consequences. */
  let firstError: Error | undefined;
  const reportLoss = () => {
    const error = firstError;
    firstError = undefined;
    const isMissing = error instanceof DatabaseMissing;
    if (reported?.isMissing === isMissing && performance.now() - reported.atMs < REMINDER_INTERVAL_MS) return;
    reported = { atMs: performance.now(), isMissing };
    logger.warn(
      isMissing
        ? `Redis at ${address} is not usable: ${error.message} on this server. Set REDIS_URL to an existing database, or raise "databases" in redis.conf; trying again`
        : `Redis is not reachable at ${address} (${reasonOf(error)}); trying again`,
    );
  };
  client.on("error", (error: Error) => {
    firstError ??= error;
  });
  client.on("reconnecting", reportLoss);
  client.on("ready", () => {
    logger.info(
      reported === undefined ? `connected to Redis at ${address}` : `Redis is reachable again at ${address}`,
    );
    reported = undefined;
    firstError = undefined;
  });
}

function reasonOf(error: (Error & { code?: unknown }) | undefined): string {
  if (!error) return "the connection was lost";
  return typeof error.code === "string" ? error.code : error.message;
}
