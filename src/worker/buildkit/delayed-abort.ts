/**
 * BuildKit misses a cancel that arrives while it starts the container of a RUN step: the step then runs to its end
 * (moby/buildkit#2855). A cancel that arrives a moment later ends the step.
 */

/** Time from the report that a step begins until its container runs, on a busy machine. */
const CONTAINER_START_MS = 1000;

/**
 * Aborts like `signal`, with its reason, but not while a step starts. `lastStepAtMs` returns when the last step began,
 * as `performance.now()`.
 */
export function delayedAbort(signal: AbortSignal, lastStepAtMs: () => number): AbortSignal {
  const delayed = new AbortController();
  const abort = () => {
    const waitMs = lastStepAtMs() + CONTAINER_START_MS - performance.now();
    if (waitMs <= 0) delayed.abort(signal.reason);
    else setTimeout(() => delayed.abort(signal.reason), waitMs);
  };
  if (signal.aborted) abort();
  else signal.addEventListener("abort", abort, { once: true });
  return delayed.signal;
}
