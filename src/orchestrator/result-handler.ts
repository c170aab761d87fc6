/**
 * Result Handler: decides what follows from the outcome of a run, either the job's one result or another attempt, and
 * only then acks the message and releases the worker. Any failure before the broker has confirmed the result leaves the
 * message unacked, so another orchestrator repeats the work.
 */
import type { Job, JobEvent, JobFailure, JobResult, Outcome } from "../shared/job.ts";
import type { JournalStep } from "../shared/log-journal.ts";
import type { Logger } from "../shared/logging.ts";
import type { JobEvents } from "./job/events.ts";
import {
  cancelledFailure,
  cancelledResult,
  recordedSteps,
  rejectedResult,
  repositoryOf,
  resultOf,
  targetOf,
  unsupportedResult,
  versionOf,
} from "./job/result.ts";
import {
  decideRetry,
  type EndedAttempt,
  earlierWith,
  NOT_COUNTED_FIELD,
  type RetryLimits,
  WORKER_LOST_FIELD,
} from "./job/retry-policy.ts";
import { type Leases, LeasesUnavailable } from "./leases/leases.ts";
import type { LogCollection } from "./logs/log-collector.ts";
import type { JobQueue, ReadyDelivery, RetryDelayMs } from "./queue/queue.ts";
import { type JobRecords, RecordsUnavailable } from "./records/job-records.ts";
import type { ResultPublisher } from "./result-publisher.ts";
import type { Assignment } from "./workers/assignment.ts";

export interface ResultHandlerParts extends RetryLimits {
  readonly queue: Pick<JobQueue, "offerLater">;
  readonly leases: Pick<Leases, "cancellation">;
  readonly records: Pick<JobRecords, "find" | "rememberImage" | "settled">;
  readonly events: JobEvents;
  readonly publisher: ResultPublisher;
  readonly logs: LogCollection;
  readonly logger: Logger;
  readonly resultLogLines: number;
}

export class ResultHandler {
  constructor(private readonly parts: ResultHandlerParts) {}

  /** @throws the reason of `delivery.revoked`: another orchestrator then publishes the result. */
  async handle(delivery: ReadyDelivery, job: Job, assignment: Assignment, ended: Outcome): Promise<void> {
    const ofAttempt = await this.#afterCancel(job.jobId, ended);
    const { attempt } = assignment.claim;
    const decision = decideRetry(
      ofAttempt,
      await this.#endedAttempt(job.jobId, attempt, ofAttempt),
      this.parts,
    );
    if (decision.kind === "retry") return this.#retry(delivery, assignment, ofAttempt, decision.delayMs);
    const { outcome } = decision;
    await this.#rememberImage(job, outcome);
    const run = { claim: assignment.claim, outcome };
    const result = resultOf(job, delivery.envelope.acceptedAt, run, this.parts.resultLogLines);
    await this.settle(delivery, result, recordedSteps(outcome));
    await this.#releaseWorker(assignment, outcome);
  }

  /** Publishes the result of the message's job, unless it is out already, then acks the message. */
  async settle(delivery: ReadyDelivery, result: JobResult, steps?: readonly JournalStep[]): Promise<void> {
    await this.parts.publisher.publishOnce({ result, steps }, delivery.properties, delivery.revoked);
    await this.#recordSettled(result.job_id);
    delivery.ack();
  }

