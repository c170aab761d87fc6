/**
 * Dispatcher: takes a waiting job from a ready queue only when a slot is free for it, claims a worker and starts the
 * Job Runner. The job's message stays unacked from here until its result is confirmed.
 *
 * It sweeps the ready queues when something may have changed: a job arrived, a slot became free, a worker registered.
 * It also polls once a second, for messages that return to a queue without a hint: those of an orchestrator that died or
 * has requeued them.
 */
import { waitAtMost } from "../shared/abort.ts";
import { type Job, PRIORITIES } from "../shared/job.ts";
import type { Logger } from "../shared/logging.ts";
import { type MessageRules, readJobMessage } from "./job/message.ts";
import type { HeldJob, JobRunner } from "./job-runner.ts";
import { type Leases, LeasesUnavailable } from "./leases/leases.ts";
import { FALLBACK_QUEUES } from "./parking.ts";
import type { JobQueue, ReadyDelivery, ReadyQueue } from "./queue/queue.ts";
import { type JobRecords, RecordsUnavailable } from "./records/job-records.ts";
import type { ResultHandler } from "./result-handler.ts";
import type { WorkerManager } from "./worker-manager.ts";
import type { Assignment } from "./workers/assignment.ts";
import { FreeSlots, type PlacementRequirements } from "./workers/free-slots.ts";

const POLL_INTERVAL_MS = 1000;
/** Upper bound of held jobs per region that any worker could build but that have no free slot; see `#canTakeFrom`. */
const MAX_UNPLACED_PER_REGION = 16;
/** Upper bound of all held jobs per region, with those that need special capabilities or were taken for recovery. */
const MAX_HELD_PER_REGION = 64;
/** How long the last sweep may take after `stop`, for example while Redis does not answer. */
const SWEEP_END_MS = 3000;
/** How long `stop` may return held jobs to a slow broker: less than what systemd grants a stop, with what follows. */
const RETURN_HELD_MS = 15_000;

export interface DispatcherParts {
  readonly queue: JobQueue;
  readonly leases: Leases;
  readonly records: JobRecords;
  readonly workers: WorkerManager;
  readonly runner: JobRunner;
  readonly results: ResultHandler;
  readonly rules: Omit<MessageRules, "defaultRegion">;
  readonly regionFallback: readonly string[];
  readonly logger: Logger;
  /** Default 1 s. */
  readonly pollIntervalMs?: number;
}

export class Dispatcher {
  readonly #parts: DispatcherParts;
  /** Ready queues that may contain a message, by region and priority. */
  readonly #hinted = new Map<string, ReadyQueue>();
  /** Jobs without a worker: another orchestrator was faster, or no worker is free or able to build them. */
  #held: readonly HeldJob[] = [];
  /** By job id: jobs that this orchestrator processes, so that a job with two messages in the queues runs once. */
  readonly #running = new Map<string, Promise<void>>();
  /** Further messages of running jobs, until the processing of the one before has ended. */
  readonly #following = new Set<Promise<void>>();
  /** Ids of running jobs whose outcome no orchestrator waits for; see `recoverUnawaited`. */
  #unawaited: ReadonlySet<string> = new Set();
  #sweep: Promise<void> | undefined;
  #isDue = false;
  /** The next sweep tries to place each held job with special needs: it may have waited long enough to fail. */
  #isPollDue = false;
  #isPaused = false;
  #returning: Promise<void> = Promise.resolve();
  #timer: NodeJS.Timeout | undefined;

  constructor(parts: DispatcherParts) {
    this.#parts = parts;
  }

