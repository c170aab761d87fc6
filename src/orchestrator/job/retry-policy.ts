/** Decides whether a job whose attempt has ended is tried again. The steps of a run only classify failures. */
import type { Outcome } from "../../shared/job.ts";
import { RETRY_DELAYS_MS, type RetryDelayMs } from "../queue/queue.ts";

export type RetryDecision =
  /** The outcome is the job's result. */
  | { readonly kind: "final" }
  /** The failure may not recur later or on another worker. */
  | { readonly kind: "retry"; readonly delayMs: RetryDelayMs };

/** `attempt` is the number of the attempt that has ended, from 1 on. */
export function decideRetry(outcome: Outcome, attempt: number, maxAttempts: number): RetryDecision {
  const isOver = outcome.status !== "FAILED" || !outcome.failure?.retryable || attempt >= maxAttempts;
  if (isOver) return { kind: "final" };
  const longest = RETRY_DELAYS_MS[RETRY_DELAYS_MS.length - 1] ?? RETRY_DELAYS_MS[0];
  return { kind: "retry", delayMs: RETRY_DELAYS_MS[attempt - 1] ?? longest };
}
