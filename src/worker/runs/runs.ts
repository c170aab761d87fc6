/**
 * The runs this worker holds. A run is named by job and attempt; its life is told in proto/blacktree/v1/worker.proto.
 * Invariants: never more runs at once than slots; never two attempts of one job but for the moment in which the older
 * one is being ended; a run has exactly one outcome, and everybody who asks for it gets that one.
 */

import type { Outcome, RunRef } from "../../shared/job.ts";
import type { Logger } from "../../shared/logging.ts";
import { RunState } from "../../shared/rpc/generated/blacktree/v1/run.ts";
import type { JobEvent, BuildStep as WireBuildStep } from "../../shared/rpc/generated/blacktree/v1/worker.ts";
import type { BuildStep } from "../buildkit/progress/progress.ts";
import { LeaseLost, RunCancelled, RunTimeout } from "../job/cancellation.ts";
import type { PipelineJob } from "../job/job.ts";
import type { RunReporter } from "../pipeline/pipeline-parts.ts";
import type { RunEnd } from "../pipeline/run-end.ts";
import { EventStream, type WatchOptions } from "./event-stream.ts";
import { type LogLimits, RunLog } from "./run-log.ts";

/** The run asked for is not, or no longer, this worker's to run. */
export class StaleRun extends Error {
  override readonly name = "StaleRun";
}

/** Nothing new is taken now. */
export class NoFreeSlot extends Error {
  override readonly name = "NoFreeSlot";
}

export type Execute = (job: PipelineJob, reporter: RunReporter, signal: AbortSignal) => Promise<RunEnd>;

export interface RunsOptions {
  readonly slots: number;
  readonly logLimits: LogLimits;
  readonly execute: Execute;
  /** Why nothing new can be taken now, though slots may be free; undefined when it can. */
  readonly refusal?: () => string | undefined;
  readonly logger: Logger;
  /** An unacknowledged response is kept this long, in ms, */
  readonly keepFinishedMs: number;
  /** and at most this many of them. */
  readonly keepFinishedCount: number;
  /**
   * Whoever has the job's message comes for the outcome. When orchestrators that reach the broker have pinged for this
   * long, in ms, and none came, the result is taken to be out, and what was known of that to be lost: reported for
   * longer, the run would keep its slot.
   */
  readonly reportUncalledMs: number;
}

interface Run extends RunRef {
  readonly events: EventStream;
  readonly abort: AbortController;
  readonly outcome: Promise<Outcome>;
  finishedAt: Date | undefined;
  /** How many wait for the outcome. */
  waiting: number;
  /** Since when nobody waits for its outcome, though somebody could come; anew once it has succeeded. */
  uncalledSince: number | undefined;
}

/** So many ended runs can still be read from their beginning; of the others, the result has the last lines. */
const ENDED_WITH_LOG = 4;

/** Longer than a call of RunJob can be on its way from an orchestrator that knew of the run when it was acknowledged. */
const REMEMBER_ACKNOWLEDGED_MS = 60_000;

interface Acknowledged {
  readonly attempt: number;
  readonly at: number;
}

/** After such a silence there was nobody who could have come. */
const SILENCE_MS = 10_000;

export class Runs {
  readonly #options: RunsOptions;
  /** Newest last; one entry a job, since a newer attempt replaces the older one's. */
  readonly #runs = new Map<string, Run>();
  /** By job, oldest first: what was acknowledged a short time ago must not begin anew. */
  readonly #acknowledged = new Map<string, Acknowledged>();
  #running = 0;
  #isDraining = false;
  #pingedAt = Number.NEGATIVE_INFINITY;
  #idle: (() => void)[] = [];
  #allAcknowledged: (() => void)[] = [];

  constructor(options: RunsOptions) {
    this.#options = options;
  }

