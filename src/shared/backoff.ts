/** Growing delays between tries, with jitter so that many clients of one server do not come back all at once. */

export interface DelayBounds {
  readonly firstMs: number;
  readonly mostMs: number;
}

/** Doubles from `firstMs` up to `mostMs`; each value is drawn from the upper half of its step. */
export class GrowingDelay {
  #nextMs: number;

  constructor(private readonly bounds: DelayBounds) {
    this.#nextMs = bounds.firstMs;
  }

  nextMs(): number {
    const stepMs = this.#nextMs;
    this.#nextMs = Math.min(stepMs * 2, this.bounds.mostMs);
    return Math.round(stepMs * (0.5 + Math.random() / 2));
  }

  /** After a success. */
  reset(): void {
    this.#nextMs = this.bounds.firstMs;
  }
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
