/** Resolves after other events, such as pings and timers, had their turn. Long work is divided by it. */
export function eventLoopTurn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
