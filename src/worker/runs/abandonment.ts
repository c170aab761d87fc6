/**
 * Decides when a run is abandoned: orchestrators that reach the broker have pinged this worker for a while, and none
 * has called for the run. The job's message is gone then, so its result has been published or will never be; the
 * outcome is no longer reported, or the run would keep its slot for ever.
 */

export interface AwaitedRun {
  readonly finishedAt: Date | undefined;
  /** Number of RunJob calls that wait for the outcome. */
  waiting: number;
  /** Since when no call waits, though orchestrators ping; `performance.now()`. Reset when the run succeeds. */
  unawaitedSince: number | undefined;
}

/** After a silence this long, no orchestrator could have called. */
const SILENCE_MS = 10_000;

export class Abandonment {
  readonly #abandonAfterMs: number;
  #pingedAt = Number.NEGATIVE_INFINITY;

  constructor(abandonAfterMs: number) {
    this.#abandonAfterMs = abandonAfterMs;
  }

  /** An orchestrator that reaches the broker has pinged. */
  pinged(runs: Iterable<AwaitedRun>): void {
    const wasSilent = this.#isSilent();
    this.#pingedAt = performance.now();
    for (const run of runs) {
      if (run.waiting > 0) run.unawaitedSince = undefined;
      else if (wasSilent || run.unawaitedSince === undefined) run.unawaitedSince = this.#pingedAt;
    }
  }

  isAbandoned({ unawaitedSince }: AwaitedRun): boolean {
    return unawaitedSince !== undefined && isPast(unawaitedSince, this.#abandonAfterMs);
  }

  /** Runs under way, and ended ones that are not abandoned. After a silence all of them: an orchestrator may be back. */
  reported<R extends AwaitedRun>(runs: Iterable<R>): readonly R[] {
    const wasSilent = this.#isSilent();
    return [...runs].filter((run) => wasSilent || !run.finishedAt || !this.isAbandoned(run));
  }

  #isSilent(): boolean {
    return isPast(this.#pingedAt, SILENCE_MS);
  }
}

/** `sinceMs` is a value of `performance.now()`. */
export function isPast(sinceMs: number, durationMs: number): boolean {
  return performance.now() - sinceMs > durationMs;
}
