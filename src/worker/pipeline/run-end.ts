import type { ErrorCode, JobFailure, Outcome, OutcomeStatus, Step } from "../../shared/job.ts";
import { BuilderLost } from "../buildkit/failure.ts";
import { LeaseLost, RunAborted, RunCancelled, RunDrained, RunTimeout } from "../job/cancellation.ts";
import { StepFailure, saysDiskFull } from "../job/failure.ts";

/** How a run ended: the outcome without its log and build steps, which the caller of the pipeline keeps. */
export type RunEnd = Omit<Outcome, "logs" | "log" | "steps">;

export interface Unsuccessful {
  readonly status: Exclude<OutcomeStatus, "SUCCESS">;
  readonly failure: JobFailure;
  /** Docker, BuildKit or git went away. */
  readonly hasLostBuilder?: boolean;
}

/**
 * Docker reports only the exit status of a step that ran out of disk space, and git does not say why it could not
 * write a file. So these failures are attributed to a disk that was full during the run.
 */
const CAUSED_BY_HOST: ReadonlySet<ErrorCode> = new Set([
  "CLONE_FAILED",
  "BUILD_FAILED",
  "PUSH_FAILED",
  "INTERNAL",
]);

/** `fullDisk` describes the disk that was full during the run. */
export function blamingDisk(end: Unsuccessful, fullDisk: string | undefined): Unsuccessful {
  const { failure } = end;
  if (fullDisk === undefined || !CAUSED_BY_HOST.has(failure.code)) return end;
  const message = `${failure.message} (${fullDisk})`;
  return { ...end, failure: { ...failure, code: "DISK_FULL", message, retryable: true } };
}

/** Whether a builder that is not usable now may have caused the failure: programs do not always say so. */
export function mayHaveLostBuilder({ status, failure }: Unsuccessful): boolean {
  return status === "FAILED" && CAUSED_BY_HOST.has(failure.code);
}

/** `problem` says why nothing can be built on the worker now. */
export function blamingBuilder(end: Unsuccessful, problem: string | undefined): Unsuccessful {
  if (problem === undefined) return end;
  const { failure } = end;
  const message = `${failure.message} (the worker has ${problem})`;
  return {
    ...end,
    failure: { ...failure, code: "INTERNAL", message, retryable: true },
    hasLostBuilder: true,
  };
}

/** `step` is the step that the run had reached; it is used for errors that do not name their step. */
export function unsuccessful(error: unknown, signal: AbortSignal, step: Step): Unsuccessful {
  // Once the run is aborted, any error of a step is a consequence of the abort.
  const cause = signal.aborted ? signal.reason : error;
  if (cause instanceof RunAborted) return abortedEnd(cause, step);
  if (cause instanceof BuilderLost) return { status: "FAILED", failure: cause.failure, hasLostBuilder: true };
  if (cause instanceof StepFailure) return { status: "FAILED", failure: cause.failure };
  const message = cause instanceof Error ? cause.message : String(cause);
  const failure: JobFailure = saysDiskFull(message)
    ? { code: "DISK_FULL", message, step, retryable: true }
    : { code: "INTERNAL", message, step, retryable: false };
  return { status: "FAILED", failure };
}

function abortedEnd(reason: RunAborted, step: Step): Unsuccessful {
  const { message } = reason;
  const failure = (code: JobFailure["code"], retryable: boolean) => ({ code, message, step, retryable });
  if (reason instanceof RunCancelled) return { status: "CANCELLED", failure: failure("CANCELLED", false) };
  if (reason instanceof LeaseLost) return { status: "FAILED", failure: failure("WORKER_LOST", true) };
  if (reason instanceof RunTimeout) return { status: "FAILED", failure: failure("TIMEOUT", false) };
  if (reason instanceof RunDrained) return { status: "FAILED", failure: failure("WORKER_LOST", true) };
  return { status: "FAILED", failure: failure("INTERNAL", false) };
}
