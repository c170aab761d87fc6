/** Repeats requests for about a minute while orchestrators restart, or cannot answer. */
import { sleep } from "../../shared/abort.ts";
import { Backoff, type BackoffBounds } from "../../shared/backoff.ts";
import { ApiError } from "./error.ts";

export interface PatienceBounds extends BackoffBounds {
  /** From the first failure of a row on. */
  readonly limitMs: number;
  now(): number;
}

export const ABOUT_A_MINUTE: PatienceBounds = {
  ...{ limitMs: 60_000, initialMs: 200, maxMs: 2000 },
  now: () => performance.now(),
};

export class Patience {
  #failingSinceMs: number | undefined;
  readonly #backoff: Backoff;

  constructor(private readonly bounds = ABOUT_A_MINUTE) {
    this.#backoff = new Backoff(bounds);
  }

  succeeded(): void {
    this.#failingSinceMs = undefined;
    this.#backoff.reset();
  }

  /** Waits until the next try. @throws `error` if no other try may succeed, or they have failed for too long */
  async failed(error: unknown): Promise<void> {
    const nowMs = this.bounds.now();
    this.#failingSinceMs ??= nowMs;
    const mayPass = error instanceof ApiError && error.mayPass;
    if (!mayPass || nowMs - this.#failingSinceMs >= this.bounds.limitMs) throw error;
    await sleep(this.#backoff.nextMs());
  }
}

/** Asks until the answer is not undefined. @throws the last error when the requests fail for too long */
export async function poll<Answer>(
  ask: () => Promise<Answer | undefined>,
  intervalMs: number,
  bounds?: PatienceBounds,
): Promise<Answer> {
  const patience = new Patience(bounds);
  for (;;) {
    try {
      const answer = await ask();
      if (answer !== undefined) return answer;
      patience.succeeded();
      await sleep(intervalMs);
    } catch (error) {
      await patience.failed(error);
    }
  }
}
