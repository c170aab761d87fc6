/**
 * Classifies the failures of docker's builds and pushes. Only docker's final error counts, without the words in it that
 * a job can choose: the output of a RUN step, commands, paths and names of images could say anything.
 */

import { constants } from "node:os";
import { diskFull, StepFailure } from "../job/failure.ts";
import { meaningOf, type Refusal, reportedRefusal, withoutNames } from "../registry/refusal.ts";
import { saysStoppedReading } from "./progress/missing-output.ts";
import { deniedSource, describeDenial } from "./source-policy.ts";

/** The prefixes that buildx, and `docker build` of 20.10, put before every error of a build. */
const PREFIX =
  /^(ERROR: |error: )?(failed to solve( with frontend [\w.]+)?: |failed to run Build function: |rpc error: code = \w+ desc = )*/;
/** The engine is gone, or too busy to answer within its own time limits. */
const ENGINE_GONE =
  /^(Unavailable: |DeadlineExceeded: |context deadline exceeded$|Cannot connect to the Docker daemon|error during connect|failed to receive status|failed to dial|listing workers|no active session|closing transport|error reading from server|transport is closing|unexpected EOF|EOF$)|rpc error: code = Unavailable\b/;
/** `process "…" did not complete successfully: …` (from BuildKit 0.10 on), or `executor failed running […]: …`. */
const RUN_STEP = /^(process ".*" did not complete successfully|executor failed running \[.*\]): (.*)$/s;
/** A base image could not be fetched for a reason that may pass. */
const BASE_IMAGE_UNREACHABLE =
  /failed to (resolve source metadata|load cache key|do request|copy).*(dial tcp|timeout|connection (refused|reset)|no such host|TLS handshake|\bEOF$)/s;
/** The message of the system ends the error; containerd adds `unknown`, its code for errors of the system. */
const DISK_FULL = /\b(no space left on device|disk quota exceeded)(: unknown)?$/;
const PARSE_ERROR = /^(failed to create LLB definition: )?dockerfile parse error (on )?line \d+: /;
const QUOTED = /"(?:[^"\\]|\\.)*"/gs;
const UNKNOWN_NAME = /name unknown|NAME_UNKNOWN|repository .*does not exist/i;
/** When docker or BuildKit reports neither a status nor a code of the registry. */
const LOGIN_REFUSED = /\b40[13]\b|no basic auth|authorization|authentication|unauthorized|denied|forbidden/i;
/** BuildKit reports only the registry's status; 404 at the start of an upload means that the repository is missing. */
const REFUSED_UPLOAD = /POST request to \S+\/blobs\/uploads\/\S*: 404/;
/** A layer that a cache's manifest names is missing in the registry. */
const BROKEN_CACHE = /\bcould not fetch content descriptor sha256:/;
/** A shell exits with the sum of this and the number of the signal that ended its command, and so does BuildKit. */
const FIRST_SIGNAL_STATUS = 128;
const SEPARATOR = /^-{6,}$/;

/** BuildKit's message about the RUN step that failed the build; undefined when the build failed for another reason. */
export function endOfRunStep(error: string): string | undefined {
  return RUN_STEP.exec(error)?.[2];
}

