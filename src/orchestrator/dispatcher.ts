/**
 * Dispatcher: takes a waiting job only when a slot is free for it, leases a worker, has it run there, and hands the
 * outcome on. A job's message stays unacked from here until its result is confirmed.
 *
 * It sweeps the lanes whenever something may have changed: a job came in, a slot became free, a worker appeared. Hints
 * may be missed, so it also looks by itself once a second.
 */
import { type Job, PRIORITIES } from "../shared/job.ts";
import type { Logger } from "../shared/logging.ts";
import { type MessageRules, readJobMessage } from "./job/message.ts";
import type { HeldJob, JobRunner } from "./job-runner.ts";
import { type Leases, LeasesUnavailable } from "./leases/leases.ts";
import type { JobQueue, Lane, ReadyDelivery } from "./queue/queue.ts";
import { type JobRecords, RecordsUnavailable } from "./records/job-records.ts";
import type { ResultHandler } from "./result-handler.ts";
import type { WorkerManager } from "./worker-manager.ts";
import type { Assignment } from "./workers/assignment.ts";
import { FreeSlots } from "./workers/free-slots.ts";

const POLL_INTERVAL_MS = 1000;
/** Jobs of one lane that may be in hand without a worker; see `#canTakeFrom`. */
const MAX_UNPLACED_PER_REGION = 16;
/** And at most so many while a run's message is looked for, or of those that wait for a worker that can build them. */
const MAX_HELD_PER_REGION = 64;

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
}

export class Dispatcher {
  readonly #parts: DispatcherParts;
  /** Lanes that may hold a message. */
  readonly #hinted = new Map<string, Lane>();
  /** Jobs that found no worker: another orchestrator was faster, their region has none, or those there cannot build them. */
  #held: readonly HeldJob[] = [];
  /** By job id: jobs in the hands of this orchestrator, so that a job that lies in a lane twice runs once. */
  readonly #running = new Map<string, Promise<void>>();
  /** Jobs that run while nobody waits for them; see `recoverUnawaited`. */
  #unawaited: ReadonlySet<string> = new Set();
  #sweep: Promise<void> | undefined;
  #isDue = false;
  /** The time has come to ask for every job that needs what its workers cannot: it may have waited for long enough. */
  #isPollDue = false;
  #isStopped = false;
  #timer: NodeJS.Timeout | undefined;

  constructor(parts: DispatcherParts) {
    this.#parts = parts;
  }

