import { sleep } from "../../shared/abort.ts";
import { StepFailure, type Throttling } from "./failure.ts";

export interface RetryPolicy {
  readonly tries: number;
  /** Doubles with every try. */
  readonly initialDelayMs: number;
  /** No wait ends after this time of `performance.now()`, when the run's time ends. */
  readonly deadlineMs?: number;
}

export const DEFAULT_RETRY: RetryPolicy = { tries: 3, initialDelayMs: 500 };

export interface RetriedStep<T> {
  readonly policy: RetryPolicy;
  readonly signal: AbortSignal;
  readonly log: (line: string) => void;
  /** A try that lasted longer has already waited and retried by itself, so it is not repeated. */
  readonly maxTryMs?: number;
  /** Asks a server that limits the rate of requests how long to wait, when the failure of a try does not state it. */
  readonly askDelay?: () => Promise<Throttling>;
  readonly attempt: () => Promise<T>;
}

const MAX_THROTTLED_DELAY_MS = 30_000;
/** How long a step waits for a server that limits the rate of requests and does not ask to wait. */
const MAX_THROTTLED_MS = 120_000;

/**
 * Retries a step within the run after faults of network and registry. A full disk is not retried, since waiting does
 * not free space, nor is a fault that is not retryable. While a server limits the rate of requests, the
 * step waits as long as it asks, and such a try does not count.
 */
export async function retryInPlace<T>(step: RetriedStep<T>): Promise<T> {
  const { policy, signal, log, askDelay, attempt, maxTryMs = Number.POSITIVE_INFINITY } = step;
  const throttling = new ThrottledTries(policy);
  for (let tried = 1; ; ) {
    const startMs = performance.now();
    try {
      return await attempt();
    } catch (error) {
      const isLong = performance.now() - startMs > maxTryMs;
      if (isLong || !isRetryable(error)) throw error;
      if (error.throttled) {
        const asked = error.throttled.retryAfterMs === undefined ? await askDelay?.() : undefined;
        const delayMs = throttling.nextDelayMs(asked ?? error.throttled);
        if (delayMs === undefined) throw error;
        log(`${error.message}; trying again in ${delayMs} ms, since the server limits requests`);
        await sleep(delayMs, signal);
        continue;
      }
      if (tried >= policy.tries) throw error;
      const delayMs = policy.initialDelayMs * 2 ** (tried - 1);
      tried++;
      log(`${error.message}; trying again in ${delayMs} ms (${tried} of ${policy.tries})`);
      await sleep(delayMs, signal);
    }
  }
}

class ThrottledTries {
  readonly #policy: RetryPolicy;
  #delayMs: number;
  #unaskedMs = 0;

  constructor(policy: RetryPolicy) {
    this.#policy = policy;
    this.#delayMs = policy.initialDelayMs;
  }

  /** Undefined when the step should not wait any longer. */
  nextDelayMs({ retryAfterMs }: Throttling): number | undefined {
    const delayMs = Math.max(retryAfterMs ?? 0, this.#delayMs);
    if (retryAfterMs === undefined) this.#unaskedMs += delayMs;
    this.#delayMs = Math.min(MAX_THROTTLED_DELAY_MS, 2 * this.#delayMs);
    const { deadlineMs = Number.POSITIVE_INFINITY } = this.#policy;
    const isTooLong = this.#unaskedMs > MAX_THROTTLED_MS || performance.now() + delayMs >= deadlineMs;
    return isTooLong ? undefined : delayMs;
  }
}

function isRetryable(error: unknown): error is StepFailure {
  return error instanceof StepFailure && error.failure.retryable && error.failure.code !== "DISK_FULL";
}
