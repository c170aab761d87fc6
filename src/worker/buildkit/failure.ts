/**
 * What the end of a build or push by docker means. Only docker's own last words are looked at: what a RUN step
 * prints is the repository's, and could say anything.
 */

import { diskFull, StepFailure, saysDiskFull } from "../job/failure.ts";
import { withoutNames } from "../registry/refusal.ts";

/** The words that buildx, and `docker build` of 20.10, put before every error of a build. */
const PREFIX =
  /^(ERROR: |error: )?(failed to solve( with frontend [\w.]+)?: |rpc error: code = \w+ desc = )*/;
/** Gone, or too busy to answer in its own time limits. */
const ENGINE_GONE =
  /^(Unavailable: |DeadlineExceeded: |context deadline exceeded$|Cannot connect to the Docker daemon|error during connect|failed to receive status|failed to dial|listing workers|no active session|closing transport|error reading from server|transport is closing|unexpected EOF|EOF$)|code = Unavailable/i;
/** `process "…" did not complete successfully: …` (BuildKit 0.10 and later), `executor failed running […]: …` before. */
const RUN_STEP = /^(process ".*" did not complete successfully|executor failed running \[.*\]): (.*)$/s;
/** Whether a base image can be had may depend on the hour. */
const BASE_IMAGE_UNREACHABLE =
  /failed to (resolve source metadata|load cache key|do request|copy).*(dial tcp|timeout|connection (refused|reset)|no such host|TLS handshake|unexpected status.*5\d\d|\b429\b|\bEOF$)/is;
/** BuildKit tells the registry's status only; where an upload cannot even begin, 404 speaks of the repository. */
const REPOSITORY_UNKNOWN =
  /name unknown|NAME_UNKNOWN|repository .*does not exist|POST request to \S+\/blobs\/uploads\/\S*: 404/i;
const SEPARATOR = /^-{6,}$/;

/** How the RUN step ended that a build failed with, as BuildKit says it; undefined when it was something else. */
export function endOfRunStep(error: string): string | undefined {
  return RUN_STEP.exec(error)?.[2];
}

/** Docker's final error, without what it repeats of the build's output. */
export function finalError(stderr: readonly string[]): string {
  const lines = stderr.filter((line) => line.trim() !== "");
  const marked = lines.findLastIndex((line) => line.startsWith("ERROR: "));
  if (marked >= 0) return lines[marked]?.replace(PREFIX, "") ?? "";
  // Docker 20.10 marks nothing; behind the last separator a message may have several lines.
  const separator = lines.findLastIndex((line) => SEPARATOR.test(line));
  const message = separator >= 0 ? lines.slice(separator + 1) : lines.slice(-1);
  return message.join("\n").replace(PREFIX, "");
}

export function buildFailure(stderr: readonly string[], exitCode: number): StepFailure {
  const error = finalError(stderr) || `docker ended with status ${exitCode} and said nothing`;
  if (error.startsWith("failed to push ")) return pushFailure(error);
  const stepEnd = endOfRunStep(error);
  const engineMessage = stepEnd ?? error;
  if (saysDiskFull(engineMessage)) return diskFull("build", `the build has no space left: ${error}`);
  if (ENGINE_GONE.test(engineMessage)) return engineGone("build", error);
  const retryable = stepEnd === undefined && BASE_IMAGE_UNREACHABLE.test(error);
  return new StepFailure({ code: "BUILD_FAILED", step: "build", message: error, retryable });
}

/**
 * Neither the job's fault nor the registry's, and the worker itself is well, so of the codes only INTERNAL is true;
 * on another worker, or after the engine's restart, the same job may succeed.
 */
function engineGone(step: "build" | "push", error: string): StepFailure {
  const message = `the docker engine, or BuildKit, broke off: ${error}`;
  return new StepFailure({ code: "INTERNAL", step, message, retryable: true });
}

/** For the last words of `docker push`, and of a build that pushes. */
export function pushFailure(error: string): StepFailure {
  const failure = (code: StepFailure["failure"]["code"], retryable = false) =>
    new StepFailure({ code, step: "push", message: `the image cannot be pushed: ${error}`, retryable });
  if (ENGINE_GONE.test(error)) return engineGone("push", error);
  if (saysDiskFull(error)) return diskFull("push", `the image cannot be pushed: ${error}`);
  if (REPOSITORY_UNKNOWN.test(error)) return failure("ECR_REPO_NOT_FOUND");
  const message = withoutNames(error);
  if (/tag invalid|immutable/i.test(message)) return failure("TAG_IMMUTABLE");
  if (/\b40[13]\b|unauthorized|no basic auth|authorization|authentication|denied|forbidden/i.test(message)) {
    return failure("ECR_AUTH");
  }
  return failure("PUSH_FAILED", true);
}
