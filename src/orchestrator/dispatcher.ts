/**
 * Dispatcher: takes a waiting job only when a slot is free for it, leases a worker, has it run there, and hands the
 * outcome on. A job's message stays unacked from here until its result is confirmed.
 *
 * It sweeps the ready queues whenever something may have changed: a job came in, a slot became free, a worker appeared.
 * Hints may be missed, so it also looks by itself once a second.
 */
import { type Job, type JobResult, PRIORITIES } from "../shared/job.ts";
import type { Logger } from "../shared/logging.ts";
import { type MessageRules, readJobMessage } from "./job/message.ts";
import { type Leases, LeasesUnavailable } from "./leases/leases.ts";
import type { JobQueue, ReadyDelivery, ReadyQueue } from "./queue/queue.ts";
import { type JobRecords, RecordsUnavailable } from "./records/job-records.ts";
import type { ResultHandler } from "./result-handler.ts";
import type { WorkerManager } from "./worker-manager.ts";
import { type Lease, WorkerRefused } from "./workers/assignment.ts";
import { FreeSlots } from "./workers/free-slots.ts";

const LOOK_INTERVAL_MS = 1000;
/** Jobs of one ready queue that may be in hand without a worker; see `#mayTake`. */
const HELD_PER_READY_QUEUE = 16;
/** And at most so many while a run's message is looked for, or of those that wait for a worker that can build them. */
const MOST_HELD_PER_READY_QUEUE = 64;

export interface DispatcherParts {
  readonly queue: JobQueue;
  readonly leases: Leases;
  readonly records: JobRecords;
  readonly workers: WorkerManager;
  readonly results: ResultHandler;
  readonly rules: Omit<MessageRules, "defaultRegion">;
  readonly regionFallback: readonly string[];
  readonly logger: Logger;
}

/** A job in hand that found no worker: another orchestrator was faster, its region has none, or those there cannot build it. */
interface Held {
  readonly delivery: ReadyDelivery;
  readonly job: Job;
}

