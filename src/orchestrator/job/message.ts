/** Parses a job message: returns a checked job, or all problems of the message. */
import type { Job } from "../../shared/job.ts";
import { canonicalPlatforms } from "../../shared/platforms.ts";
import { type GitSettings, InvalidRepositoryUrl, resolveRepositoryUrl } from "../../shared/repository-url.ts";
import type { MessageProperties } from "../queue/queue.ts";
import type { JobIdentity, PublicJob, RetryBasis } from "../records/job-records.ts";
import { decodedBody, UndecodableBody } from "./content-encoding.ts";
import {
  FIELD_DEFAULTS,
  JOB_FIELDS,
  JOB_ID_PATTERN,
  type JobFields,
  KNOWN_FIELDS,
  SECRET_FIELDS,
  tenantOf,
} from "./fields.ts";
import { identityOf } from "./identity.ts";
import type { Target } from "./result.ts";

/** Far more than a job needs, and well below the limit of the one gRPC message that carries it to the worker. */
const MAX_BODY_BYTES = 1024 * 1024;

export interface MessageRules {
  readonly git: GitSettings;
  /** AWS region of the registry for messages without `region`. */
  readonly defaultRegion: string;
  readonly secretLimit: number;
}

export type ReadMessage =
  | {
      readonly kind: "job";
      /** Decoded. */
      readonly body: Buffer;
      readonly job: Omit<Job, "jobId">;
      readonly explicitId: string | undefined;
      readonly publicJob: PublicJob;
      readonly retryBasis: RetryBasis;
      readonly identity: JobIdentity;
      readonly unknownFields: readonly string[];
    }
  | {
      readonly kind: "invalid";
      readonly problems: readonly string[];
      readonly explicitId: string | undefined;
      readonly given: Readonly<Record<string, unknown>>;
    };

export function readJobMessage(
  encodedBody: Buffer,
  properties: MessageProperties,
  rules: MessageRules,
): ReadMessage {
  const body = decoded(encodedBody, properties);
  const given = typeof body === "string" ? body : parseObject(body);
  if (typeof body === "string" || typeof given === "string")
    return {
      kind: "invalid",
      problems: [String(given)],
      explicitId: validId(properties.messageId),
      given: {},
    };

  // A message whose job_id is not valid is refused; its sender still gets the result by the id of the message.
  const explicitId = validId(given.job_id) ?? validId(properties.messageId);
  const repoProblem = repositoryProblem(given.repo_url, rules.git);
  const fields = JOB_FIELDS.safeParse(given);
  const fieldProblems = fields.success
    ? []
    : fields.error.issues.map((issue) => problemOf(issue.path, issue.message, given));
  const secretsProblem = fields.success ? tooManySecrets(fields.data, rules) : undefined;
  const textProblems = Object.keys(given)
    .filter((name) => KNOWN_FIELDS.has(name) && !isUnicode(given[name]))
    .map((name) => `${name}: has half of a surrogate pair; expected Unicode text`);
  const ruleProblems = [repoProblem, secretsProblem, ...textProblems].filter(
    (problem) => problem !== undefined,
  );
  const problems = [...ruleProblems, ...new Set(fieldProblems)];
  if (!fields.success || problems.length > 0) return { kind: "invalid", problems, explicitId, given };

  const job = jobOf(given.repo_url as string, fields.data, rules);
  const publicJob = { ...publicJobOf(given), tenant: job.tenant, region: job.region };
  return {
    kind: "job",
    body,
    job,
    explicitId,
    publicJob,
    retryBasis: retryBasisOf(job),
    identity: identityOf(job.repoUrl, fields.data),
    unknownFields: Object.keys(given).filter((name) => !KNOWN_FIELDS.has(name)),
  };
}

/** No field has more levels. */
const MAX_LEVELS = 3;

/** JSON can contain halves of surrogate pairs, which no later part would keep. */
function isUnicode(value: unknown, levels = MAX_LEVELS): boolean {
  if (typeof value === "string") return value.isWellFormed();
  if (typeof value !== "object" || value === null || levels === 0) return true;
  return Object.entries(value).every(([name, each]) => name.isWellFormed() && isUnicode(each, levels - 1));
}

/** The body, or the problem as a text. */
function decoded(body: Buffer, { contentEncoding }: MessageProperties): Buffer | string {
  try {
    return decodedBody(body, contentEncoding, MAX_BODY_BYTES);
  } catch (error) {
    if (error instanceof UndecodableBody) return error.message;
    throw error;
  }
}

/** The object, or the problem as a text. */
function parseObject(body: Buffer): Record<string, unknown> | string {
  if (body.length > MAX_BODY_BYTES)
    return `the message has ${body.length} bytes; expected at most ${MAX_BODY_BYTES}`;
  let parsed: unknown;
  try {
    parsed = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(body));
  } catch (error) {
    return error instanceof SyntaxError
      ? "not JSON; expected a JSON object"
      : "not UTF-8; expected a JSON object in UTF-8";
  }
  if (typeof parsed === "object" && parsed !== null && !Array.isArray(parsed))
    return parsed as Record<string, unknown>;
  return "not a JSON object; expected an object with repo_url, branch, deployment_version, aws_account and ecr_repo";
}

