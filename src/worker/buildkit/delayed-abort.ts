/**
 * BuildKit misses a cancel that comes while it starts the container of a RUN step: the step then runs to its end
 * (moby/buildkit#2855). Told a moment later, it ends it.
 */

/** From the word that a step begins to its container, on a busy machine. */
const CONTAINER_START_MS = 1000;

/** Aborts as `signal` does, with its reason, but not in the moment in which a step begins. `performance.now()` of the last one. */
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
