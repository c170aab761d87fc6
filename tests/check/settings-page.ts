/**
 * Writes the tables of docs/settings.md from the settings in the code; the text around the tables is edited in the page.
 *
 *   bun run settings-page
 */
import { join } from "node:path";
import { UP_SETTINGS } from "../../src/cli/up.ts";
import { API_SETTINGS } from "../../src/cli/usage.ts";
import { ORCHESTRATOR_SETTINGS } from "../../src/orchestrator/config.ts";
import {
  BadValue,
  flagOf,
  hasFlag,
  type Parser,
  type Setting,
  type SettingTable,
} from "../../src/shared/settings/settings.ts";
import { WORKER_SETTINGS } from "../../src/worker/settings/config.ts";

export const PAGE = join(import.meta.dir, "../../docs/settings.md");

/** Appended to a setting's description: limits, relations to other settings, and links. By name. */
type Remarks = Readonly<Record<string, string>>;

const ORCHESTRATOR_REMARKS: Remarks = {
  RABBITMQ_URL: "tried in turn",
  RABBITMQ_MANAGEMENT_URL:
    "such as `http://user:password@host:15672`; without it, policies are not checked; see [policies](many-machines.md#policies-and-other-queues)",
  REDIS_URL: "see [below](#redis_url)",
  BLACKTREE_KEY_PREFIX:
    "the same for all orchestrators of an installation, and different for each installation that uses the same Redis; 1 to 64 of letters, digits, `.`, `_`, `-`",
  BLACKTREE_JOB_QUEUE: "invalid messages go to the queue of this name with `.dead` appended",
  BLACKTREE_REPLY_TO:
    "names, comma separated, in which `*` stands for any characters, such as `replies.*`; see [results](messages.md#results-queue-jobsresults)",
  BLACKTREE_ADMIN_LISTEN: "see [admin API](admin-api.md)",
  BLACKTREE_ADMIN_HOSTS: "comma separated, without ports; for a proxy in front of the API",
  BLACKTREE_ADMIN_TOKEN:
    "at least 8 printable characters without spaces; without it and `BLACKTREE_ADMIN_TOKEN_FILE`, the orchestrator does not start, unless the API is off",
  BLACKTREE_ADMIN_TOKEN_FILE:
    "not with `BLACKTREE_ADMIN_TOKEN`; no other user may read it, and its group may at most read it; `install.sh` makes `/etc/blacktree/admin-token`",
  BLACKTREE_REGION_FALLBACK: "comma separated; jobs of a region come before those that fall back to it",
  BLACKTREE_REGIONS: "comma separated; the same on all orchestrators",
  BLACKTREE_UNKNOWN_REGION: "see [unknown worker regions](messages.md#unknown-worker-regions)",
  BLACKTREE_LEASE_TTL: "at least twice `BLACKTREE_PING_INTERVAL`",
  BLACKTREE_MAX_ATTEMPTS: "see [retries](messages.md#retries)",
  BLACKTREE_MAX_WORKERS_LOST: "see [retries](messages.md#retries)",
  BLACKTREE_JOB_TIMEOUT: "a job's `timeout_seconds` can only be shorter",
  BLACKTREE_JOB_MEMORY: "its id, result and events",
  BLACKTREE_UNSUPPORTED_AFTER:
    "then it fails with `UNSUPPORTED`, or is built without running them; see [what a worker can build](messages.md#what-a-worker-can-build)",
  BLACKTREE_LOG_DIR: "an absolute path; see [logs](logs.md#settings)",
  BLACKTREE_LOG_SIZE: "at least `1MB`; the oldest logs are removed",
  BLACKTREE_ORCHESTRATOR_ADVERTISE: "see [where logs are](logs.md#where-logs-are)",
  BLACKTREE_LOG_STORE: "the same on all orchestrators; see [logs in S3](logs-s3.md)",
  BLACKTREE_GIT_BASE_URL: "its host is always allowed",
  BLACKTREE_GIT_ALLOWED_HOSTS:
    "each with or without a port; submodules, Git LFS and redirects may use these hosts too",
  BLACKTREE_RESULT_LOG_LINES: "a result never has more than 256 KiB of log",
};

