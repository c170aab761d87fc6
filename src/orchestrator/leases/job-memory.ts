/** What InProcessLeases stores about jobs except claims. Entries expire like the keys in scripts/common.lua. */
import type { RunRef } from "../../shared/job.ts";
import type { CancelledJob } from "./leases.ts";

const FORGET_INCAPABLE_MS = 60 * 60 * 1000;
const FORGET_WARM_MS = 7 * 24 * 60 * 60 * 1000;

export interface Attempts {
  /** The highest attempt known. */
  readonly last: number;
  /** The highest attempt released. */
  readonly done: number;
}

interface Expiring {
  readonly forgetAtMs: number;
}

interface Cancellation extends Expiring {
  readonly reason: string;
  hasEnded: boolean;
}

interface Incapable extends Expiring {
  readonly sinceMs: number;
}

interface Warm extends Expiring {
  /** Worker id -> its `used` at that time. */
  readonly byWorker: ReadonlyMap<string, number>;
}

export interface JobMemoryOptions {
  /** Attempts and cancellations are remembered this long. */
  readonly jobMemoryMs: number;
  readonly leaseTtlMs: number;
  readonly nowMs: () => number;
}

export class JobMemory {
  readonly #attempts = new Map<string, Attempts & Expiring>();
  /** By job id: attempts that are known only from their worker's report. */
  readonly #unproven = new Map<string, number>();
  /** By job id: attempts of which a run may exist; see `Leases.retractUnsent`. */
  readonly #begun = new Map<string, number>();
  readonly #cancellations = new Map<string, Cancellation>();
  /** By job id. */
  readonly #incapable = new Map<string, Incapable>();
  /** By `ClaimRequest.source`: the workers that built it last. */
  readonly #warm = new Map<string, Warm>();

  constructor(private readonly options: JobMemoryOptions) {}

  attemptsOf(jobId: string): Attempts {
    return this.#attempts.get(jobId) ?? { last: 0, done: 0 };
  }

  rememberAttempts(jobId: string, { last, done }: Attempts): void {
    const { jobMemoryMs, leaseTtlMs } = this.options;
    const forgetAtMs = this.options.nowMs() + Math.max(jobMemoryMs, leaseTtlMs);
    this.#attempts.set(jobId, { last, done, forgetAtMs });
  }

  markUnproven({ jobId, attempt }: RunRef): void {
    this.#unproven.set(jobId, attempt);
  }

  isUnproven({ jobId, attempt }: RunRef): boolean {
    return this.#unproven.get(jobId) === attempt;
  }

  markBegun({ jobId, attempt }: RunRef): void {
    this.#begun.set(jobId, attempt);
  }

  mayHaveBegun({ jobId, attempt }: RunRef): boolean {
    return (this.#begun.get(jobId) ?? 0) >= attempt;
  }

  /** An orchestrator that holds the job's message has called `claim`: the job has no result yet. */
  prove(jobId: string): void {
    this.#unproven.delete(jobId);
  }

  /** The first reason stays. */
  cancel(jobId: string, reason: string): void {
    if (this.cancellationOf(jobId) !== undefined) return;
    const forgetAtMs = this.options.nowMs() + this.options.jobMemoryMs;
    this.#cancellations.set(jobId, { reason, hasEnded: false, forgetAtMs });
  }

  cancellationOf(jobId: string): string | undefined {
    const known = this.#cancellations.get(jobId);
    return known && known.forgetAtMs > this.options.nowMs() ? known.reason : undefined;
  }

  cancelling(): readonly CancelledJob[] {
    const active = [...this.#cancellations].filter(([, { hasEnded }]) => !hasEnded);
    return active.map(([jobId, { reason }]) => ({ jobId, reason }));
  }

  cancelEnded(jobId: string): void {
    const cancellation = this.#cancellations.get(jobId);
    if (cancellation) cancellation.hasEnded = true;
  }

  /** No live worker can build the job now. Returns for how many ms that has been so. */
  noteIncapable(jobId: string): number {
    const nowMs = this.options.nowMs();
    const { sinceMs } = this.#incapable.get(jobId) ?? { sinceMs: nowMs };
    this.#incapable.set(jobId, { sinceMs, forgetAtMs: nowMs + FORGET_INCAPABLE_MS });
    return nowMs - sinceMs;
  }

  forgetIncapable(jobId: string): void {
    this.#incapable.delete(jobId);
  }

  /** Worker id -> its `used` when it built this source: the higher, the more recently. */
  warmWorkers(source: string): ReadonlyMap<string, number> {
    return this.#warm.get(source)?.byWorker ?? new Map();
  }

  noteWarm(source: string, workerId: string, used: number): void {
    const byWorker = new Map([...this.warmWorkers(source), [workerId, used] as const]);
    this.#warm.set(source, { byWorker, forgetAtMs: this.options.nowMs() + FORGET_WARM_MS });
  }

  forgetExpired(): void {
    for (const memory of [this.#attempts, this.#cancellations, this.#incapable, this.#warm])
      for (const [key, { forgetAtMs }] of memory) if (forgetAtMs <= this.options.nowMs()) memory.delete(key);
    for (const marks of [this.#unproven, this.#begun])
      for (const jobId of marks.keys()) if (!this.#attempts.has(jobId)) marks.delete(jobId);
  }
}
