/**
 * True when the call settles before a timer that starts after it. The time limit of such a call is itself a timer of
 * this process: a busy machine delays both timers, but does not change their order.
 */
export async function settlesBefore(ms: number, call: Promise<unknown>): Promise<boolean> {
  const { promise: timedOut, resolve } = Promise.withResolvers<false>();
  const timer = setTimeout(() => resolve(false), ms);
  const settled = call.then(
    () => true,
    () => true,
  );
  try {
    return await Promise.race([settled, timedOut]);
  } finally {
    clearTimeout(timer);
  }
}
