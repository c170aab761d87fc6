/** Wakes all that wait for the next change. */
export class Waiters {
  readonly #waiting = new Set<() => void>();

  wake(): void {
    if (this.#waiting.size > 0) for (const done of [...this.#waiting]) done();
  }

  /** Resolves at the next `wake`, or when `signal` aborts. */
  next(signal: AbortSignal): Promise<void> {
    if (signal.aborted) return Promise.resolve();
    return new Promise((resolve) => {
      const done = () => {
        this.#waiting.delete(done);
        signal.removeEventListener("abort", done);
        resolve();
      };
      this.#waiting.add(done);
      signal.addEventListener("abort", done, { once: true });
    });
  }
}