/** Names the signal that BuildKit's message about a RUN step stands for; undefined when it is about something else. */
export function endBySignal(stepEnd: string): string | undefined {
  const number = Number(/^exit code: (\d+)$/.exec(stepEnd)?.[1]) - FIRST_SIGNAL_STATUS;
  const name = Object.entries(constants.signals).find(([, value]) => value === number)?.[0];
  if (name === undefined) return undefined;
  const reason = name === "SIGKILL" ? ", often because memory was short" : "";
  return `${FIRST_SIGNAL_STATUS} + ${number}: ${name} ended a process of the step${reason}`;
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

export interface FailedBuild {
  readonly stderr: readonly string[];
  readonly exitCode: number;
  /** BuildKit failed to export the image, so every step had succeeded. */
  readonly isExportFailed: boolean;
}

export function buildFailure({ stderr, exitCode, isExportFailed }: FailedBuild): StepFailure {
  const error = finalError(stderr) || `docker exited with status ${exitCode} and printed no error`;
  if (isExportFailed && error.startsWith("failed to push ")) return pushFailure(error);
  const denied = deniedSource(error);
  if (denied !== undefined) {
    return new StepFailure({ code: "UNSUPPORTED", step: "build", message: describeDenial(denied) });
  }
  const stepEnd = endOfRunStep(error);
  const engineMessage = withoutWordsOfJob(stepEnd ?? error);
  if (DISK_FULL.test(engineMessage)) return diskFull("build", `the build ran out of disk space: ${error}`);
  if (saysStoppedReading(error)) return stoppedReading(error);
  if (ENGINE_GONE.test(engineMessage)) return new BuilderLost("build", error);
  const failure = { code: "BUILD_FAILED", step: "build", message: error } as const;
  if (stepEnd !== undefined) return new StepFailure(failure);
  if (BASE_IMAGE_UNREACHABLE.test(engineMessage)) return new StepFailure({ ...failure, retryable: true });
  const refusal = reportedRefusal(engineMessage);
  if (!isReported(refusal)) return new StepFailure(failure);
  const { retryable, isThrottled } = meaningOf(refusal);
  return new StepFailure({ ...failure, retryable, throttled: isThrottled ? {} : undefined });
}

/** BuildKit trusts a cache's manifest: it notices a layer missing from the registry only when it needs that layer. */
export function isBrokenCache(error: unknown): error is StepFailure {
  if (!(error instanceof StepFailure) || endOfRunStep(error.message) !== undefined) return false;
  return BROKEN_CACHE.test(withoutWordsOfJob(error.message));
}

/** BuildKit quotes paths and commands. Names of images are not quoted, and precede or follow their error. */
function withoutWordsOfJob(error: string): string {
  if (PARSE_ERROR.test(error)) return "";
  const unquoted = error.replace(QUOTED, '""');
  const image = /\bfailed to resolve source metadata for (\S+): /.exec(unquoted)?.[1];
  const given = image && /^(\S+): failed to resolve source metadata for /.exec(unquoted)?.[1];
  return [image, given].reduce<string>((text, name) => (name ? text.replaceAll(name, "…") : text), unquoted);
}

/**
 * Neither the job nor the registry is at fault, and the worker itself works, so of the codes only INTERNAL is true.
 * On another worker, or after the engine's restart, the same job may succeed.
 */
export class BuilderLost extends StepFailure {
  constructor(step: "build" | "push", error: string) {
    const message = `lost the connection to Docker or BuildKit: ${error}`;
    super({ code: "INTERNAL", step, message, retryable: true });
  }
}

/** The build itself may have succeeded; the next one takes its steps from the cache. */
function stoppedReading(error: string): StepFailure {
  const message = `the build printed faster than its output could be read: ${error}`;
  return new StepFailure({ code: "INTERNAL", step: "build", message, retryable: true });
}

/** For the final error of `docker push`, and of a build that pushes. */
export function pushFailure(error: string): StepFailure {
  const message = `the image cannot be pushed: ${error}`;
  const failure = (code: StepFailure["failure"]["code"], retryable = false, isThrottled = false) =>
    new StepFailure({ code, step: "push", message, retryable, throttled: isThrottled ? {} : undefined });
  if (ENGINE_GONE.test(error)) return new BuilderLost("push", error);
  if (DISK_FULL.test(error)) return diskFull("push", message);
  if (UNKNOWN_NAME.test(withoutNames(error)) || REFUSED_UPLOAD.test(error))
    return failure("ECR_REPO_NOT_FOUND");
  const refusal = reportedRefusal(error);
  if (!isReported(refusal) && LOGIN_REFUSED.test(refusal.details)) return failure("ECR_AUTH");
  const { code, retryable, isThrottled } = meaningOf(refusal);
  return failure(code, retryable, isThrottled);
}

function isReported({ status, codes }: Refusal): boolean {
  return status !== undefined || codes.length > 0;
}
