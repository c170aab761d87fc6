export interface WaitForOptions {
  timeoutMs: number;
  /** The event that is waited for, as it should read after "gave up waiting for". */
  what: string;
  intervalMs?: number;
}

/**
 * Calls the condition until its result is truthy, and returns that. A condition that throws counts as "not yet":
 * a server that is still starting refuses connections, which is a failure only after the deadline.
 */
export async function waitFor<T>(
  condition: () => T | Promise<T>,
  { timeoutMs, what, intervalMs = 20 }: WaitForOptions,
): Promise<NonNullable<T>> {
  const deadlineMs = performance.now() + timeoutMs;
  let lastError: unknown;
  for (;;) {
    try {
      const answer = await condition();
      if (answer) return answer;
      lastError = undefined;
    } catch (error) {
      lastError = error;
    }
    if (performance.now() > deadlineMs) break;
    await Bun.sleep(intervalMs);
  }
  throw new Error(`gave up waiting for ${what} after ${timeoutMs} ms`, { cause: lastError });
}