  start(): void {
    this.#parts.queue.onReady((lane) => {
      this.#hint(lane);
      this.#wake();
    });
    this.#parts.leases.onChange(() => this.#wake());
    this.#timer = setInterval(() => {
      this.#isPollDue = true;
      this.#hintAll();
      this.#wake();
    }, POLL_INTERVAL_MS);
  }

  /** It may be in hand, or first in its lane; deeper in there it is found to have ended when its turn comes. */
  onCancelled(jobId: string): void {
    this.recoverUnawaited([jobId]);
  }

  /**
   * Nobody waits for the runs of these jobs: whoever had their messages has died, or the broker took them back, and
   * they lie in their lanes once more, at the front. The slots of their runs are not free, so taking them cannot wait for
   * a free one: the next sweep takes one message of each lane all the same.
   */
  recoverUnawaited(jobIds: readonly string[]): void {
    const unawaited = jobIds.filter((jobId) => !this.#running.has(jobId));
    if (unawaited.length === 0) return;
    this.#unawaited = new Set([...this.#unawaited, ...unawaited]);
    this.#hintAll();
    this.#wake();
  }

  /** Takes nothing more; what is in hand without a worker goes back. Running jobs go on until the queue is closed. */
  async stop(): Promise<void> {
    this.#isStopped = true;
    clearInterval(this.#timer);
    await this.#sweep;
    for (const { delivery } of this.#held) delivery.requeue();
    this.#held = [];
  }

  /** Resolves when no job is in this orchestrator's hands; call after `stop`. */
  async idle(): Promise<void> {
    await Promise.all(this.#running.values());
  }

  #hint(lane: Lane): void {
    this.#hinted.set(`${lane.region}.${lane.priority}`, lane);
  }

  #hintAll(): void {
    for (const region of this.#parts.queue.regions())
      for (const priority of PRIORITIES) this.#hint({ region, priority });
  }

  /** One sweep at a time; a hint during a sweep makes another one. */
  #wake(): void {
    if (this.#isStopped) return;
    this.#isDue = true;
    this.#sweep ??= this.#sweepWhileDue().finally(() => {
      this.#sweep = undefined;
    });
  }

  async #sweepWhileDue(): Promise<void> {
    while (this.#isDue && !this.#isStopped) {
      this.#isDue = false;
      try {
        await this.#sweepOnce();
      } catch (error) {
        // Redis has its own log line; the next look tries again.
        if (!(error instanceof LeasesUnavailable || error instanceof RecordsUnavailable))
          this.#parts.logger.error({ err: error }, "dispatch failed");
        return;
      }
    }
  }

  async #sweepOnce(): Promise<void> {
    const { leases, queue } = this.#parts;
    if (!leases.isReady || !queue.isReady) return;
    if (this.#hinted.size === 0 && this.#held.length === 0) return;
    const unawaited = this.#unawaited;
    this.#unawaited = new Set();
    const free = new FreeSlots(await leases.freeSlots());
    await this.#placeHeld(free, unawaited);
    for (const priority of PRIORITIES) {
      for (const lane of [...this.#hinted.values()].filter((hinted) => hinted.priority === priority)) {
        await this.#dispatchFrom(lane, free);
        if (unawaited.size > 0) await this.#dispatchFirst(lane, free);
      }
    }
  }

  async #placeHeld(free: FreeSlots, unawaited: ReadonlySet<string>): Promise<void> {
    const waiting = this.#held.filter(({ delivery }) => !delivery.takenBack.aborted);
    const isPoll = this.#isPollDue;
    this.#held = [];
    this.#isPollDue = false;
    for (const held of waiting) {
      const requirements = this.#parts.workers.requirementsOf(held.job);
      const isForced = unawaited.has(held.job.jobId) || (isPoll && requirements.needs.length > 0);
      if (isForced || free.fit(requirements)) await this.#placeOrHold(held, free);
      else this.#hold(held);
    }
  }

  async #dispatchFrom(lane: Lane, free: FreeSlots): Promise<void> {
    while (!this.#isStopped && this.#canTakeFrom(lane, free)) {
      if (!(await this.#dispatchOne(lane, free))) return;
    }
  }

  /** Takes one message whatever is free; see `recoverUnawaited`. */
  async #dispatchFirst(lane: Lane, free: FreeSlots): Promise<void> {
    if (!this.#isStopped && this.#heldInRegionOf(lane).length < MAX_HELD_PER_REGION)
      await this.#dispatchOne(lane, free);
  }

  /** False: the lane is empty. */
  async #dispatchOne(lane: Lane, free: FreeSlots): Promise<boolean> {
    const delivery = await this.#parts.queue.take(lane);
    if (!delivery) {
      this.#hinted.delete(`${lane.region}.${lane.priority}`);
      return false;
    }
    const job = await this.#read(delivery);
    if (job) await this.#placeOrHold({ delivery, job }, free);
    return true;
  }

  /**
   * A slot in the lane's own region fits every job of it whose worker need not have special abilities. A slot elsewhere
   * fits those that do not insist on their region. Both only show once a job is in hand; so a few that the slot does not
   * fit may be held meanwhile.
   */
  #canTakeFrom(lane: Lane, free: FreeSlots): boolean {
    const held = this.#heldInRegionOf(lane);
    if (held.length >= MAX_HELD_PER_REGION) return false;
    if (free.hasAnyIn([lane.region])) return true;
    const waitingForSlot = held.filter(
      ({ job }) => this.#parts.workers.requirementsOf(job).needs.length === 0,
    );
    return free.hasAnyIn(this.#parts.regionFallback) && waitingForSlot.length < MAX_UNPLACED_PER_REGION;
  }

  #heldInRegionOf(lane: Lane): readonly HeldJob[] {
    return this.#held.filter((held) => held.delivery.lane.region === lane.region);
  }

  /** Gives the job to a worker, or holds it: whatever fails on the way, a job in hand stays in sight. */
  async #placeOrHold(held: HeldJob, free: FreeSlots): Promise<void> {
    try {
      if (!(await this.#tryPlace(held, free))) this.#hold(held);
    } catch (error) {
      this.#hold(held);
      throw error;
    }
  }

  /** False: no worker for it now. `free` is brought up to date. */
  async #tryPlace(held: HeldJob, free: FreeSlots): Promise<boolean> {
    const { delivery, job } = held;
    const { records, results, workers } = this.#parts;
    const running = this.#running.get(job.jobId);
    if (running) {
      this.#track(
        held,
        running.then(() => this.#settleOrHold(held)),
      );
      return true;
    }
    // It may have ended before it ran: cancelled, or a message that had been in somebody's hands.
    const result = await records.result(job.jobId);
    if (result) {
      // Not waited for: another orchestrator may be publishing it, and other jobs need not wait for that.
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
  }

  async #run(held: HeldJob, assignment: Assignment): Promise<void> {
    if ((await this.#parts.runner.run(held, assignment)) === "refused") this.#hold(held);
  }

  #track(held: HeldJob, work: Promise<void>): void {
    const { jobId } = held.job;
    const tracked = work
      .catch((error: unknown) => {
        this.#parts.logger.error(
          { err: error, job_id: jobId },
          "dispatch of a job failed; it is tried again",
        );
        this.#hold(held);
      })
      .finally(() => {
        if (this.#running.get(jobId) === tracked) this.#running.delete(jobId);
        this.#wake();
      });
    this.#running.set(jobId, tracked);
  }

  /** The job lay in a lane twice; the other one has ended, one way or another. */
  async #settleOrHold(held: HeldJob): Promise<void> {
    if (!(await this.#parts.runner.settleEnded(held))) this.#hold(held);
  }

  /** Undefined: it is no job any more (the rules have changed since its intake), and its sender was told. */
  async #read(delivery: ReadyDelivery): Promise<Job | undefined> {
    const { jobId, defaultRegion } = delivery.stamp;
    const message = readJobMessage(delivery.body, delivery.properties, {
      ...this.#parts.rules,
      defaultRegion,
    });
    if (message.kind === "job") return { ...message.job, jobId };
    await this.#parts.results.settleInvalid(delivery, message.problems.join("; "));
    return undefined;
  }
}
