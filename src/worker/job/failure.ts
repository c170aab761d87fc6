import type { ErrorCode, JobFailure, Step } from "../../shared/job.ts";

export interface StepFailureDetails {
  readonly code: ErrorCode;
  readonly step: Step;
  readonly message: string;
  readonly retryable?: boolean;
  readonly throttled?: Throttling;
  readonly cause?: unknown;
}

/** A server limits the rate of requests, or is not available for a time. */
export interface Throttling {
  /** How long it asks to wait; undefined when it does not. */
  readonly retryAfterMs?: number;
}

/**
 * Ends a run because of a known fault outside Blacktree. run-pipeline.ts turns it into the run's failure; any other
 * error that a step throws is a bug in Blacktree.
 */
export class StepFailure extends Error {
  override readonly name = "StepFailure";
  readonly failure: JobFailure;
  readonly throttled: Throttling | undefined;

  constructor({ code, step, message, retryable = false, throttled, cause }: StepFailureDetails) {
    super(message, { cause });
    this.throttled = throttled;
    this.failure = { code, message, step, retryable };
  }
}

const NO_SPACE = /no space left on device|ENOSPC|disk quota exceeded/i;

export function saysDiskFull(message: string): boolean {
  return NO_SPACE.test(message);
}

export function diskFull(step: Step, message: string, cause?: unknown): StepFailure {
  return new StepFailure({ code: "DISK_FULL", step, message, retryable: true, cause });
}
