/** Exponential backoff with jitter, so that the clients of a server do not all reconnect at the same moment. */

export interface BackoffBounds {
  readonly initialMs: number;
  readonly maxMs: number;
}

/**
 * The delay before retry `attempt`, counted from 1: the step doubles from `initialMs` up to `maxMs`, and each delay is
 * drawn from the upper half of its step.
 */
export function delayBeforeAttempt(attempt: number, { initialMs, maxMs }: BackoffBounds): number {
  const stepMs = Math.min(initialMs * 2 ** (attempt - 1), maxMs);
  return Math.round(stepMs * (0.5 + Math.random() / 2));
}

/** Counts the attempts for `delayBeforeAttempt`. */
export class Backoff {
  #attempts = 0;

  constructor(private readonly bounds: BackoffBounds) {}

  nextMs(): number {
    return delayBeforeAttempt(++this.#attempts, this.bounds);
  }

  /** After a success. */
  reset(): void {
    this.#attempts = 0;
  }
}
