/** What becomes of a job whose attempt has ended: the one place where that is decided. Steps only classify faults. */
import type { Outcome } from "../../shared/job.ts";
import { RETRY_DELAYS_MS, type RetryDelayMs } from "../queue/queue.ts";

export type RetryDecision =
  /** The outcome is the job's result. */
  | { readonly kind: "final" }
  /** The fault may pass elsewhere or later. */
  | { readonly kind: "retry"; readonly delayMs: RetryDelayMs };

/** `attempt` is the one that has ended, from 1 on. */
export function decideRetry(outcome: Outcome, attempt: number, maxAttempts: number): RetryDecision {
  const isOver = outcome.status !== "FAILED" || !outcome.failure?.retryable || attempt >= maxAttempts;
  if (isOver) return { kind: "final" };
  const longest = RETRY_DELAYS_MS[RETRY_DELAYS_MS.length - 1] ?? RETRY_DELAYS_MS[0];
  return { kind: "retry", delayMs: RETRY_DELAYS_MS[attempt - 1] ?? longest };
}
