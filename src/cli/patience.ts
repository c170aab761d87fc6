/** Repeats requests for about a minute while orchestrators restart, or cannot answer. */
import { sleep } from "../shared/abort.ts";
import { Backoff, type BackoffBounds } from "../shared/backoff.ts";
import { ApiError } from "./api-error.ts";

export interface PatienceBounds extends BackoffBounds {
  /** Without a success between them. */
  readonly maxFailures: number;
}

export const ABOUT_A_MINUTE: PatienceBounds = { maxFailures: 40, initialMs: 200, maxMs: 2000 };

export class Patience {
  #failures = 0;
  readonly #backoff: Backoff;

  constructor(private readonly bounds = ABOUT_A_MINUTE) {
    this.#backoff = new Backoff(bounds);
  }

  succeeded(): void {
    this.#failures = 0;
    this.#backoff.reset();
  }

  /** Waits until the next try. @throws `error` if no other try may succeed, or too many have failed */
  async failed(error: unknown): Promise<void> {
    this.#failures += 1;
    const mayPass = error instanceof ApiError && error.mayPass;
    if (!mayPass || this.#failures >= this.bounds.maxFailures) throw error;
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
