/** Growing delays between tries, with jitter so that many clients of one server do not come back all at once. */

export interface DelayBounds {
  readonly firstMs: number;
  readonly mostMs: number;
}

/**
 * The delay before retry `attempt`, counted from 1: the step doubles from `firstMs` up to `mostMs`, and each delay is
 * drawn from the upper half of its step.
 */
export function delayBeforeAttempt(attempt: number, { firstMs, mostMs }: DelayBounds): number {
  const stepMs = Math.min(firstMs * 2 ** (attempt - 1), mostMs);
  return Math.round(stepMs * (0.5 + Math.random() / 2));
}

/** Counts the attempts for `delayBeforeAttempt`. */
export class GrowingDelay {
  #attempts = 0;

  constructor(private readonly bounds: DelayBounds) {}

  nextMs(): number {
    return delayBeforeAttempt(++this.#attempts, this.bounds);
  }

  /** After a success. */
  reset(): void {
    this.#attempts = 0;
  }
}
