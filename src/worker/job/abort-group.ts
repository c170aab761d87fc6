/**
 * Runs both at once. The first that fails aborts the other one, and its error is thrown. By then both have ended, so
 * neither continues in the background.
 */
export async function bothOrNeither<A, B>(
  signal: AbortSignal,
  one: (signal: AbortSignal) => Promise<A>,
  other: (signal: AbortSignal) => Promise<B>,
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
  const both = [watched(one), watched(other)] as const;
  await Promise.allSettled(both);
  if (failures.length > 0) throw failures[0];
  return Promise.all(both);
}