function repositoryProblem(repoUrl: unknown, git: GitSettings): string | undefined {
  if (repoUrl === undefined) return "repo_url: missing; expected 'owner/name' or an https:// URL";
  if (typeof repoUrl !== "string") return "repo_url: expected 'owner/name' or an https:// URL, as a string";
  try {
    resolveRepositoryUrl(repoUrl, git);
    return undefined;
  } catch (error) {
    if (error instanceof InvalidRepositoryUrl) return error.message.replace(/^repo_url /, "repo_url: ");
    throw error;
  }
}

function tooManySecrets({ secrets = {} }: JobFields, { secretLimit }: MessageRules): string | undefined {
  const count = Object.keys(secrets).length;
  if (count <= secretLimit) return undefined;
  return `secrets: ${count} entries; expected at most ${secretLimit} (BLACKTREE_SECRET_LIMIT)`;
}

function validId(value: unknown): string | undefined {
  return typeof value === "string" && JOB_ID_PATTERN.test(value) ? value : undefined;
}

/** Never repeats a value: it may be a secret in the wrong field. */
function problemOf(
  path: readonly PropertyKey[],
  message: string,
  given: Readonly<Record<string, unknown>>,
): string {
  const field = String(path[0] ?? "message");
  return given[field] === undefined ? `${field}: missing; ${message}` : `${field}: ${message}`;
}

function jobOf(repoUrl: string, fields: JobFields, rules: MessageRules): Omit<Job, "jobId"> {
  const region = fields.region ?? rules.defaultRegion;
  return {
    repoUrl,
    branch: fields.branch,
    commit: fields.commit,
    gitDepth: fields.git_depth ?? FIELD_DEFAULTS.git_depth,
    gitTags: fields.git_tags ?? FIELD_DEFAULTS.git_tags,
    deploymentVersion: fields.deployment_version,
    tenant: tenantOf(fields),
    awsAccount: fields.aws_account,
    ecrRepo: fields.ecr_repo,
    region,
    workerRegion: fields.worker_region ?? region,
    regionPolicy: fields.region_policy ?? FIELD_DEFAULTS.region_policy,
    dockerfile: fields.dockerfile,
    context: fields.context,
    target: fields.target,
    buildArgs: fields.build_args ?? FIELD_DEFAULTS.build_args,
    labels: fields.labels ?? FIELD_DEFAULTS.labels,
    gitToken: fields.git_token,
    priority: fields.priority ?? FIELD_DEFAULTS.priority,
    timeoutSeconds: fields.timeout_seconds,
    provenance: fields.provenance ?? FIELD_DEFAULTS.provenance,
    platforms: canonicalPlatforms(fields.platforms ?? FIELD_DEFAULTS.platforms),
    secrets: fields.secrets ?? FIELD_DEFAULTS.secrets,
    registryAuths: fields.registry_auths ?? FIELD_DEFAULTS.registry_auths,
    reuse: fields.reuse ?? FIELD_DEFAULTS.reuse,
    supersede: fields.supersede,
    retryOf: fields.retry_of,
  };
}

/** The valid target fields of a message; invalid values are left out, since they may be misplaced secrets. */
export function readableTarget(given: Readonly<Record<string, unknown>>): Target {
  const names = ["tenant", "deployment_version", "aws_account", "ecr_repo", "region"] as const;
  const valid: Target = Object.fromEntries(
    names
      .map((name) => [name, JOB_FIELDS.shape[name].safeParse(given[name])] as const)
      .flatMap(([name, field]) => (field.success && field.data ? [[name, field.data]] : [])),
  );
  // Only an absent tenant has a default: an invalid one is not known.
  return given.tenant == null ? { ...valid, tenant: valid.aws_account } : valid;
}

/** The known fields as submitted, without secrets and with masked build arguments. */
function publicJobOf(given: Readonly<Record<string, unknown>>): PublicJob {
  const shown = Object.entries(given).filter(([name]) => KNOWN_FIELDS.has(name) && !SECRET_FIELDS.has(name));
  return Object.fromEntries(
    shown.map(([name, value]) => [name, name === "build_args" ? maskValues(value) : value]),
  );
}

/** Masked as in logs: a shorter secret may be part of a value by chance. */
const MIN_SECRET_CHARS = 4;

function retryBasisOf({ buildArgs, gitToken, secrets, registryAuths }: Omit<Job, "jobId">): RetryBasis {
  const logins = Object.values(registryAuths).map((login) =>
    "password" in login ? login.password : login.identityToken,
  );
  const values = [gitToken ?? "", ...Object.values(secrets), ...logins].filter(
    ({ length }) => length >= MIN_SECRET_CHARS,
  );
  const hasSecret = ([, argument]: [string, string]) => values.some((value) => argument.includes(value));
  const given = Object.entries(buildArgs);
  return {
    buildArgs: Object.fromEntries(given.filter((entry) => !hasSecret(entry))),
    withheldBuildArgs: given.filter(hasSecret).map(([name]) => name),
    hadGitToken: gitToken !== undefined,
    secretNames: Object.keys(secrets),
    registryHosts: Object.keys(registryAuths),
  };
}

function maskValues(map: unknown): Record<string, string> {
  return Object.fromEntries(Object.keys(map ?? {}).map((name) => [name, "***"]));
}
