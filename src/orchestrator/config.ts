/** The orchestrator's settings. Only this file reads its environment. */

import { checkTransport, tlsFilesOf } from "../shared/rpc/tls.ts";
import { ADMIN_TOKEN, ADMIN_TOKEN_FILE, adminToken, adminTokenFile } from "../shared/settings/admin-token.ts";
import {
  gitSettings,
  loggingSettings,
  resultLogSettings,
  transportSettings,
} from "../shared/settings/common.ts";
import * as parse from "../shared/settings/parsers.ts";
import {
  BadValue,
  isGiven,
  type LoadedSettings,
  loadSettings,
  optional,
  type Parser,
  required,
  type SettingProblem,
  type SettingSources,
  type SettingTable,
  type SettingValues,
  withDefault,
} from "../shared/settings/settings.ts";
import { JOB_FIELDS } from "./job/fields.ts";
import { s3Location } from "./logs/s3-location.ts";

const DAY_MS = 86_400_000;
const MIN_LOG_SIZE = "1MB";

const hostNameText = parse.matching(
  /^([A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*|\[[0-9A-Fa-f:.]+\])$/,
  "host names without a port, such as builds.example.com",
);

const hostName: Parser<string> = (raw) => hostNameText(raw).toLowerCase();

/** Settings of every orchestrator, whichever queue and leases it uses. */
export const SCHEDULING_SETTINGS = {
  adminListen: withDefault(
    {
      name: "BLACKTREE_ADMIN_LISTEN",
      description: "address that the admin API listens on, or off",
    },
    parse.orOff(parse.hostPort),
    "127.0.0.1:8080",
  ),
  adminToken: optional(
    { name: ADMIN_TOKEN, description: "bearer token that the admin API requires", secrecy: "secret" },
    adminToken,
  ),
  fileAdminToken: optional(
    { name: ADMIN_TOKEN_FILE, description: "file that contains this token instead, of mode 0600" },
    adminTokenFile,
  ),
  adminHosts: withDefault(
    {
      name: "BLACKTREE_ADMIN_HOSTS",
      description: "host names that requests to the admin API may name besides those of this machine",
    },
    parse.commaSeparated(hostName),
    "",
  ),
  region: withDefault(
    { name: "BLACKTREE_REGION", description: "AWS region of the registry for jobs without a region" },
    parse.region,
    "us-east-1",
  ),
  regionFallback: withDefault(
    {
      name: "BLACKTREE_REGION_FALLBACK",
      description: "worker regions to try, in this order, when a job's worker region has no free worker",
    },
    parse.commaSeparated(parse.region),
    "",
  ),
  regions: withDefault(
    {
      name: "BLACKTREE_REGIONS",
      description:
        "worker regions in which jobs may wait although no worker has registered there; those of workers, BLACKTREE_REGION and BLACKTREE_REGION_FALLBACK need not be listed",
    },
    parse.commaSeparated(parse.region),
    "",
  ),
  unknownRegion: withDefault(
    {
      name: "BLACKTREE_UNKNOWN_REGION",
      description:
        "what happens to a job for any other worker region: wait until the region is known, or refuse the job",
    },
    parse.oneOf("wait", "refuse"),
    "wait",
  ),
  pingIntervalMs: withDefault(
    { name: "BLACKTREE_PING_INTERVAL", description: "time between two pings of a worker" },
    parse.duration(100, 60_000),
    "2s",
  ),
  leaseTtlMs: withDefault(
    { name: "BLACKTREE_LEASE_TTL", description: "how long a worker counts as alive after an answered ping" },
    parse.duration(500, 600_000),
    "10s",
  ),
  maxAttempts: withDefault(
    {
      name: "BLACKTREE_MAX_ATTEMPTS",
      description: "upper bound of attempts when a job fails with retryable errors",
    },
    parse.integer(1, 100),
    "3",
  ),
  maxWorkersLost: withDefault(
    {
      name: "BLACKTREE_MAX_WORKERS_LOST",
      description: "a job whose attempts have lost so many workers, by crash or freeze, fails",
    },
    parse.integer(1, 100),
    "2",
  ),
  jobTimeoutMs: withDefault(
    { name: "BLACKTREE_JOB_TIMEOUT", description: "upper bound of one attempt" },
    parse.duration(1000, 7 * DAY_MS),
    "30m",
  ),
  jobMemoryMs: withDefault(
    { name: "BLACKTREE_JOB_MEMORY", description: "how long the record of a finished job is kept" },
    parse.duration(1000, 90 * DAY_MS),
    "24h",
  ),
  logDir: withDefault(
    {
      name: "BLACKTREE_LOG_DIR",
      description: "folder for the logs of ended jobs, of this orchestrator alone",
    },
    parse.writableFolder,
    "/var/lib/blacktree/logs",
  ),
  logSizeBytes: withDefault(
    { name: "BLACKTREE_LOG_SIZE", description: "upper bound of all logs in BLACKTREE_LOG_DIR" },
    parse.sizeFrom(MIN_LOG_SIZE),
    "2GB",
  ),
  logAgeMs: withDefault(
    { name: "BLACKTREE_LOG_AGE", description: "how long a log is kept in BLACKTREE_LOG_DIR" },
    parse.duration(60_000, 3650 * DAY_MS),
    "7d",
  ),
  unsupportedAfterMs: withDefault(
    {
      name: "BLACKTREE_UNSUPPORTED_AFTER",
      description:
        "how long a job waits for a capable worker while its regions have only workers that cannot build it, or cannot run programs of its platforms",
    },
    parse.duration(1000, 7 * DAY_MS),
    "30s",
  ),
  secretLimit: withDefault(
    { name: "BLACKTREE_SECRET_LIMIT", description: "upper bound of the secrets of one job" },
    parse.integer(0, 10_000),
    "100",
  ),
  deadLetterSecrets: withDefault(
    {
      name: "BLACKTREE_DEAD_LETTER_SECRETS",
      description: "secrets in dead letters: cut them out, or keep the messages byte for byte",
    },
    parse.oneOf("cut", "keep"),
    "cut",
  ),
  logStore: optional(
    {
      name: "BLACKTREE_LOG_STORE",
      description:
        "bucket of S3, or of a server with its protocol, that also gets the logs of all orchestrators: s3://bucket or s3://bucket/prefix (docs/logs-s3.md)",
    },
    s3Location,
  ),
  ...gitSettings,
  ...resultLogSettings,
  ...loggingSettings,
};

export type SchedulingSettings = SettingValues<typeof SCHEDULING_SETTINGS>;

/** An AMQP short string has at most 255 bytes. */
const MAX_PATTERN_CHARS = 255;

const replyPattern: Parser<string> = (raw) => {
  if (/^[\x21-\x7e]+$/.test(raw) && raw.length <= MAX_PATTERN_CHARS) return raw;
  throw new BadValue(
    "is not a pattern of queue names",
    "names in which * stands for any characters, such as replies.*",
  );
};

const redisUrlList = parse.commaSeparated(parse.url("redis", "rediss"));

/** One server, the nodes of a Cluster, or Sentinels. redis/client.ts reads the text. */
const redisUrls: Parser<string> = (raw) => {
  const texts = redisUrlList(raw);
  const urls = texts.map((text) => new URL(text));
  const [first, ...others] = urls;
  if (!first) throw new BadValue("has no URL", "a URL that starts with redis:// or rediss://");
  for (const url of urls) checkRedisParameters(url, url === first);
  checkRedisDatabases(first, others);
  return texts.join(",");
};

function checkRedisDatabases(first: URL, others: readonly URL[]): void {
  const paths = [first, ...others].map(({ pathname }) => pathname);
  if (!paths.every((path) => /^(\/|\/\d{1,9})?$/.test(path)))
    throw new BadValue(
      "has a path that is not the number of a database",
      "no path, or a number, such as redis://host:6379/1",
    );
  const [database = 0, ...otherDatabases] = paths.map((path) => Number(path.slice(1)));
  const isNamedCluster = first.searchParams.has("cluster");
  if (isNamedCluster && first.searchParams.has("sentinel"))
    throw new BadValue("names both a Cluster and Sentinels", "?cluster or ?sentinel=<master name>");
  const isCluster = isNamedCluster || (others.length > 0 && !first.searchParams.has("sentinel"));
  if (isCluster && (database !== 0 || otherDatabases.some((other) => other !== 0)))
    throw new BadValue("names a database, but a Cluster has only database 0", "URLs of nodes without a path");
  if (otherDatabases.some((other) => other !== 0 && other !== database))
    throw new BadValue("names different databases", "the database on the first URL only");
}

const REDIS_PARAMETERS: readonly string[] = ["sentinel", "cluster"];

function checkRedisParameters({ searchParams }: URL, isFirst: boolean): void {
  const unknown = [...searchParams.keys()].find((name) => !REDIS_PARAMETERS.includes(name) || !isFirst);
  if (unknown === undefined && searchParams.get("sentinel") !== "") return;
  throw new BadValue(
    unknown === undefined
      ? "has no name after sentinel="
      : `has the parameter ${unknown}, which has no effect`,
    "at most ?sentinel=<master name> or ?cluster, on the first URL; a database is given as path, such as redis://host:6379/1",
  );
}

const httpUrl = parse.url("http", "https");

const managementUrl: Parser<string> = (raw) => {
  const { username, search, hash } = new URL(httpUrl(raw));
  const expected = "a URL such as http://user:password@host:15672";
  if (username === "") throw new BadValue("has no user", expected);
  if (search !== "" || hash !== "") throw new BadValue("has a query or fragment", expected);
  return raw;
};

const QUEUE_NAME = parse.matching(/^[A-Za-z0-9._:-]{1,200}$/, "1 to 200 of letters, digits, . _ : and -");

const keyPrefixName = parse.matching(/^[A-Za-z0-9._-]{1,64}$/, "1 to 64 of letters, digits, . _ -");

/** The braces are a hash tag: it keeps all keys on one node of a Cluster, which scripts require. */
const keyPrefix: Parser<string> = (raw) => `{${keyPrefixName(raw)}}:`;

/** A value that the messages of all jobs of the original API get. */
function jobField(name: "aws_account" | "ecr_repo"): Parser<string> {
  return (raw) => {
    const { error } = JOB_FIELDS.shape[name].safeParse(raw);
    if (error) throw new BadValue("is not valid", `${error.issues[0]?.message}`.replace(/^expected /, ""));
    return raw;
  };
}

export const ORCHESTRATOR_SETTINGS = {
  rabbitmqUrls: required(
    {
      name: "RABBITMQ_URL",
      description: "amqp:// or amqps:// URLs of the RabbitMQ nodes, comma separated",
      secrecy: "urls",
    },
    parse.commaSeparated(parse.url("amqp", "amqps")),
  ),
  rabbitmqManagementUrl: optional(
    {
      name: "RABBITMQ_MANAGEMENT_URL",
      description:
        "http:// or https:// URL of RabbitMQ's management API, with a user, to check the policies of the queues",
      secrecy: "urls",
    },
    managementUrl,
  ),
  redisUrl: required(
    {
      name: "REDIS_URL",
      description:
        "redis:// or rediss:// URL, or a comma separated list of Cluster nodes or Sentinels (docs/settings.md)",
      secrecy: "urls",
    },
    redisUrls,
  ),
  keyPrefix: withDefault(
    { name: "BLACKTREE_KEY_PREFIX", description: "begins all keys and channels in Redis" },
    keyPrefix,
    "blacktree",
  ),
  jobQueue: withDefault(
    { name: "BLACKTREE_JOB_QUEUE", description: "queue to consume jobs from" },
    QUEUE_NAME,
    "jobs.build",
  ),
  resultQueue: withDefault(
    { name: "BLACKTREE_RESULT_QUEUE", description: "queue to publish results to" },
    QUEUE_NAME,
    "jobs.results",
  ),
  hasOriginalApi: withDefault(
    {
      name: "BLACKTREE_ORIGINAL_API",
      description:
        "also take the messages of the original Blacktree's API, from execute.queue, and answer them (docs/original-api.md)",
    },
    parse.flag,
    "false",
  ),
  originalApiAccount: optional(
    {
      name: "BLACKTREE_ORIGINAL_API_ACCOUNT",
      description: "AWS account of the images that the original API asks for",
    },
    jobField("aws_account"),
  ),
  originalApiEcrRepo: withDefault(
    {
      name: "BLACKTREE_ORIGINAL_API_ECR_REPO",
      description: "ECR repository of the images that the original API asks for",
    },
    jobField("ecr_repo"),
    "blacktree",
  ),
  replyPatterns: withDefault(
    {
      name: "BLACKTREE_REPLY_TO",
      description: "queues besides Blacktree's own that reply_to of a job's message may name, or off",
    },
    parse.orOff(parse.commaSeparated(replyPattern)),
    "*",
  ),
  grpcListen: optional(
    {
      name: "BLACKTREE_GRPC_LISTEN",
      description: "gRPC address that workers register at",
      computedDefault: "0.0.0.0:5051 with TLS, 127.0.0.1:5051 without",
    },
    parse.hostPort,
  ),
  grpcAdvertise: optional(
    {
      name: "BLACKTREE_ORCHESTRATOR_ADVERTISE",
      description: "address at which other orchestrators reach this one's gRPC, to read logs",
      computedDefault: "the first address that the gRPC listener is reachable at",
    },
    parse.hostPort,
  ),
  ...SCHEDULING_SETTINGS,
  ...transportSettings,
};

export type OrchestratorSettings = SettingValues<typeof ORCHESTRATOR_SETTINGS>;

export function loadOrchestratorSettings(
  sources: SettingSources,
): LoadedSettings<typeof ORCHESTRATOR_SETTINGS> {
  return loadSettings(ORCHESTRATOR_SETTINGS, sources, (values) => [
    ...checkScheduling(values),
    ...checkOneAdminToken(sources),
    ...checkAdminTokenGiven(sources, values),
    ...checkQueueNames(values),
    ...checkOriginalApi(values),
    ...checkTransport(
      (key) => isGiven(sources, ORCHESTRATOR_SETTINGS[key].name),
      { name: "BLACKTREE_GRPC_LISTEN", host: values.grpcListen?.host },
      values.isInsecure ?? false,
    ),
  ]);
}

/** As in systemd/blacktree-orchestrator@.service. */
export function unitEnvironment(instance: string): Record<string, string> {
  return {
    BLACKTREE_REGION: instance,
    BLACKTREE_LOG_DIR: `/var/lib/blacktree/orchestrator-${instance}/logs`,
  };
}

export function grpcListenAddress(settings: OrchestratorSettings): parse.HostPort {
  return settings.grpcListen ?? { host: tlsFilesOf(settings) ? "0.0.0.0" : "127.0.0.1", port: 5051 };
}

export function checkScheduling(values: Partial<SchedulingSettings>): SettingProblem[] {
  const { pingIntervalMs = 0, leaseTtlMs = Number.POSITIVE_INFINITY } = values;
  const problems: SettingProblem[] = [];
  if (leaseTtlMs < 2 * pingIntervalMs) {
    problems.push({
      name: "BLACKTREE_LEASE_TTL",
      value: `${leaseTtlMs}ms`,
      wrong: "is too short: one missed ping would end a lease",
      expected: `at least twice BLACKTREE_PING_INTERVAL, ${2 * pingIntervalMs}ms`,
    });
  }
  return problems;
}

export function checkOneAdminToken(sources: SettingSources): SettingProblem[] {
  if (![ADMIN_TOKEN, ADMIN_TOKEN_FILE].every((name) => isGiven(sources, name))) return [];
  const wrong = `is set, and ${ADMIN_TOKEN_FILE} too`;
  return [{ name: ADMIN_TOKEN, value: "***", wrong, expected: "only one of them" }];
}

/** Loopback does not protect the API: other users of this machine reach it, and so do builds. */
function checkAdminTokenGiven(
  sources: SettingSources,
  { adminListen }: Partial<SchedulingSettings>,
): SettingProblem[] {
  if (adminListen === "off" || [ADMIN_TOKEN, ADMIN_TOKEN_FILE].some((name) => isGiven(sources, name)))
    return [];
  const how = "(umask 077; head -c 32 /dev/urandom | base64 >FILE)";
  return [
    {
      name: ADMIN_TOKEN,
      value: undefined,
      wrong: `is not set, nor is ${ADMIN_TOKEN_FILE}: the admin API needs a token`,
      expected: `${ADMIN_TOKEN_FILE}=FILE after ${how}, or BLACKTREE_ADMIN_LISTEN=off`,
    },
  ];
}

/** Where the admin API listens, and for whom. */
export interface AdminAccess {
  readonly listen: parse.HostPort;
  readonly token: string;
  /** Names that `Host` may have besides those of this machine. */
  readonly hosts: readonly string[];
}

/** Undefined when the admin API is off. `makeToken` is called when the settings have no token. */
export function adminAccess(
  settings: Pick<SchedulingSettings, "adminListen" | "adminToken" | "fileAdminToken" | "adminHosts">,
  makeToken: () => string = tokenMissing,
): AdminAccess | undefined {
  const { adminListen: listen, adminToken, fileAdminToken, adminHosts: hosts } = settings;
  if (listen === "off") return undefined;
  return { listen, hosts, token: adminToken ?? fileAdminToken ?? makeToken() };
}

/** The check of the settings has refused that. */
function tokenMissing(): never {
  throw new Error(`neither ${ADMIN_TOKEN} nor ${ADMIN_TOKEN_FILE} is set`);
}

function checkQueueNames(values: Partial<SettingValues<SettingTable>>): SettingProblem[] {
  const { jobQueue, resultQueue } = values as { jobQueue?: string; resultQueue?: string };
  const queues = [
    { name: "BLACKTREE_JOB_QUEUE", value: jobQueue, otherNames: [resultQueue] },
    { name: "BLACKTREE_RESULT_QUEUE", value: resultQueue, otherNames: [`${jobQueue}.dead`] },
  ];
  return queues
    .filter(
      ({ value, otherNames }) =>
        value !== undefined && (otherNames.includes(value) || value.startsWith("jobs.ready.")),
    )
    .map(({ name, value }) => ({
      name,
      value,
      wrong: "is the name of another Blacktree queue",
      expected: "a name that no other queue has",
    }));
}

function checkOriginalApi(values: Partial<SettingValues<SettingTable>>): SettingProblem[] {
  if (!values.hasOriginalApi || values.originalApiAccount !== undefined) return [];
  return [
    {
      name: "BLACKTREE_ORIGINAL_API_ACCOUNT",
      value: undefined,
      wrong: "is not set: the messages of the original API name no AWS account",
      expected: "the account's number, or BLACKTREE_ORIGINAL_API=false",
    },
  ];
}
