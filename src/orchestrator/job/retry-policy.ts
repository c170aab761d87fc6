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
  /** How many attempts of the job do not count, with this one: see `Outcome.isUncounted`. */
  readonly uncounted: number;
}

/** A job that makes each worker lose its builder before an instruction begins must not do so for ever. */
const MAX_UNCOUNTED = 20;

export function decideRetry(
  outcome: Outcome,
  { attempt, workersLost, uncounted }: EndedAttempt,
  { maxAttempts, maxWorkersLost }: RetryLimits,
): RetryDecision {
  if (outcome.status !== "FAILED" || !outcome.failure?.retryable) return { kind: "final", outcome };
  if (outcome.isWorkerLost && workersLost >= maxWorkersLost)
    return { kind: "final", outcome: withoutFurtherWorker(outcome, workersLost) };
  const counted = attempt - Math.min(uncounted, MAX_UNCOUNTED);
  if (counted >= maxAttempts) return { kind: "final", outcome };
  const longest = RETRY_DELAYS_MS[RETRY_DELAYS_MS.length - 1] ?? RETRY_DELAYS_MS[0];
  return { kind: "retry", delayMs: RETRY_DELAYS_MS[Math.max(counted, 1) - 1] ?? longest };
}

function withoutFurtherWorker(outcome: Outcome, workersLost: number): Outcome {
  const { failure } = outcome;
  if (!failure) return outcome;
  const message = `${failure.message}; ${workersLost} workers were lost while they ran this job, so it is not given another one (BLACKTREE_MAX_WORKERS_LOST)`;
  return { ...outcome, failure: { ...failure, message, retryable: false } };
}

/** Fields of a RETRYING event: the attempt's worker was lost; the attempt does not count. */
export const WORKER_LOST_FIELD = "worker_lost";
export const NOT_COUNTED_FIELD = "not_counted";

export type RetryField = typeof WORKER_LOST_FIELD | typeof NOT_COUNTED_FIELD;

/** The attempts before this one whose RETRYING event has the field, as far as the job's events are known. */
export function earlierWith(field: RetryField, events: readonly JobEvent[], attempt: number): number {
  const marked = events.filter((event) => event[field] === true && event.attempt < attempt);
  return new Set(marked.map((event) => event.attempt)).size;
}
