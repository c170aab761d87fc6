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