  status(): "FREE" | "BUSY" | "DRAINING" {
    if (this.#isDraining) return "DRAINING";
    return this.#running < this.#options.slots && this.refusal() === undefined ? "FREE" : "BUSY";
  }

  refusal(): string | undefined {
    return this.#options.refusal?.();
  }

  /** Runs under way, and ended ones whose result nobody has acknowledged, unless nobody comes for it. */
  held(): readonly RunRef[] {
    this.#forgetOld();
    return this.#reported().map(({ jobId, attempt }) => ({ jobId, attempt }));
  }

  #reported(): readonly Run[] {
    const wasSilent = isPast(this.#pingedAt, SILENCE_MS);
    const isReported = (run: Run) => wasSilent || !run.finishedAt || !this.#isUncalled(run);
    return [...this.#runs.values()].filter(isReported);
  }

  #isUncalled({ uncalledSince }: Run): boolean {
    return uncalledSince !== undefined && isPast(uncalledSince, this.#options.reportUncalledMs);
  }

  /** Orchestrators that reach the broker ping, and none has the job's message: its result may be out. */
  isForsaken(ref: RunRef): boolean {
    const run = this.#find(ref);
    return run !== undefined && this.#isUncalled(run);
  }

  /** An orchestrator asks what is held here. One that does not reach the broker cannot come for an outcome. */
  pinged({ reachesBroker }: { readonly reachesBroker: boolean }): void {
    if (!reachesBroker) return;
    const wasSilent = isPast(this.#pingedAt, SILENCE_MS);
    this.#pingedAt = performance.now();
    for (const run of this.#runs.values()) {
      if (run.waiting > 0) run.uncalledSince = undefined;
      else if (wasSilent || run.uncalledSince === undefined) run.uncalledSince = this.#pingedAt;
    }
  }

  /**
   * Starts the run or attaches to it. `timeoutMs` counts from here, once: attaching does not prolong it.
   * @throws StaleRun, NoFreeSlot
   */
  run(job: PipelineJob, timeoutMs: number): Promise<Outcome> {
    this.#forgetOld();
    const known = this.#runs.get(job.jobId);
    if (known?.attempt === job.attempt) return known.outcome;
    const acknowledged = this.#acknowledged.get(job.jobId)?.attempt ?? 0;
    if (acknowledged >= job.attempt) {
      throw new StaleRun(
        `attempt ${job.attempt} of job ${job.jobId} is over: attempt ${acknowledged} was acknowledged`,
      );
    }
    if (known && known.attempt > job.attempt) {
      throw new StaleRun(
        `attempt ${job.attempt} of job ${job.jobId} is over: attempt ${known.attempt} was seen here`,
      );
    }
    // A higher attempt can only exist because the lower one's claim was given up.
    known?.abort.abort(new LeaseLost());
    if (this.status() !== "FREE")
      throw new NoFreeSlot(this.refusal() ?? `all ${this.#options.slots} slots are taken`);
    return this.#start(job, timeoutMs).outcome;
  }

  /** Somebody waits for the run's outcome until `ended` aborts. */
  awaited(ref: RunRef, ended: AbortSignal): void {
    const run = this.#find(ref);
    if (!run || ended.aborted) return;
    run.waiting += 1;
    ended.addEventListener("abort", () => (run.waiting -= 1), { once: true });
  }

  /** The jobs of the runs held whose outcome nobody waits for. */
  unawaited(): readonly string[] {
    return this.#reported()
      .filter(({ waiting }) => waiting === 0)
      .map(({ jobId }) => jobId);
  }

  /** What the run reports, until it ends or `signal` aborts. @throws StaleRun when it is not held here. */
  watch(ref: RunRef, options: WatchOptions, signal: AbortSignal): AsyncIterable<JobEvent> {
    const run = this.#find(ref);
    if (!run) throw new StaleRun(`attempt ${ref.attempt} of job ${ref.jobId} is not held here`);
    return run.events.watch(options, signal);
  }

  /** False when it is not under way. */
  cancel(ref: RunRef, reason: string): boolean {
    const run = this.#find(ref);
    if (!run || run.finishedAt) return false;
    run.abort.abort(new RunCancelled(reason));
    return true;
  }

  acknowledge(ref: RunRef): void {
    const run = this.#find(ref);
    if (run?.finishedAt) {
      this.#runs.delete(ref.jobId);
      this.#acknowledged.delete(ref.jobId);
      this.#acknowledged.set(ref.jobId, { attempt: ref.attempt, at: performance.now() });
    }
    if (this.#runs.size === 0) for (const resolve of this.#allAcknowledged.splice(0)) resolve();
  }

  /** Takes nothing new from here on; resolves when nothing runs. */
  async drain(): Promise<void> {
    this.#isDraining = true;
    if (this.#running > 0) await new Promise<void>((resolve) => this.#idle.push(resolve));
  }

  /** Resolves when no outcome waits for its acknowledgement; call after `drain`. */
  async acknowledged(): Promise<void> {
    if (this.#runs.size > 0) await new Promise<void>((resolve) => this.#allAcknowledged.push(resolve));
  }

  endAll(reason: Error): void {
    for (const run of this.#runs.values()) if (!run.finishedAt) run.abort.abort(reason);
  }

  #find(ref: RunRef): Run | undefined {
    const run = this.#runs.get(ref.jobId);
    return run?.attempt === ref.attempt ? run : undefined;
  }

  #start(job: PipelineJob, timeoutMs: number): Run {
    const events = new EventStream();
    const log = new RunLog(this.#options.logLimits, (logLine) => events.add({ logLine }));
    const abort = new AbortController();
    const timeout = setTimeout(() => abort.abort(new RunTimeout(timeoutMs)), timeoutMs);
    this.#running += 1;
    const reporter: RunReporter = {
      state: (state) => events.add({ state: RunState[`RUN_STATE_${state}`] }),
      log: (line) => log.add(line),
      step: (step) => events.add({ buildStep: wireStep(step) }),
    };
    const outcome = this.#options.execute(job, reporter, abort.signal).then((end) => {
      clearTimeout(timeout);
      log.end();
      this.#finished(run, end);
      return { ...end, logs: log.tail(), log: log.summary() };
    });
    const run: Run = {
      jobId: job.jobId,
      attempt: job.attempt,
      events,
      abort,
      outcome,
      finishedAt: undefined,
      waiting: 0,
      uncalledSince: undefined,
    };
    // Deleted first, so that the map stays ordered by start.
    this.#runs.delete(job.jobId);
    this.#runs.set(job.jobId, run);
    this.#options.logger.info({ job_id: job.jobId, attempt: job.attempt }, "run started");
    return run;
  }

  #finished(run: Run, end: RunEnd): void {
    run.finishedAt = end.finishedAt;
    // For what somebody may still want; one that was forsaken has nothing to tell.
    if (end.status === "SUCCESS") run.uncalledSince = undefined;
    this.#running -= 1;
    run.events.add({ state: END_STATES[end.status] });
    run.events.close();
    this.#forgetOldLogs();
    const { jobId: job_id, attempt } = run;
    this.#options.logger.info({ job_id, attempt, status: end.status, failure: end.failure }, "run ended");
    if (this.#running === 0) for (const resolve of this.#idle.splice(0)) resolve();
  }

  /** Results that nobody can take, as while the broker is away, must not pile up with all their lines. */
  #forgetOldLogs(): void {
    const ended = [...this.#runs.values()].filter((run) => run.finishedAt);
    for (const run of ended.slice(0, -ENDED_WITH_LOG)) run.events.forgetLines();
  }

  #forgetOld(): void {
    for (const [jobId, { at }] of this.#acknowledged) {
      if (!isPast(at, REMEMBER_ACKNOWLEDGED_MS)) break;
      this.#acknowledged.delete(jobId);
    }
    const finished = [...this.#runs.values()].filter((run) => run.finishedAt);
    const oldestKept = Date.now() - this.#options.keepFinishedMs;
    const surplus = finished.length - this.#options.keepFinishedCount;
    finished.forEach((run, index) => {
      const isOld = (run.finishedAt?.getTime() ?? 0) < oldestKept;
      if (isOld || index < surplus) this.#runs.delete(run.jobId);
    });
  }
}

function wireStep({ number, name, startedAt, end }: BuildStep): WireBuildStep {
  return {
    number,
    name,
    startedAt: startedAt.toISOString(),
    endedAt: end?.at.toISOString() ?? "",
    durationMs: end?.durationMs ?? 0,
    cached: end?.isCached ?? false,
    error: end?.error ?? "",
  };
}

function isPast(sinceMs: number, durationMs: number): boolean {
  return performance.now() - sinceMs > durationMs;
}

const END_STATES = {
  SUCCESS: RunState.RUN_STATE_SUCCEEDED,
  FAILED: RunState.RUN_STATE_FAILED,
  CANCELLED: RunState.RUN_STATE_CANCELLED,
} as const;
