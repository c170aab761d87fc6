/**
 * Classifies the failures of docker's builds and pushes. Only docker's final error counts: the output of a RUN step
 * belongs to the repository, and could say anything.
 */

import { diskFull, StepFailure, saysDiskFull } from "../job/failure.ts";
import { meaningOf, type Refusal, reportedRefusal } from "../registry/refusal.ts";
import { deniedSource, describeDenial } from "./source-policy.ts";

/** The prefixes that buildx, and `docker build` of 20.10, put before every error of a build. */
const PREFIX =
  /^(ERROR: |error: )?(failed to solve( with frontend [\w.]+)?: |rpc error: code = \w+ desc = )*/;
/** The engine is gone, or too busy to answer within its own time limits. */
const ENGINE_GONE =
  /^(Unavailable: |DeadlineExceeded: |context deadline exceeded$|Cannot connect to the Docker daemon|error during connect|failed to receive status|failed to dial|listing workers|no active session|closing transport|error reading from server|transport is closing|unexpected EOF|EOF$)|code = Unavailable/i;
/** `process "…" did not complete successfully: …` (from BuildKit 0.10 on), or `executor failed running […]: …`. */
const RUN_STEP = /^(process ".*" did not complete successfully|executor failed running \[.*\]): (.*)$/s;
/** A base image could not be fetched for a reason that may pass. */
const BASE_IMAGE_UNREACHABLE =
  /failed to (resolve source metadata|load cache key|do request|copy).*(dial tcp|timeout|connection (refused|reset)|no such host|TLS handshake|\bEOF$)/is;
/** BuildKit reports only the registry's status; 404 at the start of an upload means that the repository is missing. */
const REPOSITORY_UNKNOWN =
  /name unknown|NAME_UNKNOWN|repository .*does not exist|POST request to \S+\/blobs\/uploads\/\S*: 404/i;
/** When docker or BuildKit reports neither a status nor a code of the registry. */
const LOGIN_REFUSED = /\b40[13]\b|no basic auth|authorization|authentication|unauthorized|denied|forbidden/i;
const SEPARATOR = /^-{6,}$/;

/** BuildKit's message about the RUN step that failed the build; undefined when the build failed for another reason. */
export function endOfRunStep(error: string): string | undefined {
  return RUN_STEP.exec(error)?.[2];
}

/** Docker's final error, without the build output that docker repeats in it. */
export function finalError(stderr: readonly string[]): string {
  const lines = stderr.filter((line) => line.trim() !== "");
  const marked = lines.findLastIndex((line) => line.startsWith("ERROR: "));
  if (marked >= 0) return lines[marked]?.replace(PREFIX, "") ?? "";
  // Docker 20.10 has no such prefix; its message follows the last separator and may have several lines.
  const separator = lines.findLastIndex((line) => SEPARATOR.test(line));
  const message = separator >= 0 ? lines.slice(separator + 1) : lines.slice(-1);
  return message.join("\n").replace(PREFIX, "");
}

export function buildFailure(stderr: readonly string[], exitCode: number): StepFailure {
  const error = finalError(stderr) || `docker exited with status ${exitCode} and printed no error`;
  if (error.startsWith("failed to push ")) return pushFailure(error);
  const denied = deniedSource(error);
  if (denied !== undefined) {
    return new StepFailure({ code: "UNSUPPORTED", step: "build", message: describeDenial(denied) });
  }
  const stepEnd = endOfRunStep(error);
  const engineMessage = stepEnd ?? error;
  if (saysDiskFull(engineMessage)) return diskFull("build", `the build ran out of disk space: ${error}`);
  if (ENGINE_GONE.test(engineMessage)) return engineGone("build", error);
  const failure = { code: "BUILD_FAILED", step: "build", message: error } as const;
  if (stepEnd !== undefined) return new StepFailure(failure);
  if (BASE_IMAGE_UNREACHABLE.test(error)) return new StepFailure({ ...failure, retryable: true });
  const refusal = reportedRefusal(error);
  if (!isReported(refusal)) return new StepFailure(failure);
  const { retryable, isThrottled } = meaningOf(refusal);
  return new StepFailure({ ...failure, retryable, throttled: isThrottled ? {} : undefined });
}

/**
 * Neither the job nor the registry is at fault, and the worker itself works, so of the codes only INTERNAL is true.
 * On another worker, or after the engine's restart, the same job may succeed.
 */
function engineGone(step: "build" | "push", error: string): StepFailure {
  const message = `lost the connection to Docker or BuildKit: ${error}`;
  return new StepFailure({ code: "INTERNAL", step, message, retryable: true });
}

/** For the final error of `docker push`, and of a build that pushes. */
export function pushFailure(error: string): StepFailure {
  const message = `the image cannot be pushed: ${error}`;
  const failure = (code: StepFailure["failure"]["code"], retryable = false, isThrottled = false) =>
    new StepFailure({ code, step: "push", message, retryable, throttled: isThrottled ? {} : undefined });
  if (ENGINE_GONE.test(error)) return engineGone("push", error);
  if (saysDiskFull(error)) return diskFull("push", message);
  if (REPOSITORY_UNKNOWN.test(error)) return failure("ECR_REPO_NOT_FOUND");
  const refusal = reportedRefusal(error);
  if (!isReported(refusal) && LOGIN_REFUSED.test(refusal.details)) return failure("ECR_AUTH");
  const { code, retryable, isThrottled } = meaningOf(refusal);
  return failure(code, retryable, isThrottled);
}

function isReported({ status, codes }: Refusal): boolean {
  return status !== undefined || codes.length > 0;
}
