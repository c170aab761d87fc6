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

/** A longer timer would fire at once. */
const MAX_TIMER_MS = 2 ** 31 - 1;
const MAX_THROTTLED_DELAY_MS = 30_000;
/** How long a step waits for a server that limits the rate of requests and does not ask to wait. */
const MAX_UNASKED_MS = 120_000;

export interface RetriedStep<T> {
  readonly policy: RetryPolicy;
  readonly signal: AbortSignal;
  readonly log: (line: string) => void;
  /** A try that lasted longer has already waited and retried by itself, so it is not repeated. */
  readonly maxTryMs?: number;
  /** Of the step, if it ends before the run's time. A server that asks for a longer wait is not waited for. */
  readonly timeLeftMs?: () => number;
  /** Whether a failed try has got further than the ones before: then the tries are counted from it. */
  readonly hasProgressed?: () => boolean;
  /** Asks a server that limits the rate of requests how long to wait, when the failure of a try does not state it. */
  readonly askDelay?: () => Promise<Throttling>;
  readonly attempt: () => Promise<T>;
}

/**
 * Retries a step within the run after faults of network and registry. A full disk is not retried, since waiting does
 * not free space, nor is a fault that is not retryable. While a server limits the rate of requests, the step waits as
 * long as it asks, and such a try does not count.
 */
export async function retryInPlace<T>(step: RetriedStep<T>): Promise<T> {
  const { signal, log, attempt, maxTryMs = Number.POSITIVE_INFINITY } = step;
  const waits = new Waits(step);
  for (;;) {
    const startMs = performance.now();
    try {
      return await attempt();
    } catch (error) {
      // The failure may be the signal's effect.
      signal.throwIfAborted();
      if (step.hasProgressed?.()) waits.restart();
      const isLong = performance.now() - startMs > maxTryMs;
      const wait = isLong || !isRetryable(error) ? undefined : await waits.after(error.throttled);
      if (wait === undefined || !(error instanceof StepFailure)) throw error;
      const leftMs = timeLeftMs(step);
      if (wait.delayMs >= leftMs) throw outOfTime(error, leftMs);
      log(`${error.message}; trying again in ${durationText(wait.delayMs)} (${wait.note})`);
      await sleep(wait.delayMs, signal);
    }
  }
}

interface Wait {
  readonly delayMs: number;
  readonly note: string;
}

class Waits {
  #tried = 0;
  #throttled = 0;
  #unaskedMs = 0;

  constructor(private readonly step: Pick<RetriedStep<unknown>, "policy" | "askDelay">) {}

  restart(): void {
    this.#tried = 0;
  }

  /** Undefined when the step is not to be tried again. */
  async after(throttled: Throttling | undefined): Promise<Wait | undefined> {
    if (throttled) {
      const delayMs = await this.#throttledDelayMs(throttled);
      return delayMs === undefined ? undefined : { delayMs, note: "the server limits requests" };
    }
    const { tries, initialDelayMs } = this.step.policy;
    const delayMs = initialDelayMs * 2 ** this.#tried;
    this.#tried += 1;
    if (this.#tried >= tries) return undefined;
    return { delayMs, note: `${this.#tried + 1} of ${tries}` };
  }

  async #throttledDelayMs({ retryAfterMs }: Throttling): Promise<number | undefined> {
    const { policy, askDelay } = this.step;
    // Zero asks for nothing.
    const askedMs = retryAfterMs || (await askDelay?.())?.retryAfterMs || undefined;
    const ownMs = Math.min(MAX_THROTTLED_DELAY_MS, policy.initialDelayMs * 2 ** this.#throttled);
    this.#throttled += 1;
    const delayMs = Math.max(askedMs ?? 0, ownMs);
    if (askedMs === undefined) this.#unaskedMs += delayMs;
    return this.#unaskedMs > MAX_UNASKED_MS ? undefined : delayMs;
  }
}

function isRetryable(error: unknown): error is StepFailure {
  return error instanceof StepFailure && error.failure.retryable && error.failure.code !== "DISK_FULL";
}

function timeLeftMs({
  policy,
  timeLeftMs: ofStep,
}: Pick<RetriedStep<unknown>, "policy" | "timeLeftMs">): number {
  const ofRun = (policy.deadlineMs ?? Number.POSITIVE_INFINITY) - performance.now();
  return Math.min(ofRun, ofStep?.() ?? MAX_TIMER_MS, MAX_TIMER_MS);
}

function durationText(durationMs: number): string {
  return durationMs < 1000 ? `${durationMs} ms` : `${Math.ceil(durationMs / 1000)} s`;
}

/** Another attempt of the job, later or on another worker, may succeed. */
function outOfTime(error: StepFailure, leftMs: number): StepFailure {
  const left = Math.max(0, Math.floor(leftMs / 1000));
  const message = `${error.message}, but this attempt has only ${left} s left`;
  return new StepFailure({ ...error.failure, message, cause: error });
}
