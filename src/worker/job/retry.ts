import { sleep } from "../../shared/abort.ts";
import { StepFailure } from "./failure.ts";

export interface RetryPolicy {
  readonly tries: number;
  /** Doubles with every try. */
  readonly initialDelayMs: number;
}

export const DEFAULT_RETRY: RetryPolicy = { tries: 3, initialDelayMs: 500 };

/** A longer timer would fire at once. */
const MAX_TIMER_MS = 2 ** 31 - 1;

export interface RetriedStep<T> {
  readonly policy: RetryPolicy;
  readonly signal: AbortSignal;
  readonly log: (line: string) => void;
  /** A try that lasted longer has already waited and retried by itself, so it is not repeated. */
  readonly maxTryMs?: number;
  /** A server that asks for a longer wait is not waited for. */
  readonly timeLeftMs?: () => number;
  /** Whether a failed try has got further than the ones before: then the tries are counted from it. */
  readonly hasProgressed?: () => boolean;
  readonly attempt: () => Promise<T>;
}

/**
 * Retries a step within the run after faults of network and registry. A full disk is not retried, since waiting does
 * not free space, nor is a fault that is not retryable. The wait that a server asks for (Retry-After) is respected.
 */
export async function retryInPlace<T>(step: RetriedStep<T>): Promise<T> {
  const { policy, signal, log, attempt, maxTryMs = Number.POSITIVE_INFINITY } = step;
  const timeLeftMs = step.timeLeftMs ?? (() => MAX_TIMER_MS);
  for (let tried = 1; ; tried++) {
    const startMs = performance.now();
    try {
      return await attempt();
    } catch (error) {
      signal.throwIfAborted();
      if (step.hasProgressed?.()) tried = 1;
      const isLong = performance.now() - startMs > maxTryMs;
      if (tried >= policy.tries || isLong || !isRetryable(error)) throw error;
      const delayMs = Math.max(policy.initialDelayMs * 2 ** (tried - 1), error.retryAfterMs ?? 0);
      if (delayMs >= timeLeftMs()) throw outOfTime(error, timeLeftMs());
      log(`${error.message}; trying again in ${delay(delayMs)} (${tried + 1} of ${policy.tries})`);
      await sleep(delayMs, signal);
    }
  }
}

function isRetryable(error: unknown): error is StepFailure {
  return error instanceof StepFailure && error.failure.retryable && error.failure.code !== "DISK_FULL";
}

function delay(durationMs: number): string {
  return durationMs < 1000 ? `${durationMs} ms` : `${Math.ceil(durationMs / 1000)} s`;
}

/** Another attempt of the job, later or on another worker, may succeed. */
function outOfTime(error: StepFailure, timeLeftMs: number): StepFailure {
  const left = Math.max(0, Math.floor(timeLeftMs / 1000));
  const message = `${error.message}, but this attempt has only ${left} s left`;
  return new StepFailure({ ...error.failure, message, cause: error });
}
