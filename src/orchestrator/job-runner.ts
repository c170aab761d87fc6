/**
 * Job Runner: runs one job on the worker that the Dispatcher has claimed for it, until the result is handled. The job's
 * message stays unacked until then, so that after a crash another orchestrator gets the message and continues the job.
 */
import type { Job } from "../shared/job.ts";
import type { Logger } from "../shared/logging.ts";
import type { Leases } from "./leases/leases.ts";
import type { ReadyDelivery } from "./queue/queue.ts";
import { type JobRecords, RecordsUnavailable } from "./records/job-records.ts";
import type { ResultHandler } from "./result-handler.ts";
import type { WorkerManager } from "./worker-manager.ts";
import { type Assignment, RunOutOfReach, WorkerRefused, WorkerUnreachable } from "./workers/assignment.ts";

/** A job whose unacked message this orchestrator holds. */
export interface HeldJob {
  readonly delivery: ReadyDelivery;
  readonly job: Job;
}

export interface JobRunnerParts {
  readonly leases: Pick<Leases, "suspect">;
  readonly records: Pick<JobRecords, "result">;
  readonly workers: Pick<WorkerManager, "forget">;
  readonly results: ResultHandler;
  readonly logger: Logger;
}

/** `refused`: the worker did not accept the job, or was not reachable; the job needs another claim. */
export type JobRunEnd = "done" | "refused";

export class JobRunner {
  constructor(private readonly parts: JobRunnerParts) {}

  async run(held: HeldJob, assignment: Assignment): Promise<JobRunEnd> {
    const { delivery, job } = held;
    try {
      await this.#runToResult(held, assignment);
      return "done";
    } catch (error) {
      if (delivery.revoked.aborted) {
        this.parts.logger.warn(
          { job_id: job.jobId },
          "delivery revoked by broker; the orchestrator that gets the message next continues the job",
        );
        return "done";
      }
      if (error instanceof WorkerRefused) {
        await this.#avoidWorker(job, assignment, error);
        return "refused";
      }
      if (error instanceof WorkerUnreachable) {
        const { workerId: worker_id, attempt } = assignment.claim;
        this.parts.logger.warn(
          { err: error, job_id: job.jobId, attempt, worker_id },
          "worker not reachable; the job is assigned again, under the same attempt",
        );
        return "refused";
      }
      if (error instanceof RunOutOfReach) {
        const { workerId: worker_id, attempt } = assignment.claim;
        this.parts.logger.warn(
          { err: error, job_id: job.jobId, attempt, worker_id },
          "run out of reach; returning its message for an orchestrator that reaches the worker",
        );
        await delivery.requeue();
        return "done";
      }
      this.parts.logger.error(
        { err: error, job_id: job.jobId },
        "failed to handle the job; returning its message to the queue",
      );
      await delivery.requeue();
      return "done";
    } finally {
      this.parts.workers.forget(assignment);
    }
  }

  /** A job that has ended is not run again: at most its result is still to be published. False: it has not ended. */
  async settleEnded({ delivery, job }: HeldJob): Promise<boolean> {
    const result = await this.parts.records.result(job.jobId);
    if (result === undefined) return false;
    await this.parts.results.settle(delivery, result);
    return true;
  }

  async #runToResult(held: HeldJob, assignment: Assignment): Promise<void> {
    const { delivery, job } = held;
    // After attempt 1 this message may be a duplicate of one whose job has ended.
    if (assignment.claim.attempt > 1 && (await this.settleEnded(held))) return await assignment.release();
    const outcome = await assignment.run(delivery.revoked);
    // The worker may not be lost: an orchestrator with a duplicate of this message may have handled the result before
    // this call.
    if (outcome.failure?.code === "WORKER_LOST" && (await this.#settleEndedIfKnown(held)))
      return await assignment.release();
    await this.parts.results.handle(delivery, job, assignment, outcome);
  }

  /** False, too, while the records are unavailable. */
  async #settleEndedIfKnown(held: HeldJob): Promise<boolean> {
    try {
      return await this.settleEnded(held);
    } catch (error) {
      if (error instanceof RecordsUnavailable) return false;
      throw error;
    }
  }

  /** No job is assigned to this worker until its next ping reports its actual state. */
  async #avoidWorker(job: Job, assignment: Assignment, refusal: WorkerRefused): Promise<void> {
    const { workerId, incarnation } = assignment.claim;
    this.parts.logger.warn(
      { job_id: job.jobId, worker_id: workerId, why: refusal.message },
      "worker refused the job",
    );
    await this.parts.leases.suspect(workerId, incarnation);
    await assignment.retract();
  }
}
