/**
 * The runs of this worker. A run is identified by job and attempt; proto/blacktree/v1/worker.proto describes its life.
 * Invariants: never more runs at once than slots; two attempts of one job only while the older one is being ended; one
 * outcome per run, the same for every caller.
 */

import { type BuildStepView, finalState, type Outcome, type RunRef } from "../../shared/job.ts";
import type { Logger } from "../../shared/logging.ts";
import type { JobEvent } from "../../shared/rpc/generated/blacktree/v1/worker.ts";
import { LeaseLost, RunCancelled, RunTimeout } from "../job/cancellation.ts";
import type { PipelineJob } from "../job/job.ts";
import type { RunReporter } from "../pipeline/pipeline-parts.ts";
import type { RunEnd } from "../pipeline/run-end.ts";
import { Abandonment, type AwaitedRun, isPast } from "./abandonment.ts";
import { BuildSteps, viewOf } from "./build-steps.ts";
import type { Journal } from "./journal.ts";
import type { Journals } from "./journals.ts";
import { events, type WatchOptions } from "./run-events.ts";
import { type LogLimits, RunLog } from "./run-log.ts";

/** This worker does not hold the run, or a newer attempt has replaced it. */
export class StaleRun extends Error {
  override readonly name = "StaleRun";
}

/** The worker accepts no new run now. */
export class NoFreeSlot extends Error {
  override readonly name = "NoFreeSlot";
}

export type Execute = (job: PipelineJob, reporter: RunReporter, signal: AbortSignal) => Promise<RunEnd>;

export interface RunsOptions {
  readonly slots: number;
  readonly logLimits: LogLimits;
  readonly journals: Journals;
  readonly execute: Execute;
  /** Why no new run is accepted though slots are free; undefined when runs are accepted. */
  readonly refusal?: () => string | undefined;
  readonly logger: Logger;
  /** How long an unacknowledged outcome is kept, in ms. */
  readonly keepFinishedMs: number;
  /** How many unacknowledged outcomes are kept. */
  readonly keepFinishedCount: number;
  /** A run that no orchestrator has called for this long, in ms, counts as abandoned. See abandonment.ts. */
  readonly abandonAfterMs: number;
}

interface Run extends RunRef, AwaitedRun {
  readonly journal: Journal;
  readonly steps: BuildSteps;
  readonly abort: AbortController;
  readonly outcome: Promise<Outcome>;
  finishedAt: Date | undefined;
}

/** Longer than a RunJob call can take to arrive that was sent before the run was acknowledged. */
const REMEMBER_ACKNOWLEDGED_MS = 60_000;

interface Acknowledged {
  readonly attempt: number;
  readonly at: number;
}

export class Runs {
  readonly #options: RunsOptions;
  readonly #abandonment: Abandonment;
  /** Newest last; one entry per job, since a newer attempt replaces the older one. */
  readonly #runs = new Map<string, Run>();
  /** Only their logs are of interest. */
  readonly #replaced = new Set<Run>();
  /** By job, oldest first: an attempt that was just acknowledged must not start again. */
  readonly #acknowledged = new Map<string, Acknowledged>();
  #running = 0;
  #ended = 0;
  #isDraining = false;
  #idle: (() => void)[] = [];
  #allAcknowledged: (() => void)[] = [];

  constructor(options: RunsOptions) {
    this.#options = options;
    this.#abandonment = new Abandonment(options.abandonAfterMs);
  }

