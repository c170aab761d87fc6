/** Exponential backoff with jitter, so that the clients of a server do not all reconnect at the same moment. */

export interface BackoffBounds {
  readonly initialMs: number;
  readonly maxMs: number;
}

/** Doubles from `initialMs` up to `maxMs`; each delay is a random value from the upper half of its step. */
export class Backoff {
  #nextMs: number;

  constructor(private readonly bounds: BackoffBounds) {
    this.#nextMs = bounds.initialMs;
  }

  nextMs(): number {
    const stepMs = this.#nextMs;
    this.#nextMs = Math.min(stepMs * 2, this.bounds.maxMs);
    return Math.round(stepMs * (0.5 + Math.random() / 2));
  }

  /** After a success. */
  reset(): void {
    this.#nextMs = this.bounds.initialMs;
  }
}
