const INTERVAL_MS = 1;

/** Runs the work, and returns the longest time for which the event loop of this process did nothing else. */
export async function longestLagMs(work: () => Promise<unknown>): Promise<number> {
  let longestMs = 0;
  let lastMs = performance.now();
  const timer = setInterval(() => {
    const nowMs = performance.now();
    longestMs = Math.max(longestMs, nowMs - lastMs);
    lastMs = nowMs;
  }, INTERVAL_MS);
  try {
    await work();
    // A block at the work's end counts too.
    await Bun.sleep(2 * INTERVAL_MS);
  } finally {
    clearInterval(timer);
  }
  return longestMs;
}

/** Other programs of the machine can only add to a lag: the best of several tries counts. */
const TRIES = 5;
const FEW_TIMES = 5;

/** Whether the work blocks the event loop at most a few times as long as an ordinary job. */
export async function blocksLikeOrdinary(
  work: () => Promise<unknown>,
  ordinary: () => Promise<unknown>,
): Promise<{ readonly isOrdinary: boolean; readonly lagsMs: readonly (readonly [number, number])[] }> {
  const lagsMs: [number, number][] = [];
  for (let tried = 1; tried <= TRIES; tried++) {
    const pair: [number, number] = [await longestLagMs(ordinary), await longestLagMs(work)];
    lagsMs.push(pair);
    if (pair[1] <= FEW_TIMES * pair[0]) return { isOrdinary: true, lagsMs };
  }
  return { isOrdinary: false, lagsMs };
}
