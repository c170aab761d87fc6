import { sleep } from "../../shared/abort.ts";
import { StepFailure } from "./failure.ts";

export interface RetryPolicy {
  readonly tries: number;
  /** Doubles with every try. */
  readonly initialDelayMs: number;
}

export const DEFAULT_RETRY: RetryPolicy = { tries: 3, initialDelayMs: 500 };

export interface RetriedStep<T> {
  readonly policy: RetryPolicy;
  readonly signal: AbortSignal;
  readonly log: (line: string) => void;
  /** A try that lasted longer has already waited and retried by itself, so it is not repeated. */
  readonly maxTryMs?: number;
  readonly attempt: () => Promise<T>;
}

/**
 * Retries a step within the run after faults of network and registry. A full disk is not retried, since waiting does
 * not free space, nor is a fault that is not retryable.
 */
export async function retryInPlace<T>(step: RetriedStep<T>): Promise<T> {
  const { policy, signal, log, attempt, maxTryMs = Number.POSITIVE_INFINITY } = step;
  for (let tried = 1; ; tried++) {
    const startMs = performance.now();
    try {
      return await attempt();
    } catch (error) {
      const isLong = performance.now() - startMs > maxTryMs;
      if (tried >= policy.tries || isLong || !isRetryable(error)) throw error;
      const delayMs = policy.initialDelayMs * 2 ** (tried - 1);
      log(`${error.message}; trying again in ${delayMs} ms (${tried + 1} of ${policy.tries})`);
      await sleep(delayMs, signal);
    }
  }
}

function isRetryable(error: unknown): error is StepFailure {
  return error instanceof StepFailure && error.failure.retryable && error.failure.code !== "DISK_FULL";
}
