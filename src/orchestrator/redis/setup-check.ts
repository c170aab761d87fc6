/** Checks of a Redis that has been connected: what would make its commands fail, or lose its data, and the remedy. */
import { type RedisClient, RedisScript } from "./script.ts";
import checkLua from "./setup-check.lua" with { type: "text" };

export interface SetupReport {
  /** Why it cannot be used, and what to do; undefined when it can. */
  readonly problem?: string;
  /** It can be used, but not well. */
  readonly warning?: string;
}

export interface SetupToCheck {
  /** With a hash tag. */
  readonly keyPrefix: string;
  /** As one server; a Cluster's client knows the roles of its nodes. */
  readonly isSingle: boolean;
}

const script = new RedisScript(checkLua);
/** `SET … KEEPTTL`. */
const MIN_MAJOR_VERSION = 6;
const RIGHTS = "docs/many-machines.md lists the rights that it needs";
const NO_RIGHT = /^NOPERM|^(ERR )?(The user executing the script|ACL failure)/;

/** @throws Error when the connection fails meanwhile. */
export async function checkSetup(client: RedisClient, setup: SetupToCheck): Promise<SetupReport> {
  const info = await readInfo(client);
  const problem = (info && problemOfServer(info, setup)) ?? (await problemOfCommands(client, setup));
  if (problem !== undefined) return { problem };
  return {
    warning: info ? evictionWarning(info) : `its user may not run INFO, so it is not checked; ${RIGHTS}`,
  };
}

type Info = ReadonlyMap<string, string>;

/** Undefined when the user has no right to it. */
async function readInfo(client: RedisClient): Promise<Info | undefined> {
  try {
    const lines = (await client.info()).split("\r\n").filter((line) => line.includes(":"));
    return new Map(
      lines.map((line) => [line.slice(0, line.indexOf(":")), line.slice(line.indexOf(":") + 1)]),
    );
  } catch (error) {
    if (error instanceof Error && NO_RIGHT.test(error.message)) return undefined;
    throw error;
  }
}

function problemOfServer(info: Info, { isSingle }: SetupToCheck): string | undefined {
  const version = info.get("redis_version") ?? "";
  if (Number.parseInt(version, 10) < MIN_MAJOR_VERSION)
    return `it is version ${version}, which is too old: use Redis 7.0 or newer, or Valkey`;
  if (info.get("redis_mode") === "sentinel")
    return "it is a Sentinel: add ?sentinel=<master name> to REDIS_URL, such as redis://host:26379?sentinel=mymaster";
  if (isSingle && info.get("cluster_enabled") === "1")
    return "it is a node of a Cluster: add ?cluster to REDIS_URL, such as redis://host:6379?cluster, or list several nodes";
  if (isSingle && info.get("role") === "slave")
    return `it is a read-only replica of ${info.get("master_host")}:${info.get("master_port")}: name the primary in REDIS_URL, or Sentinels`;
  return undefined;
}

/** The script itself may be refused, too. */
async function problemOfCommands(
  client: RedisClient,
  { keyPrefix }: SetupToCheck,
): Promise<string | undefined> {
  let failures: readonly (readonly [command: string, error: string])[];
  try {
    const reply = (await script.run(client, keyPrefix, [])) as string[];
    failures = reply.flatMap((command, index) =>
      index % 2 === 0 ? [[command, reply[index + 1] ?? ""] as const] : [],
    );
  } catch (error) {
    if (!isReply(error)) throw error;
    failures = [["EVAL", error.message]];
  }
  const [first] = failures;
  if (!first) return undefined;
  const [, error] = first;
  if (!NO_RIGHT.test(error)) return `it refuses ${first[0]}: ${error}`;
  const commands = failures.map(([command]) => command).join(", ");
  return `its user has no right to ${commands} with keys and channels that begin with ${keyPrefix} (${error}); ${RIGHTS}`;
}

function isReply(error: unknown): error is Error {
  return error instanceof Error && error.name === "ReplyError";
}

function evictionWarning(info: Info): string | undefined {
  const policy = info.get("maxmemory_policy") ?? "noeviction";
  if (policy === "noeviction" || Number(info.get("maxmemory") ?? 0) === 0) return undefined;
  return `it removes keys when its memory is full (maxmemory-policy ${policy}), and leases and records with them: set maxmemory-policy noeviction`;
}
