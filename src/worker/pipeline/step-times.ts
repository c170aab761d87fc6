import type { RunEnd } from "./run-end.ts";

type TimedStep = "clone" | "build" | "auth" | "push";

/** Durations of the steps. Steps may overlap; a step that is entered again counts from its first start. */
export class StepTimes {
  readonly startedAt = new Date();
  readonly #startMs = performance.now();
  readonly #from = new Map<TimedStep, number>();
  readonly #to = new Map<TimedStep, number>();

  begin(step: TimedStep): void {
    if (!this.#from.has(step)) this.#from.set(step, performance.now());
  }

  end(step: TimedStep): void {
    if (!this.#to.has(step)) this.#to.set(step, performance.now());
  }

  async during<T>(step: TimedStep, work: () => Promise<T>): Promise<T> {
    this.begin(step);
    try {
      return await work();
    } finally {
      this.end(step);
    }
  }

  inMs(): RunEnd["timingsMs"] {
    const nowMs = performance.now();
    const lasted = (step: TimedStep) => {
      const fromMs = this.#from.get(step);
      return fromMs === undefined ? 0 : Math.round((this.#to.get(step) ?? nowMs) - fromMs);
    };
    return {
      clone: lasted("clone"),
      build: lasted("build"),
      auth: lasted("auth"),
      push: lasted("push"),
      total: Math.round(nowMs - this.#startMs),
    };
  }
}