  status(): "FREE" | "BUSY" | "DRAINING" {
    if (this.#isDraining) return "DRAINING";
    return this.#running < this.#options.slots && this.refusal() === undefined ? "FREE" : "BUSY";
  }

  get running(): number {
    return this.#running;
  }

  /** Since the worker's start. */
  get ended(): number {
    return this.#ended;
  }

  refusal(): string | undefined {
    return this.#options.refusal?.();
  }

  /** Runs under way, and ended ones that wait for their acknowledgement, unless they are abandoned. */
  held(): readonly RunRef[] {
    this.#forgetOld();
    return this.#reported().map(({ jobId, attempt }) => ({ jobId, attempt }));
  }

  /** Ended runs that a newer attempt has replaced, until they are acknowledged. */
  replaced(): readonly RunRef[] {
    return [...this.#replaced].map(({ jobId, attempt }) => ({ jobId, attempt }));
  }

  #reported(): readonly Run[] {
    return this.#abandonment.reported(this.#runs.values());
  }

  isAbandoned(ref: RunRef): boolean {
    const run = this.#find(ref);
    return run !== undefined && this.#abandonment.isAbandoned(run);
  }

  /** An orchestrator that does not reach the broker cannot call for an outcome, so its pings do not count. */
  pinged({ reachesBroker }: { readonly reachesBroker: boolean }): void {
    if (reachesBroker) this.#abandonment.pinged(this.#runs.values());
  }

  /**
   * Starts the run or attaches to it. `timeoutMs` counts from the start; attaching does not extend it.
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
    // A higher attempt exists only because the claim of the lower one has ended.
    known?.abort.abort(new LeaseLost());
    if (this.status() !== "FREE") {
      throw new NoFreeSlot(this.refusal() ?? `all ${this.#options.slots} slots are taken`);
    }
    return this.#start(job, timeoutMs).outcome;
  }

  /** A caller waits for the run's outcome until `ended` aborts. */
  awaited(ref: RunRef, ended: AbortSignal): void {
    const run = this.#find(ref);
    if (!run || ended.aborted) return;
    run.waiting += 1;
    ended.addEventListener("abort", () => (run.waiting -= 1), { once: true });
  }

  /** Jobs of the held runs whose outcome no caller waits for. */
  unawaited(): readonly string[] {
    return this.#reported()
      .filter(({ waiting }) => waiting === 0)
      .map(({ jobId }) => jobId);
  }

  /** Events of the run until it ends or `signal` aborts. @throws StaleRun when this worker does not hold it. */
  watch(ref: RunRef, options: WatchOptions, signal: AbortSignal): AsyncIterable<JobEvent> {
    return events(this.#get(ref).journal, options, signal);
  }

  /**
   * The run's journal until it ends or `signal` aborts.
   * @throws StaleRun when this worker does not hold the run; JournalRemoved
   */
  readLog(
    ref: RunRef,
    afterSeq: number,
    signal: AbortSignal,
    { pastOnly = false } = {},
  ): AsyncIterable<Buffer> {
    return this.#get(ref).journal.entries(afterSeq, signal, { pastOnly });
  }

  /** The build steps so far. @throws StaleRun when this worker does not hold the run. */
  steps(ref: RunRef): readonly BuildStepView[] {
    return this.#get(ref).steps.list();
  }

  /** Returns false when the run is not under way. */
  cancel(ref: RunRef, reason: string): boolean {
    const run = this.#find(ref);
    if (!run || run.finishedAt) return false;
    run.abort.abort(new RunCancelled(reason));
    return true;
  }

  acknowledge(ref: RunRef): void {
    const run = this.#find(ref);
    if (run?.finishedAt) {
      this.#forget(run);
      this.#acknowledged.delete(ref.jobId);
      this.#acknowledged.set(ref.jobId, { attempt: ref.attempt, at: performance.now() });
    }
    const replaced = this.#findReplaced(ref);
    if (replaced) this.#forget(replaced);
    if (this.#isEmpty) for (const resolve of this.#allAcknowledged.splice(0)) resolve();
  }

  /** Accepts no new runs from now on; resolves when none is under way. */
  async drain(): Promise<void> {
    this.#isDraining = true;
    if (this.#running > 0) await new Promise<void>((resolve) => this.#idle.push(resolve));
  }

  /** Resolves when every outcome is acknowledged. Call after `drain`. */
  async acknowledged(): Promise<void> {
    if (!this.#isEmpty) await new Promise<void>((resolve) => this.#allAcknowledged.push(resolve));
  }

  endAll(reason: Error): void {
    for (const run of this.#runs.values()) if (!run.finishedAt) run.abort.abort(reason);
  }

  #find(ref: RunRef): Run | undefined {
    const run = this.#runs.get(ref.jobId);
    return run?.attempt === ref.attempt ? run : undefined;
  }

  #findReplaced({ jobId, attempt }: RunRef): Run | undefined {
    return [...this.#replaced].find((run) => run.jobId === jobId && run.attempt === attempt);
  }

  get #isEmpty(): boolean {
    return this.#runs.size === 0 && this.#replaced.size === 0;
  }

  #get(ref: RunRef): Run {
    const run = this.#find(ref) ?? this.#findReplaced(ref);
    if (run) return run;
    throw new StaleRun(`attempt ${ref.attempt} of job ${ref.jobId} is not held here`);
  }

  #start(job: PipelineJob, timeoutMs: number): Run {
    const journal = this.#options.journals.create(job);
    const log = new RunLog(this.#options.logLimits, journal);
    const steps = new BuildSteps();
    const abort = new AbortController();
    const timeout = setTimeout(() => abort.abort(new RunTimeout(timeoutMs)), timeoutMs);
    this.#running += 1;
    const reporter: RunReporter = {
      state: (state) => journal.append({ state }),
      log: (line) => log.add(line),
      step: (reported) => {
        const step = viewOf(reported);
        steps.add(step);
        journal.append({ step });
      },
    };
    const limited = { ...job, deadlineMs: performance.now() + timeoutMs };
    const outcome = this.#options.execute(limited, reporter, abort.signal).then((end) => {
      clearTimeout(timeout);
      log.end();
      this.#finished(run, end);
      return { ...end, logs: log.tail(), log: log.summary(), steps: steps.list() };
    });
    const run: Run = {
      jobId: job.jobId,
      attempt: job.attempt,
      journal,
      steps,
      abort,
      outcome,
      finishedAt: undefined,
      waiting: 0,
      unawaitedSince: undefined,
    };
    // Deleted first, so the map stays in the order of starts.
    const replaced = this.#runs.get(job.jobId);
    this.#runs.delete(job.jobId);
    if (replaced?.finishedAt) this.#replaced.add(replaced);
    this.#runs.set(job.jobId, run);
    const { jobId: job_id, attempt, tenant } = job;
    this.#options.logger.info({ job_id, attempt, tenant }, "run started");
    return run;
  }

  #finished(run: Run, end: RunEnd): void {
    run.finishedAt = end.finishedAt;
    // A success is worth waiting for: its image exists.
    if (end.status === "SUCCESS") run.unawaitedSince = undefined;
    this.#running -= 1;
    this.#ended += 1;
    run.journal.append({ state: finalState(end) });
    run.journal.close();
    const isReplaced = this.#runs.get(run.jobId) !== run;
    if (isReplaced) this.#options.journals.forget(run.journal);
    else this.#options.journals.ended(run.journal);
    const { jobId: job_id, attempt } = run;
    this.#options.logger.info({ job_id, attempt, status: end.status, failure: end.failure }, "run ended");
    if (this.#running === 0) for (const resolve of this.#idle.splice(0)) resolve();
  }

  #forget(run: Run): void {
    if (!this.#replaced.delete(run)) this.#runs.delete(run.jobId);
    this.#options.journals.forget(run.journal);
  }

  #forgetOld(): void {
    for (const [jobId, { at }] of this.#acknowledged) {
      if (!isPast(at, REMEMBER_ACKNOWLEDGED_MS)) break;
      this.#acknowledged.delete(jobId);
    }
    const finished = [...this.#replaced, ...this.#runs.values()].filter((run) => run.finishedAt);
    const oldestKept = Date.now() - this.#options.keepFinishedMs;
    const surplus = finished.length - this.#options.keepFinishedCount;
    finished.forEach((run, index) => {
      const isOld = (run.finishedAt?.getTime() ?? 0) < oldestKept;
      if (isOld || index < surplus) this.#forget(run);
    });
  }
}