const WORKER_REMARKS: Remarks = {
  BLACKTREE_WORKER_ID:
    "two live workers must not have the same id; a worker that is [paused or drained](operating.md#take-a-worker-or-a-region-out-of-service) stays so after a restart only if it is set. `install.sh` sets it",
  BLACKTREE_WORKER_LABELS:
    "at most 20; a key has 1 to 63 of letters, digits, `.`, `_`, `/` and `-`, a value at most 100 visible characters",
  BLACKTREE_WORK_DIR: "an absolute path; each worker on a machine needs a dedicated folder",
  BLACKTREE_BUILDER: "see [below](#blacktree_builder)",
  BLACKTREE_BUILDER_OPTIONS: "not with `engine`",
  BLACKTREE_DISK_RESERVE: "`0` for none; see [below](#disk-space)",
  BLACKTREE_INODE_RESERVE: "on the same disks as `BLACKTREE_DISK_RESERVE`; `0` for none",
  BLACKTREE_MIRROR_SIZE:
    "a checkout serves the next job of its tenant and repository; the least recently used ones are removed first",
  BLACKTREE_REPOSITORY_LIMIT: "includes the objects that git fetches",
  BLACKTREE_GIT_SILENCE_TIMEOUT:
    "progress and keep-alive packets count as data; see [Faults](building.md#git-hosts-and-private-repositories)",
  BLACKTREE_GIT_USER:
    "such as `gitlab.example=deploy-user`; see [the token](building.md#git-hosts-and-private-repositories)",
  BLACKTREE_GIT_TOKEN_SCOPE:
    "never for another host, port or scheme; see [submodules](building.md#git-hosts-and-private-repositories)",
  BLACKTREE_BUILD_NETWORK: "base images are pulled even with `none`; see [below](#builds-without-a-network)",
  BLACKTREE_BUILD_CGROUP:
    "on this host, such as `/blacktreebuilds.slice`; no limits if unset; see [below](#limits-of-builds)",
  BLACKTREE_CACHE_REPO:
    "the cache is in the account of each job, per tenant, repository and branch: a worker that has never built a repository starts with its cache, and a new branch with the cache of the git server's default branch; requires an engine with the containerd image store; no registry cache if unset",
  BLACKTREE_CACHE_SHARING:
    "jobs with `secrets` and `RUN --mount=type=cache` folders are kept separate in any case",
  BLACKTREE_REUSE_KEY:
    "such as the output of `openssl rand -hex 32`; comma separated to change it: the first one signs, all verify; without it only the orchestrators' records prove that an existing image was built by Blacktree ([The same version again](messages.md#the-same-version-again))",
  BLACKTREE_ECR_ROLE_ARN:
    "such as `arn:aws:iam::{account}:role/blacktree-push`; also `arn:aws-cn:…`, `arn:aws-us-gov:…`, or `arn:{partition}:…` for the partition of the job's region; without it the worker's own credentials are used",
  BLACKTREE_ECR_EXTERNAL_ID: "only with `BLACKTREE_ECR_ROLE_ARN`",
  BLACKTREE_ECR_BASE_REPOS:
    "at most 5, such as `base/*,{tenant}/*`; with a role, a job can pull from no other repository of ECR than these and its own; `<account>.dkr.ecr.<region>.amazonaws.com/base/*` is in the registry of another account ([private base images](building.md#private-base-images))",
  BLACKTREE_ECR_CREATE_REPOSITORY:
    "the next five settings apply to such repositories, and are refused without it",
  BLACKTREE_ECR_TAG_EXCLUSIONS: "at most five, with up to two `*` each, such as `latest,dev-*`",
  BLACKTREE_ECR_LIFECYCLE_POLICY_FILE:
    "read at start; a policy that ECR refuses is a warning in the job's log",
  BLACKTREE_REGISTRY_AUTH:
    "reread for each job; no other user should be able to read it; see [private base images](building.md#private-base-images)",
  BLACKTREE_REGISTRY: "see [below](#a-registry-other-than-ecr)",
  BLACKTREE_REGISTRY_PASSWORD: "with `BLACKTREE_REGISTRY`, user name and password are set together",
  BLACKTREE_GIT_BASE_URL: "must be the orchestrator's value, since both check a job's `repo_url`",
  BLACKTREE_GIT_ALLOWED_HOSTS: "must be the orchestrator's value",
  BLACKTREE_RESULT_LOG_LINES: "the worker keeps this many lines of the end of a run's log",
  BLACKTREE_LOG_LIMIT: "see [the log](messages.md#the-log)",
};

const UP_REMARKS: Remarks = {
  BLACKTREE_ADMIN_TOKEN_FILE: "see [the token](admin-api.md#the-token)",
  BLACKTREE_REGION: "also the region of the one worker",
  BLACKTREE_REGION_FALLBACK:
    "has no effect here: the one worker builds all jobs except those that require another region",
  BLACKTREE_UNSUPPORTED_AFTER: "then it fails with `UNSUPPORTED`, or is built without running them",
  BLACKTREE_WORK_DIR:
    "and for the queue (`blacktree.db`), the API's token and the sockets of both sides; at most 86 bytes",
  BLACKTREE_REUSE_KEY: "by default one is made at the first start, in `reuse-key` of the work folder",
  BLACKTREE_DISK_RESERVE: "`0` for none",
  BLACKTREE_INODE_RESERVE: "`0` for none",
  BLACKTREE_BUILD_CGROUP: "no limits if unset",
  BLACKTREE_CACHE_REPO: "no registry cache if unset",
};