export class Dispatcher {
  readonly #parts: DispatcherParts;
  /** Ready queues that may hold a message. */
  readonly #hinted = new Map<string, ReadyQueue>();
  #held: readonly Held[] = [];
  /** By job id: jobs in the hands of this orchestrator, so that a job that lies in a ready queue twice runs once. */
  readonly #running = new Map<string, Promise<void>>();
  /** Jobs that run while nobody waits for them; see `lookFor`. */
  #unawaited: ReadonlySet<string> = new Set();
  #sweep: Promise<void> | undefined;
  #isDue = false;
  /** The time has come to ask for every job that needs what its workers cannot: it may have waited for long enough. */
  #isLookDue = false;
  #isStopped = false;
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
      this.#isLookDue = true;
      this.#hintAll();
      this.#wake();
    }, LOOK_INTERVAL_MS);
  }

  /** It may be in hand, or first in its ready queue; deeper in there it is found to have ended when its turn comes. */
  cancelled(jobId: string): void {
    this.lookFor([jobId]);
  }

  /**
   * Nobody waits for the runs of these jobs: whoever had their messages has died, or the broker took them back, and
   * they lie in their ready queues once more, at the front. The slots of their runs are not free, so taking them cannot
   * wait for a free one: the next sweep takes one message of each ready queue all the same.
   */
  lookFor(jobIds: readonly string[]): void {
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

  #hint(readyQueue: ReadyQueue): void {
    this.#hinted.set(`${readyQueue.region}.${readyQueue.priority}`, readyQueue);
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
      for (const readyQueue of [...this.#hinted.values()].filter((hinted) => hinted.priority === priority)) {
        await this.#emptyReadyQueue(readyQueue, free);
        if (unawaited.size > 0) await this.#lookThrough(readyQueue, free);
      }
    }
  }

  async #placeHeld(free: FreeSlots, unawaited: ReadonlySet<string>): Promise<void> {
    const waiting = this.#held.filter(({ delivery }) => !delivery.revoked.aborted);
    const isLook = this.#isLookDue;
    this.#held = [];
    this.#isLookDue = false;
    for (const held of waiting) {
      const wish = this.#parts.workers.wishOf(held.job);
      const isAsked = unawaited.has(held.job.jobId) || (isLook && wish.needs.length > 0);
      if (isAsked || free.fit(wish)) await this.#place(held, free);
      else this.#hold(held);
    }
  }

  async #emptyReadyQueue(readyQueue: ReadyQueue, free: FreeSlots): Promise<void> {
    while (!this.#isStopped && this.#mayTake(readyQueue, free)) {
      if (!(await this.#takeOne(readyQueue, free))) return;
    }
  }

  /** Takes one message whatever is free; see `lookFor`. */
  async #lookThrough(readyQueue: ReadyQueue, free: FreeSlots): Promise<void> {
    if (!this.#isStopped && this.#heldOf(readyQueue).length < MOST_HELD_PER_READY_QUEUE)
      await this.#takeOne(readyQueue, free);
  }

  /** False: the ready queue is empty. */
  async #takeOne(readyQueue: ReadyQueue, free: FreeSlots): Promise<boolean> {
    const delivery = await this.#parts.queue.take(readyQueue);
    if (!delivery) {
      this.#hinted.delete(`${readyQueue.region}.${readyQueue.priority}`);
      return false;
    }
    const job = await this.#read(delivery);
    if (job) await this.#place({ delivery, job }, free);
    return true;
  }

  /**
   * A slot in the ready queue's own region fits every job of it whose worker need not have special abilities. A slot
   * elsewhere fits those that do not insist on their region. Both only show once a job is in hand; so a few that the
   * slot does not fit may be held meanwhile.
   */
  #mayTake(readyQueue: ReadyQueue, free: FreeSlots): boolean {
    const held = this.#heldOf(readyQueue);
    if (held.length >= MOST_HELD_PER_READY_QUEUE) return false;
    if (free.isAnyIn([readyQueue.region])) return true;
    const insisting = held.filter(({ job }) => this.#parts.workers.wishOf(job).needs.length === 0);
    return free.isAnyIn(this.#parts.regionFallback) && insisting.length < HELD_PER_READY_QUEUE;
  }

  #heldOf(readyQueue: ReadyQueue): readonly Held[] {
    return this.#held.filter((held) => held.delivery.readyQueue.region === readyQueue.region);
  }

  /** Gives the job to a worker, or holds it: whatever fails on the way, a job in hand stays in sight. */
  async #place(held: Held, free: FreeSlots): Promise<void> {
    try {
      if (!(await this.#isPlaced(held, free))) this.#hold(held);
    } catch (error) {
      this.#hold(held);
      throw error;
    }
  }

  /** False: no worker for it now. `free` is brought up to date. */
  async #isPlaced(held: Held, free: FreeSlots): Promise<boolean> {
    const { delivery, job } = held;
    const running = this.#running.get(job.jobId);
    if (running) {
      this.#track(
        held,
        running.then(() => this.#runAgain(held)),
      );
      return true;
    }
    // It may have ended before it ran: cancelled, or a message that had been in somebody's hands.
    const result = await this.#parts.records.result(job.jobId);
    if (result) {
      // Not waited for: another orchestrator may be publishing it, and other jobs need not wait for that.
      this.#track(held, this.#settle(held, result));
      return true;
    }
    const placement = await this.#parts.workers.place(job, delivery);
    const wish = this.#parts.workers.wishOf(job);
    if (placement.kind === "none") {
      free.exhausted(wish);
      return false;
    }
    if (placement.kind !== "leased") {
      const { kind, reason, attempts } = placement;
      this.#track(held, this.#parts.results[kind](delivery, job, reason, attempts));
      return true;
    }
    free.taken(wish);
    this.#track(held, this.#run(held, placement.lease));
    return true;
  }

  #hold(held: Held): void {
    this.#held = [...this.#held, held];
  }

  async #run(held: Held, lease: Lease): Promise<void> {
    const { delivery, job } = held;
    const { logger, results } = this.#parts;
    try {
      // A second attempt may mean that the first one's message lay in the ready queue twice.
      if (lease.claim.attempt > 1 && (await this.#settleFinished(held))) return await lease.release();
      const outcome = await lease.run(delivery.revoked);
      // Not lost, but over before the call came: whoever has the job's other message was faster.
      if (outcome.failure?.code === "WORKER_LOST" && (await this.#isSettled(held)))
        return await lease.release();
      await results.handle(delivery, job, lease, outcome);
    } catch (error) {
      if (delivery.revoked.aborted) {
        logger.warn(
          { job_id: job.jobId },
          "the broker took the job's message back; whoever has it now goes on with it",
        );
      } else if (error instanceof WorkerRefused) {
        await this.#giveUpWorker(held, lease, error);
      } else {
        logger.error({ err: error, job_id: job.jobId }, "job could not be handled; its message goes back");
        delivery.requeue();
      }
    } finally {
      this.#parts.workers.letGo(lease);
    }
  }

  /** Not this worker, until its next ping tells how it really is. */
  async #giveUpWorker(held: Held, lease: Lease, refusal: WorkerRefused): Promise<void> {
    const { workerId, incarnation } = lease.claim;
    this.#parts.logger.warn(
      { job_id: held.job.jobId, worker_id: workerId, why: refusal.message },
      "worker refused the job",
    );
    this.#hold(held);
    await this.#parts.leases.suspect(workerId, incarnation);
    await lease.retract();
  }

  #track(held: Held, work: Promise<void>): void {
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

  /** The job lay in a ready queue twice; the other one has ended, one way or another. */
  async #runAgain(held: Held): Promise<void> {
    if (!(await this.#settleFinished(held))) this.#hold(held);
  }

  /** A job that has ended runs no more: only its result may be still to send. */
  async #settleFinished(held: Held): Promise<boolean> {
    const result = await this.#parts.records.result(held.job.jobId);
    if (result) await this.#settle(held, result);
    return result !== undefined;
  }

  async #isSettled(held: Held): Promise<boolean> {
    try {
      return await this.#settleFinished(held);
    } catch (error) {
      if (error instanceof RecordsUnavailable) return false;
      throw error;
    }
  }

  async #settle({ delivery }: Held, result: JobResult): Promise<void> {
    await this.#parts.results.settle(result, delivery.properties, delivery.revoked);
    delivery.ack();
  }

  /** Undefined: it is no job any more (the rules have changed since its intake), and its sender was told. */
  async #read(delivery: ReadyDelivery): Promise<Job | undefined> {
    const { jobId, defaultRegion } = delivery.envelope;
    const message = readJobMessage(delivery.body, delivery.properties, {
      ...this.#parts.rules,
      defaultRegion,
    });
    if (message.kind === "job") return { ...message.job, jobId };
    await this.#parts.results.refuse(delivery, message.problems.join("; "));
    return undefined;
  }
}