  /** Without it the record is only stored for longer. */
  async #recordSettled(jobId: string): Promise<void> {
    try {
      await this.parts.records.settled(jobId);
    } catch (error) {
      if (!(error instanceof RecordsUnavailable)) throw error;
      this.parts.logger.debug(
        { err: error, job_id: jobId },
        "failed to record that the job's message is settled",
      );
    }
  }

  /** For the message of a job that was cancelled while it did not run. */
  async settleCancelled(delivery: ReadyDelivery, job: Job, reason: string, attempts: number): Promise<void> {
    const { jobId, acceptedAt } = delivery.envelope;
    const result = cancelledResult({ jobId, reason, target: targetOf(job), acceptedAt, attempts });
    await this.settle(delivery, result);
  }

  /** For the message of a job that no worker can build. */
  async settleUnsupported(
    delivery: ReadyDelivery,
    job: Job,
    reason: string,
    attempts: number,
  ): Promise<void> {
    const { jobId, acceptedAt } = delivery.envelope;
    const result = unsupportedResult({ jobId, reason, target: targetOf(job), acceptedAt, attempts });
    await this.settle(delivery, result);
  }

  /** For a message that is not a valid job any more: the rules have changed since its intake. */
  async settleInvalid(delivery: ReadyDelivery, reason: string): Promise<void> {
    const { jobId, acceptedAt } = delivery.envelope;
    const failure: JobFailure = { code: "INVALID_JOB", step: "dispatch", retryable: false, message: reason };
    await this.settle(delivery, rejectedResult(jobId, failure, {}, acceptedAt));
  }

  /** Before the result is published: a client that has seen it may submit a job that the image serves. */
  async #rememberImage(job: Job, { inputs, imageDigest: digest }: Outcome): Promise<void> {
    if (inputs === undefined || digest === undefined) return;
    try {
      const places = [repositoryOf(job), versionOf(job)];
      await Promise.all(places.map((place) => this.parts.records.rememberImage(place, { inputs, digest })));
    } catch (error) {
      if (!(error instanceof RecordsUnavailable)) throw error;
      this.parts.logger.warn({ err: error, job_id: job.jobId }, "failed to record the image");
    }
  }

  /** Only the last attempt's outcome is the job's result; earlier ones are published as events. */
  async #retry(
    delivery: ReadyDelivery,
    assignment: Assignment,
    outcome: Outcome,
    delayMs: RetryDelayMs,
  ): Promise<void> {
    const { jobId, attempt, workerId } = assignment.claim;
    const { failure: error } = outcome;
    const lost = outcome.isWorkerLost ? { [WORKER_LOST_FIELD]: true } : {};
    const uncounted = outcome.isUncounted ? { [NOT_COUNTED_FIELD]: true } : {};
    const fields = { error, worker_id: workerId, delay_ms: delayMs, ...lost, ...uncounted };
    this.parts.logger.warn({ job_id: jobId, attempt, ...fields }, "attempt failed; the job is tried again");
    await this.parts.queue.offerLater(delivery, { attempts: attempt, lastWorkerId: workerId }, delayMs);
    const { tenant } = assignment.job;
    await this.parts.events.publish({ jobId, tenant, attempt, state: "RETRYING", detail: fields });
    delivery.ack();
    await this.#releaseWorker(assignment, outcome);
  }

  async #endedAttempt(jobId: string, attempt: number, outcome: Outcome): Promise<EndedAttempt> {
    const { failure, isWorkerLost = false, isUncounted = false } = outcome;
    const events = failure?.retryable ? await this.#knownEvents(jobId) : [];
    return {
      attempt,
      workersLost: Number(isWorkerLost) + earlierWith(WORKER_LOST_FIELD, events, attempt),
      uncounted: Number(isUncounted) + earlierWith(NOT_COUNTED_FIELD, events, attempt),
    };
  }

  /** None while the job's record is unavailable: then every attempt counts, and no worker counts as lost before. */
  async #knownEvents(jobId: string): Promise<readonly JobEvent[]> {
    try {
      return (await this.parts.records.find(jobId))?.events ?? [];
    } catch (error) {
      if (!(error instanceof RecordsUnavailable)) throw error;
      this.parts.logger.warn(
        { err: error, job_id: jobId },
        "failed to read a job's earlier attempts; all of them count",
      );
      return [];
    }
  }

  /** A cancelled job is not tried again after a worker loss or another retryable failure. */
  async #afterCancel(jobId: string, outcome: Outcome): Promise<Outcome> {
    if (!outcome.failure?.retryable) return outcome;
    try {
      const reason = await this.parts.leases.cancellation(jobId);
      if (reason === undefined) return outcome;
      return { ...outcome, status: "CANCELLED", failure: cancelledFailure(reason) };
    } catch (error) {
      // The next claim of the job checks for a cancellation again.
      if (error instanceof LeasesUnavailable) return outcome;
      throw error;
    }
  }

  /** The slot is free before the log is copied, and the worker keeps the run until then. */
  async #releaseWorker(assignment: Assignment, { isWorkerLost, failure }: Outcome): Promise<void> {
    const { claim, job } = assignment;
    try {
      await assignment.release();
    } catch (error) {
      // The result is safe, and ended-runs.ts releases the run when the worker next reports it.
      this.parts.logger.warn({ err: error, job_id: job.jobId }, "failed to release the run");
    }
    const run = { ...claim, tenant: job.tenant };
    if (isWorkerLost) this.parts.logs.lost(run, failure?.message ?? "its worker was lost");
    else this.parts.logs.keep(run);
  }
}
