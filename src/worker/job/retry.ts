import { sleep } from "../../shared/abort.ts";
import { StepFailure } from "./failure.ts";

export interface RetryPolicy {
  readonly tries: number;
  /** Doubles with every try. */
  readonly firstDelayMs: number;
}

export const DEFAULT_RETRY: RetryPolicy = { tries: 3, firstDelayMs: 500 };

export interface RetriedStep<T> {
  readonly policy: RetryPolicy;
  readonly signal: AbortSignal;
  readonly log: (line: string) => void;
  /** A try that lasted longer has done its own waiting and trying: it is not repeated. */
  readonly longestTryMs?: number;
  readonly attempt: () => Promise<T>;
}

/**
 * Faults of network and registry are first tried again here, within the run. A full disk does not get better by
 * that, and what is not retryable never does.
 */
export async function inPlace<T>(step: RetriedStep<T>): Promise<T> {
  const { policy, signal, log, attempt, longestTryMs = Number.POSITIVE_INFINITY } = step;
  for (let tried = 1; ; tried++) {
    const startMs = performance.now();
    try {
      return await attempt();
    } catch (error) {
      const isLong = performance.now() - startMs > longestTryMs;
      if (tried >= policy.tries || isLong || !mayPassHere(error)) throw error;
      const delayMs = policy.firstDelayMs * 2 ** (tried - 1);
      log(`${error.message}; trying again in ${delayMs} ms (${tried + 1} of ${policy.tries})`);
      await sleep(delayMs, signal);
    }
  }
}

function mayPassHere(error: unknown): error is StepFailure {
  return error instanceof StepFailure && error.failure.retryable && error.failure.code !== "DISK_FULL";
}
