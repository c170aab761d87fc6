/**
 * The messages of the original Blacktree (github.com/vky5/Blacktree, apps/api and apps/build-orchestrator): a build is
 * asked for with `deploymentId`, and answered with its image's URL. Names of fields count in any case, as they did for
 * its orchestrator, which was written in Go.
 */
import { createHash } from "node:crypto";
import { posix } from "node:path";
import type { JobResult } from "../../shared/job.ts";

/** Where the images go: the original had one registry, in its workers' environment. */
export interface OriginalTarget {
  readonly awsAccount: string;
  readonly ecrRepo: string;
}

export interface TranslatedRequest {
  /** Of a job message. A message that cannot be read stays as it is; the intake refuses it. */
  readonly body: Buffer;
  readonly messageId: string | undefined;
  readonly correlationId: string | undefined;
}

const MAX_CORRELATION_ID_BYTES = 255;

export function jobMessageOf(body: Buffer, target: OriginalTarget): TranslatedRequest {
  const given = parsedFields(body);
  if (!given) return { body, messageId: undefined, correlationId: undefined };

  const { deploymentid: id, token, repository, branch, createdat } = given;
  const paths = pathsOf(given.contextdir, given.dockerfilepath);
  const job = {
    repo_url: repository,
    branch,
    deployment_version: id,
    aws_account: target.awsAccount,
    ecr_repo: target.ecrRepo,
    ...paths,
  };
  // One version may be built again later, by a message with another time; a message that comes twice is one job.
  const hash = createHash("sha256").update(JSON.stringify({ job, createdat }));
  const messageId = typeof id === "string" ? `${id}.${hash.digest("hex").slice(0, 16)}` : undefined;
  const isShort = typeof id === "string" && Buffer.byteLength(id) <= MAX_CORRELATION_ID_BYTES;
  const withToken =
    token === undefined || token === "" || token === null ? job : { ...job, git_token: token };
  return {
    body: Buffer.from(JSON.stringify(withToken)),
    messageId,
    correlationId: isShort ? id : undefined,
  };
}

export interface OriginalAnswer {
  readonly deploymentId: string;
  /** Empty unless the build succeeded. */
  readonly imageUrl: string;
  readonly success: boolean;
  readonly logs: string;
  /** Empty if the build succeeded. */
  readonly error: string;
}

/**
 * @param result as it is published
 * @param correlationId of its message, which is that of the job's message
 * @returns undefined if it is not a result
 */
export function answerOf(result: Buffer, correlationId: string | undefined): OriginalAnswer | undefined {
  const { status, image_url, logs, error, deployment_version } = (parsedObject(result) ??
    {}) as Partial<JobResult>;
  if (status === undefined || !Array.isArray(logs)) return undefined;
  return {
    deploymentId: correlationId ?? deployment_version ?? "",
    imageUrl: image_url ?? "",
    success: status === "SUCCESS",
    logs: logs.join("\n"),
    error: error ? `${error.code}: ${error.message}` : "",
  };
}

function parsedObject(body: Buffer): Readonly<Record<string, unknown>> | undefined {
  let parsed: unknown;
  try {
    parsed = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(body));
  } catch {
    return undefined;
  }
  const isObject = typeof parsed === "object" && parsed !== null && !Array.isArray(parsed);
  return isObject ? (parsed as Record<string, unknown>) : undefined;
}

/** By names in lower case. */
function parsedFields(body: Buffer): Readonly<Record<string, unknown>> | undefined {
  const parsed = parsedObject(body);
  return (
    parsed && Object.fromEntries(Object.entries(parsed).map(([name, value]) => [name.toLowerCase(), value]))
  );
}

/** The original took the Dockerfile's path relative to the context, and `/` for the repository itself. */
function pathsOf(context: unknown, dockerfile: unknown): { context?: unknown; dockerfile?: unknown } {
  const folder = typeof context === "string" ? inRepository(context) : context;
  if (typeof dockerfile !== "string" || dockerfile === "") return { context: folder, dockerfile };
  const path = typeof folder === "string" ? posix.join(folder, dockerfile) : dockerfile;
  return { context: folder, dockerfile: inRepository(path) };
}

function inRepository(path: string): string {
  const relative = posix.normalize(path.replace(/^\/+/, "")).replace(/\/$/, "");
  return relative === "" ? "." : relative;
}
