import type { ErrorCode, JobFailure, Outcome, OutcomeStatus, Step } from "../../shared/job.ts";
import type { BuildMemory } from "../build-cgroup/build-cgroup.ts";
import { endOfRunStep } from "../buildkit/failure.ts";
import { LeaseLost, RunAborted, RunCancelled, RunDrained, RunTimeout } from "../job/cancellation.ts";
import { StepFailure, saysDiskFull } from "../job/failure.ts";

/** How a run ended: the outcome but for its log, which whoever runs the pipeline keeps. */
export type RunEnd = Omit<Outcome, "logs" | "log">;

export interface Unsuccessful {
  readonly status: Exclude<OutcomeStatus, "SUCCESS">;
  readonly failure: JobFailure;
}

/**
 * Of a step that finds no room docker says no more than its exit status, and of a file that cannot be written git not
 * why; so of these failures a disk that was full is taken to be the cause.
 */
const CAUSED_BY_FULL_DISK: ReadonlySet<ErrorCode> = new Set([
  "CLONE_FAILED",
  "BUILD_FAILED",
  "PUSH_FAILED",
  "INTERNAL",
]);

/** `fullDisk` says which disk was full while the run was under way. */
export function blamingDisk(end: Unsuccessful, fullDisk: string | undefined): Unsuccessful {
  const { failure } = end;
  if (fullDisk === undefined || !CAUSED_BY_FULL_DISK.has(failure.code)) return end;
  const message = `${failure.message} (${fullDisk})`;
  return { ...end, failure: { ...failure, code: "DISK_FULL", message, retryable: true } };
}

/** Of a step that the kernel ended for memory docker tells the exit status, or that of the shell around it. */
export function blamingMemory(end: Unsuccessful, memory: BuildMemory | undefined): Unsuccessful {
  const { failure } = end;
  const stepsEnd = failure.code === "BUILD_FAILED" ? endOfRunStep(failure.message) : undefined;
  const shortage = stepsEnd === undefined ? undefined : memory?.oomMessage(stepsEnd);
  if (shortage === undefined) return end;
  return { ...end, failure: { ...failure, message: `${failure.message} (${shortage})` } };
}

/** `step` is where the run was; a failure that knows better says so itself. */
export function unsuccessful(error: unknown, signal: AbortSignal, step: Step): Unsuccessful {
  // Whatever a step throws once the run is aborted is only a consequence of that.
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