  start(): void {
    this.#parts.queue.onReady((readyQueue) => {
      this.#hint(readyQueue);
      this.#wake();
    });
    this.#parts.leases.onChange(() => this.#wake());
    this.#timer = setInterval(() => {
      this.#isPollDue = true;
      this.#hintAll();
      this.#wake();
    }, this.#parts.pollIntervalMs ?? POLL_INTERVAL_MS);
  }

  /** The jobs that this orchestrator processes now. */
  get running(): number {
    return this.#running.size;
  }

  /** Handles the job now if it is held or first in its ready queue; otherwise when its message is taken. */
  onCancelled(jobId: string): void {
    this.recoverUnawaited([jobId]);
  }

  /**
   * No orchestrator waits for the runs of these jobs: the one that held their messages has died, or the broker has
   * revoked the deliveries, so the messages are at the front of their ready queues again. Their runs occupy slots, so
   * taking them must not depend on a free slot: the next sweep takes messages of each ready queue unconditionally, up to
   * the first one of another job.
   */
  recoverUnawaited(jobIds: readonly string[]): void {
    const unawaited = jobIds.filter((jobId) => !this.#running.has(jobId));
    if (unawaited.length === 0) return;
    this.#unawaited = new Set([...this.#unawaited, ...unawaited]);
    this.#hintAll();
    this.#wake();
  }

  /**
   * Takes no more jobs and returns the held ones to their queues. Running jobs continue until the queue is closed. Waits a
   * limited time: what is still held then returns when the queue is closed, in any order.
   */
  async stop(): Promise<void> {
    clearInterval(this.#timer);
    const returned = this.pause();
    await waitAtMost(SWEEP_END_MS, Promise.resolve(this.#sweep));
    if (this.#sweep === undefined) await waitAtMost(RETURN_HELD_MS, returned);
  }

  /** As `stop`, until `resume`. */
  async pause(): Promise<void> {
    this.#isPaused = true;
    await this.returnHeld();
  }

  resume(): void {
    this.#isPaused = false;
    this.#hintAll();
    this.#wake();
  }

  /** Another orchestrator may have a worker for them. They are returned in their order, also those of several calls. */
  returnHeld(): Promise<void> {
    this.#returning = this.#returning.then(() => this.#returnAll());
    return this.#returning;
  }

  async #returnAll(): Promise<void> {
    await this.#sweep;
    const held = this.#held;
    this.#held = [];
    let isAnswered = true;
    for (const { delivery } of held) {
      const returned = delivery.requeue();
      if (isAnswered) isAnswered = await returned;
    }
  }

  /** Resolves when this orchestrator processes no job; call after `stop`. */
  async idle(): Promise<void> {
    await Promise.all([...this.#running.values(), ...this.#following]);
  }

  #hint(readyQueue: ReadyQueue): void {
    this.#hinted.set(keyOf(readyQueue), readyQueue);
  }

  #hintAll(): void {
    for (const region of this.#parts.queue.regions()) {
      for (const priority of PRIORITIES) this.#hint({ region, priority });
    }
  }

  /** One sweep at a time; a hint during a sweep causes another one. */
  #wake(): void {
    if (this.#isPaused) return;
    this.#isDue = true;
    this.#sweep ??= this.#sweepWhileDue();
  }

  async #sweepWhileDue(): Promise<void> {
    while (this.#isDue && !this.#isPaused) {
      this.#isDue = false;
      try {
        await this.#sweepOnce();
      } catch (error) {
        // The Redis client logs its own failures; the next poll tries again.
        if (!(error instanceof LeasesUnavailable || error instanceof RecordsUnavailable))
          this.#parts.logger.error({ err: error }, "dispatch failed");
        break;
      }
    }
    // In the same step as the last check of `#isDue`: a hint in between would cause no sweep.
    this.#sweep = undefined;
  }

  async #sweepOnce(): Promise<void> {
    const { leases, queue } = this.#parts;
    if (!leases.isReady || !queue.isReady) return;
    if (this.#hinted.size === 0 && this.#held.length === 0) return;
    const unawaited = new Set(this.#unawaited);
    const isPoll = this.#isPollDue;
    this.#unawaited = new Set();
    this.#isPollDue = false;
    const free = new FreeSlots(await leases.freeSlots());
    // Jobs of a region come before those that fall back to it, whether they are held or wait in their queue.
    await this.#placeHeld(free, (requirements, job) => {
      const isForced = unawaited.has(job.jobId) || (isPoll && requirements.needs.length > 0);
      return isForced || free.fit({ ...requirements, regions: [job.workerRegion] });
    });
    for (const readyQueue of this.#hintedQueues()) {
      while (this.#canTakeFrom(readyQueue) && free.hasAnyIn([readyQueue.region])) {
        if ((await this.#dispatchOne(readyQueue, free)) === undefined) break;
      }
    }
    await this.#placeHeld(free, (requirements) => free.fit(requirements));
    await this.#dispatchByTurns(free);
    for (const readyQueue of this.#hintedQueues()) await this.#recoverFrom(readyQueue, free, unawaited);
  }

  /** By priority. */
  #hintedQueues(): readonly ReadyQueue[] {
    const hinted = [...this.#hinted.values()];
    return PRIORITIES.flatMap((priority) => hinted.filter((each) => each.priority === priority));
  }

  /** Tries to place the held jobs that `isDue` selects; the others stay held, in their order. */
  async #placeHeld(
    free: FreeSlots,
    isDue: (requirements: PlacementRequirements, job: Job) => boolean,
  ): Promise<void> {
    const waiting = this.#held.filter(({ delivery }) => !delivery.revoked.aborted);
    this.#held = [];
    for (const [index, held] of waiting.entries()) {
      try {
        if (!this.#isPaused && isDue(this.#parts.workers.requirementsOf(held.job), held.job))
          await this.#placeOrHold(held, free);
        else this.#hold(held);
      } catch (error) {
        for (const untried of waiting.slice(index + 1)) this.#hold(untried);
        throw error;
      }
    }
  }

  /** Jobs for slots of fallback regions: one of each queue in turn, so that no region's backlog blocks another's. */
  async #dispatchByTurns(free: FreeSlots): Promise<void> {
    let queues = this.#hintedQueues();
    while (queues.length > 0) {
      const taken: ReadyQueue[] = [];
      for (const readyQueue of queues) {
        if (!this.#canTakeFrom(readyQueue) || !this.#mayFallBack(readyQueue, free)) continue;
        if ((await this.#dispatchOne(readyQueue, free)) !== undefined) taken.push(readyQueue);
      }
      queues = taken;
    }
  }

  /** Takes messages even without a free slot; see `recoverUnawaited`. Removes the jobs that it has found. */
  async #recoverFrom(readyQueue: ReadyQueue, free: FreeSlots, unawaited: Set<string>): Promise<void> {
    while (unawaited.size > 0 && this.#canTakeFrom(readyQueue)) {
      const jobId = await this.#dispatchOne(readyQueue, free);
      if (jobId === undefined || !unawaited.delete(jobId)) return;
    }
  }

  /** Returns the id of the job whose message was taken; undefined: the ready queue is empty. */
  async #dispatchOne(readyQueue: ReadyQueue, free: FreeSlots): Promise<string | undefined> {
    // Removed first: a hint that arrives while the queue is found empty has to stay.
    this.#hinted.delete(keyOf(readyQueue));
    let delivery: ReadyDelivery | undefined;
    try {
      delivery = await this.#parts.queue.take(readyQueue);
    } catch (error) {
      this.#hint(readyQueue);
      throw error;
    }
    if (!delivery) return undefined;
    this.#hint(readyQueue);
    const job = await this.#read(delivery);
    if (job) await this.#placeOrHold({ delivery, job }, free);
    return delivery.envelope.jobId;
  }

  #canTakeFrom(readyQueue: ReadyQueue): boolean {
    return !this.#isPaused && this.#heldInRegionOf(readyQueue).length < MAX_HELD_PER_REGION;
  }

  /**
   * A free slot in a fallback region fits jobs that do not require their region. A job's needs and region policy are
   * known only once its message is taken, so a limited number of jobs that the slot does not fit may be held. The regions
   * of jobs in the fallback queues may be known by now.
   */
  #mayFallBack(readyQueue: ReadyQueue, free: FreeSlots): boolean {
    const { region } = readyQueue;
    const mayFit =
      region === FALLBACK_QUEUES ? free.hasAny : free.hasAnyIn([region, ...this.#parts.regionFallback]);
    if (!mayFit) return false;
    const unplaced = this.#heldInRegionOf(readyQueue).filter(
      ({ job }) => this.#parts.workers.requirementsOf(job).needs.length === 0,
    );
    return unplaced.length < MAX_UNPLACED_PER_REGION;
  }

  #heldInRegionOf(readyQueue: ReadyQueue): readonly HeldJob[] {
    return this.#held.filter((held) => held.delivery.readyQueue.region === readyQueue.region);
  }

  /** Places the job, else holds it: also after an error, so that no taken job is lost. */
  async #placeOrHold(held: HeldJob, free: FreeSlots): Promise<void> {
    try {
      if (!(await this.#tryPlace(held, free))) this.#hold(held);
    } catch (error) {
      this.#hold(held);
      throw error;
    }
  }

  /** False: no worker is available for it now. Updates `free`. */
  async #tryPlace(held: HeldJob, free: FreeSlots): Promise<boolean> {
    const { delivery, job } = held;
    const { records, results, workers } = this.#parts;
    const running = this.#running.get(job.jobId);
    if (running) {
      this.#follow(held, running);
      return true;
    }
    // The job may have ended already: it was cancelled, or another orchestrator handled it before the redelivery.
    const result = await records.result(job.jobId);
    if (result) {
      // Not awaited: another orchestrator may be publishing it, and other jobs must not wait for that.
      this.#track(held, results.settle(delivery, result));
      return true;
    }
    const placement = await workers.place(job, delivery);
    const requirements = workers.requirementsOf(job);
    if (placement.kind === "none") {
      free.exhausted(requirements);
      return false;
    }
    if (placement.kind === "cancelled") {
      this.#track(held, results.settleCancelled(delivery, job, placement.reason, placement.attempts));
      return true;
    }
    if (placement.kind === "unsupported") {
      this.#track(held, results.settleUnsupported(delivery, job, placement.reason, placement.attempts));
      return true;
    }
    free.claimed(requirements);
    this.#track(held, this.#run(held, placement.assignment));
    return true;
  }

  #hold(held: HeldJob): void {
    this.#held = [...this.#held, held];
    if (this.#isPaused) void this.returnHeld();
  }

  async #run(held: HeldJob, assignment: Assignment): Promise<void> {
    if ((await this.#parts.runner.run(held, assignment)) === "refused") this.#hold(held);
  }

  #track(held: HeldJob, work: Promise<void>): void {
    const { jobId } = held.job;
    const tracked = this.#completed(held, work).finally(() => {
      if (this.#running.get(jobId) === tracked) this.#running.delete(jobId);
      this.#wake();
    });
    this.#running.set(jobId, tracked);
  }

  /** Not in `#running`: two messages that wait for each other's end there would never be placed. */
  #follow(held: HeldJob, running: Promise<void>): void {
    const settled = running.then(() => this.#settleOrHold(held));
    const following = this.#completed(held, settled).finally(() => {
      this.#following.delete(following);
      this.#wake();
    });
    this.#following.add(following);
  }

  /** Never rejects: the job is held after an error, unless its message is another orchestrator's by now. */
  async #completed(held: HeldJob, work: Promise<void>): Promise<void> {
    try {
      await work;
    } catch (error) {
      if (held.delivery.revoked.aborted) return;
      const fields = { err: error, job_id: held.job.jobId };
      if (error instanceof LeasesUnavailable || error instanceof RecordsUnavailable)
        this.#parts.logger.warn(fields, "leases or job records unavailable; the job is processed later");
      else this.#parts.logger.error(fields, "failed to process the job; trying again");
      this.#hold(held);
    }
  }

  /** The job had a second message; processing that one has ended, with or without a result. */
  async #settleOrHold(held: HeldJob): Promise<void> {
    if (!(await this.#parts.runner.settleEnded(held))) this.#hold(held);
  }

  /** Undefined: not a valid job any more (the rules have changed since its intake); its FAILED result was published. */
  async #read(delivery: ReadyDelivery): Promise<Job | undefined> {
    const { jobId, defaultRegion } = delivery.envelope;
    const message = readJobMessage(delivery.body, delivery.properties, {
      ...this.#parts.rules,
      defaultRegion,
    });
    if (message.kind === "job") return { ...message.job, jobId };
    await this.#parts.results.settleInvalid(delivery, message.problems.join("; "));
    return undefined;
  }
}

function keyOf({ region, priority }: ReadyQueue): string {
  return `${region}.${priority}`;
}
