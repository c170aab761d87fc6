/** Decides whether a job whose attempt has ended is tried again. The steps of a run only classify failures. */
import type { JobEvent, Outcome } from "../../shared/job.ts";
import { RETRY_DELAYS_MS, type RetryDelayMs } from "../queue/queue.ts";

export type RetryDecision =
  /** The outcome is the job's result. */
  | { readonly kind: "final"; readonly outcome: Outcome }
  /** The failure may not recur later or on another worker. */
  | { readonly kind: "retry"; readonly delayMs: RetryDelayMs };

export interface RetryLimits {
  readonly maxAttempts: number;
  /** So many workers that were lost while they ran a job are probably lost because of it. */
  readonly maxWorkersLost: number;
}

export interface EndedAttempt {
  /** From 1 on. */
  readonly attempt: number;
  /** How many attempts of the job have lost their worker, with this one. */
  readonly workersLost: number;
}

export function decideRetry(
  outcome: Outcome,
  { attempt, workersLost }: EndedAttempt,
  { maxAttempts, maxWorkersLost }: RetryLimits,
): RetryDecision {
  if (outcome.status !== "FAILED" || !outcome.failure?.retryable) return { kind: "final", outcome };
  if (outcome.isWorkerLost && workersLost >= maxWorkersLost)
    return { kind: "final", outcome: withoutFurtherWorker(outcome, workersLost) };
  if (attempt >= maxAttempts) return { kind: "final", outcome };
  const longest = RETRY_DELAYS_MS[RETRY_DELAYS_MS.length - 1] ?? RETRY_DELAYS_MS[0];
  return { kind: "retry", delayMs: RETRY_DELAYS_MS[attempt - 1] ?? longest };
}

function withoutFurtherWorker(outcome: Outcome, workersLost: number): Outcome {
  const { failure } = outcome;
  if (!failure) return outcome;
  const message = `${failure.message}; ${workersLost} workers were lost while they ran this job, so it is not given another one (BLACKTREE_MAX_WORKERS_LOST)`;
  return { ...outcome, failure: { ...failure, message, retryable: false } };
}

/** Names the field of a RETRYING event that says that the attempt's worker was lost. */
export const WORKER_LOST_FIELD = "worker_lost";

/** The attempts before this one that have lost their worker, as far as the job's events are known. */
export function earlierLosses(events: readonly JobEvent[], attempt: number): number {
  const losses = events.filter((event) => event[WORKER_LOST_FIELD] === true && event.attempt < attempt);
  return new Set(losses.map((event) => event.attempt)).size;
}
