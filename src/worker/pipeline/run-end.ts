import type { ErrorCode, JobFailure, Outcome, OutcomeStatus, Step } from "../../shared/job.ts";
import { LeaseLost, RunAborted, RunCancelled, RunDrained, RunTimeout } from "../job/cancellation.ts";
import { StepFailure, saysDiskFull } from "../job/failure.ts";

/** How a run ended: the outcome without its log, which the caller of the pipeline keeps. */
export type RunEnd = Omit<Outcome, "logs" | "log">;

export interface Unsuccessful {
  readonly status: Exclude<OutcomeStatus, "SUCCESS">;
  readonly failure: JobFailure;
}

/**
 * Docker reports only the exit status of a step that ran out of disk space, and git does not say why it could not
 * write a file. So these failures are attributed to a disk that was full during the run.
 */
const CAUSED_BY_FULL_DISK: ReadonlySet<ErrorCode> = new Set([
  "CLONE_FAILED",
  "BUILD_FAILED",
  "PUSH_FAILED",
  "INTERNAL",
]);

/** `fullDisk` describes the disk that was full during the run. */
export function blamingDisk(end: Unsuccessful, fullDisk: string | undefined): Unsuccessful {
  const { failure } = end;
  if (fullDisk === undefined || !CAUSED_BY_FULL_DISK.has(failure.code)) return end;
  const message = `${failure.message} (${fullDisk})`;
  return { ...end, failure: { ...failure, code: "DISK_FULL", message, retryable: true } };
}

/** `step` is the step that the run had reached; it is used for errors that do not name their step. */
export function unsuccessful(error: unknown, signal: AbortSignal, step: Step): Unsuccessful {
  // Once the run is aborted, any error of a step is a consequence of the abort.
  const cause = signal.aborted ? signal.reason : error;
  if (cause instanceof RunAborted) return abortedEnd(cause, step);
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
