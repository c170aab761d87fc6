/**
 * Runs both at once; the second gets the promise of the first. The first failure aborts the other one, and its error is
 * thrown once both have ended, so nothing of them continues in the background.
 */
export async function bothOrNeither<A, B>(
  signal: AbortSignal,
  one: (signal: AbortSignal) => Promise<A>,
  other: (signal: AbortSignal, one: Promise<A>) => Promise<B>,
): Promise<[A, B]> {
  const controller = new AbortController();
  const shared = AbortSignal.any([signal, controller.signal]);
  const failures: unknown[] = [];
  const watched = async <T>(step: (signal: AbortSignal) => Promise<T>) => {
    try {
      return await step(shared);
    } catch (error) {
      failures.push(error);
      controller.abort(error);
      throw error;
    }
  };
  const first = watched(one);
  const both = [first, watched((signal) => other(signal, first))] as const;
  await Promise.allSettled(both);
  if (failures.length > 0) throw failures[0];
  return Promise.all(both);
}
