/**
 * Waits for `promise` until one of `signals` aborts. Unlike `AbortSignal.any` it leaves no listeners on signals that
 * live as long as the process.
 * @throws the reason of the signal that aborted first.
 */
export function orAbort<T>(promise: Promise<T>, ...signals: (AbortSignal | undefined)[]): Promise<T> {
  const given = signals.filter((signal) => signal !== undefined);
  const alreadyAborted = given.find((signal) => signal.aborted);
  if (alreadyAborted) {
    // A later rejection of it must not count as unhandled.
    promise.catch(() => undefined);
    return Promise.reject(alreadyAborted.reason);
  }
  return new Promise((resolve, reject) => {
    const stopListening = () => {
      for (const signal of given) signal.removeEventListener("abort", onAbort);
    };
    const onAbort = () => {
      stopListening();
      reject(given.find((signal) => signal.aborted)?.reason);
    };
    for (const signal of given) signal.addEventListener("abort", onAbort, { once: true });
    void promise.then(resolve, reject).finally(stopListening);
  });
}

/** @throws the signal's reason when it aborts. */
export function sleep(durationMs: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) return reject(signal.reason);
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", stop);
      resolve();
    }, durationMs);
    const stop = () => {
      clearTimeout(timer);
      reject(signal?.reason);
    };
    signal?.addEventListener("abort", stop, { once: true });
  });
}

/** Waits for `promise` at most this long. @throws its rejection, unless that is later */
export async function waitAtMost(durationMs: number, promise: Promise<unknown>): Promise<void> {
  const over = new AbortController();
  const timeout = sleep(durationMs, over.signal).catch(() => undefined);
  await Promise.race([promise, timeout]).finally(() => over.abort());
}

/** Resolves when `signal` aborts. */
export function aborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve();
  return new Promise((resolve) => signal.addEventListener("abort", () => resolve(), { once: true }));
}
