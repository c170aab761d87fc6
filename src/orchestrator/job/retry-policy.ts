/** What becomes of a job whose attempt has ended: the one place where that is decided. Steps only classify faults. */
import type { Outcome } from "../../shared/job.ts";

/**
 * How long a job waits before its second, third … attempt, in ms; the last one holds for all that follow. Each has a
 * queue of its own: in a single queue a short delay would stand behind a long one.
 */
export const RETRY_DELAYS_MS = [2000, 10_000, 60_000] as const;
export type RetryDelayMs = (typeof RETRY_DELAYS_MS)[number];

export type Verdict =
  /** The outcome is the job's result. */
  | { readonly kind: "final" }
  /** The fault may pass elsewhere or later. */
  | { readonly kind: "retry"; readonly delayMs: RetryDelayMs };

/** `attempt` is the one that has ended, from 1 on. */
export function judge(outcome: Outcome, attempt: number, maxAttempts: number): Verdict {
  const isOver = outcome.status !== "FAILED" || !outcome.failure?.retryable || attempt >= maxAttempts;
  if (isOver) return { kind: "final" };
  const longest = RETRY_DELAYS_MS[RETRY_DELAYS_MS.length - 1] ?? RETRY_DELAYS_MS[0];
  return { kind: "retry", delayMs: RETRY_DELAYS_MS[attempt - 1] ?? longest };
}