type Described = Pick<
  Setting<unknown>,
  "name" | "description" | "fallback" | "computedDefault" | "optional"
> & {
  readonly flag?: string;
  /** As the parser describes the values that it accepts. */
  readonly expected?: string;
};

function ofTable(table: SettingTable): Described[] {
  return Object.values(table).map((setting) => ({
    ...setting,
    flag: hasFlag(setting) ? flagOf(setting.name) : undefined,
    expected: expectedBy(setting.parse),
  }));
}

/** Parsers describe the accepted values when they refuse one; only parsers of free text accept this one. */
function expectedBy(parse: Parser<unknown>): string {
  try {
    parse("\0");
    return "";
  } catch (error) {
    if (error instanceof BadValue) return error.expected;
    throw error;
  }
}

const RANGE = /^a (?:whole number|duration) from (\S+ to \w+)/;
const LIST_OF_WORDS = /^\w+(?:, \w+)+$/;

/** Shown as code: setting names, URL schemes, addresses, placeholders. */
const CODE =
  /\b[A-Z]+(?:_[A-Z]+)+\b|\b[a-z]+:\/\/|\d+(?:\.\d+){3}:\d+|\{\w+\}|\b(?:name|key)=value\b|\bowner\/name\b|\bhost:port\b|\bRUN\b|\bgit_token\b|\*/;

function withCode(text: string, words: readonly string[] = []): string {
  const code = new RegExp([CODE.source, ...words.map((word) => `\\b${word}\\b`)].join("|"), "g");
  return text.replaceAll("|", "\\|").replaceAll(code, "`$&`");
}

function defaultOf({ fallback, computedDefault, optional, expected = "" }: Described): string {
  const range = RANGE.exec(expected)?.[1];
  if (fallback) return range === undefined ? `\`${fallback}\`` : `\`${fallback}\` (${range})`;
  if (computedDefault) return withCode(computedDefault);
  return fallback === undefined && !optional ? "required" : "none";
}

function meaningOf({ description, expected = "" }: Described, remark: string | undefined): string {
  const words = LIST_OF_WORDS.test(expected) ? expected.split(", ") : [];
  const meaning = withCode(description.replace(" (docs/settings.md)", ""), words);
  return remark === undefined ? meaning : `${meaning}; ${remark}`;
}

function tableOf(settings: readonly Described[], remarks: Remarks): string {
  const names = new Set(settings.map(({ name }) => name));
  const unknown = Object.keys(remarks).find((name) => !names.has(name));
  if (unknown !== undefined)
    throw new Error(`there is no setting ${unknown}, so its remark is in the wrong table`);
  const rows = settings.map((setting) => {
    const { name, flag } = setting;
    const flagCell = flag === undefined ? "" : `\`${flag}\``;
    return `| ${flagCell} | \`${name}\` | ${defaultOf(setting)} | ${meaningOf(setting, remarks[name])} |`;
  });
  return ["| flag | environment | default (range) | meaning |", "| --- | --- | --- | --- |", ...rows].join(
    "\n",
  );
}

function secretSettings(): string {
  const settings = Object.values<Setting<unknown>>({ ...ORCHESTRATOR_SETTINGS, ...WORKER_SETTINGS });
  const secrets = settings.filter(({ secrecy }) => secrecy !== "public");
  return secrets.map(({ name }) => `\`${name}\``).join(", ");
}

const apiSettings = Object.values(API_SETTINGS).map((setting) => ({ optional: true, ...setting }));

const SECTIONS: Readonly<Record<string, string>> = {
  secrets: secretSettings(),
  orchestrator: tableOf(ofTable(ORCHESTRATOR_SETTINGS), ORCHESTRATOR_REMARKS),
  worker: tableOf(ofTable(WORKER_SETTINGS), WORKER_REMARKS),
  up: tableOf(ofTable(UP_SETTINGS), UP_REMARKS),
  commands: tableOf(apiSettings, {}),
};

/** The page with its generated sections replaced; the text around them stays. */
export function settingsPage(current: string): string {
  return Object.entries(SECTIONS).reduce((page, [name, content]) => {
    const begin = `<!-- begin ${name}: written by "bun run settings-page" -->\n`;
    const end = `\n<!-- end ${name} -->`;
    const [before, after] = [page.indexOf(begin), page.indexOf(end)];
    if (before === -1 || after < before)
      throw new Error(`docs/settings.md has no section from ${begin.trim()} to ${end.trim()}`);
    return `${page.slice(0, before)}${begin}\n${content}\n${page.slice(after)}`;
  }, current);
}

if (import.meta.main) await Bun.write(PAGE, settingsPage(await Bun.file(PAGE).text()));
