/**
 * Result Handler: makes an outcome the job's one result, publishes it, and only then lets go of message and worker.
 * Whatever goes wrong before the broker has confirmed the result leaves the message unacked, so somebody does it again.
 */

import { randomUUID } from "node:crypto";
import { sleep } from "../shared/abort.ts";
import { GrowingDelay } from "../shared/backoff.ts";
import type { Job, JobFailure, JobResult, JobState, Outcome, OutcomeStatus } from "../shared/job.ts";
import type { Logger } from "../shared/logging.ts";
import type { JobEvents } from "./job/events.ts";
import {
  cancelledFailure,
  cancelledResult,
  refusal,
  repositoryOf,
  resultOf,
  targetOf,
  unsupportedResult,
} from "./job/result.ts";
import { judge } from "./job/retry-policy.ts";
import { type Leases, LeasesUnavailable } from "./leases/leases.ts";
import type { JobQueue, MessageProperties, ReadyDelivery, RetryDelayMs } from "./queue/queue.ts";
import { type Finish, type JobRecords, PUBLISHER_TTL_MS, RecordsUnavailable } from "./records/job-records.ts";
import type { Lease } from "./workers/assignment.ts";

const END_STATES: Readonly<Record<OutcomeStatus, JobState>> = {
  SUCCESS: "SUCCEEDED",
  FAILED: "FAILED",
  CANCELLED: "CANCELLED",
};

/** Whoever cancels a job waits for as long as this; then its message's holder has to publish the result. */
const PUBLISH_WAITING_TIMEOUT_MS = 5000;

export interface ResultHandlerParts {
  readonly queue: JobQueue;
  readonly leases: Pick<Leases, "cancellation">;
  readonly records: JobRecords;
  readonly events: JobEvents;
  readonly logger: Logger;
  readonly resultLogLines: number;
  /** A job's last attempt, from 1 on. */
  readonly maxAttempts: number;
}

export class ResultHandler {
  constructor(private readonly parts: ResultHandlerParts) {}

  /** @throws the reason of `delivery.revoked`: the result is then another's to publish. */
  async handle(delivery: ReadyDelivery, job: Job, lease: Lease, ended: Outcome): Promise<void> {
    const outcome = await this.#afterCancel(job.jobId, ended);
    const verdict = judge(outcome, lease.claim.attempt, this.parts.maxAttempts);
    if (verdict.kind === "retry") return this.#retry(delivery, lease, outcome, verdict.delayMs);
    await this.#rememberImage(job, outcome);
    const run = { claim: lease.claim, assignedAt: lease.assignedAt, outcome };
    const result = resultOf(job, delivery.envelope.acceptedAt, run, this.parts.resultLogLines);
    await this.settle(result, delivery.properties, delivery.revoked);
    delivery.ack();
    await this.#letGo(lease);
  }

  /** Before the result is out: whoever has seen it may send a job that reuses the image. */
  async #rememberImage(job: Job, { inputs, imageDigest: digest }: Outcome): Promise<void> {
    if (inputs === undefined || digest === undefined) return;
    try {
      await this.parts.records.rememberImage(repositoryOf(job), { inputs, digest });
    } catch (error) {
      if (!(error instanceof RecordsUnavailable)) throw error;
      this.parts.logger.warn({ err: error, job_id: job.jobId }, "image could not be remembered for reuse");
    }
  }

  /** Only the last attempt's outcome is the job's; the others are told as events. */
  async #retry(
    delivery: ReadyDelivery,
    lease: Lease,
    outcome: Outcome,
    delayMs: RetryDelayMs,
  ): Promise<void> {
    const { jobId, attempt, workerId } = lease.claim;
    const { failure: error } = outcome;
    const fields = { error, worker_id: workerId, delay_ms: delayMs };
    this.parts.logger.warn({ job_id: jobId, attempt, ...fields }, "attempt failed; the job is tried again");
    await this.parts.queue.offerLater(delivery, { attempts: attempt, lastWorkerId: workerId }, delayMs);
    await this.parts.events.tell({ jobId, attempt, state: "RETRYING", detail: fields });
    delivery.ack();
    await this.#letGo(lease);
  }

  /** A cancelled job whose worker was lost, or whose fault may pass, is not tried again. */
  async #afterCancel(jobId: string, outcome: Outcome): Promise<Outcome> {
    if (!outcome.failure?.retryable) return outcome;
    try {
      const reason = await this.parts.leases.cancellation(jobId);
      if (reason === undefined) return outcome;
      return { ...outcome, status: "CANCELLED", failure: cancelledFailure(reason) };
    } catch (error) {
      // It is asked for again when the job would get its next worker.
      if (error instanceof LeasesUnavailable) return outcome;
      throw error;
    }
  }

  /** For the message of a job that was cancelled while it did not run. */
  async cancelled(delivery: ReadyDelivery, job: Job, reason: string, attempts: number): Promise<void> {
    const { jobId, acceptedAt } = delivery.envelope;
    const result = cancelledResult({ jobId, reason, target: targetOf(job), acceptedAt, attempts });
    await this.settle(result, delivery.properties, delivery.revoked);
    delivery.ack();
  }

  /** For the message of a job that no worker can build. */
  async unsupported(delivery: ReadyDelivery, job: Job, reason: string, attempts: number): Promise<void> {
    const { jobId, acceptedAt } = delivery.envelope;
    const result = unsupportedResult({ jobId, reason, target: targetOf(job), acceptedAt, attempts });
    await this.settle(result, delivery.properties, delivery.revoked);
    delivery.ack();
  }

  /** For a message that is no job any more: the rules have changed since its intake. */
  async refuse(delivery: ReadyDelivery, reason: string): Promise<void> {
    const { jobId, acceptedAt } = delivery.envelope;
    const failure: JobFailure = { code: "INVALID_JOB", step: "dispatch", retryable: false, message: reason };
    await this.settle(refusal(jobId, failure, {}, acceptedAt), delivery.properties, delivery.revoked);
    delivery.ack();
  }

  /** Publishes the result of its job, unless that is done; resolves once the broker has it. */
  async settle(result: JobResult, properties: MessageProperties, signal: AbortSignal): Promise<void> {
    const publisher = randomUUID();
    const finish = await this.#finish(result, publisher, properties, signal);
    await this.#publishFinished(finish, publisher, properties.correlationId, signal);
  }

  /**
   * For a job whose message waits in its ready queue: its result need not. Whoever takes the message later finds that the
   * job has ended, and publishes the result if that does not succeed here. @throws RecordsUnavailable
   */
  async settleWaiting(result: JobResult): Promise<void> {
    const publisher = randomUUID();
    const finish = await this.parts.records.finish(result, publisher);
    const patience = AbortSignal.timeout(PUBLISH_WAITING_TIMEOUT_MS);
    try {
      await this.#publishFinished(finish, publisher, undefined, patience);
    } catch (error) {
      if (!patience.aborted) throw error;
      this.parts.logger.warn(
        { err: error, job_id: result.job_id },
        "result is left to whoever takes the job's message",
      );
    }
  }

  async #publishFinished(
    finish: Finish,
    publisher: string,
    correlationId: string | undefined,
    signal: AbortSignal,
  ): Promise<void> {
    if (finish.kind !== "publish") return;
    const { result, replyTo } = finish;
    await this.#asPublisher(result.job_id, publisher, () =>
      this.publish(result, correlationId ?? finish.correlationId, replyTo, signal),
    );
    await this.parts.events.tell({
      jobId: result.job_id,
      attempt: result.attempt,
      state: END_STATES[result.status],
      detail: endDetail(result),
    });
    await this.#notePublished(result.job_id);
  }

  /** Keeps the right to publish for as long as it takes, and gives it back when that fails. */
  async #asPublisher(jobId: string, publisher: string, publish: () => Promise<void>): Promise<void> {
    const { records, logger } = this.parts;
    const unheard = (err: unknown) => logger.debug({ err, job_id: jobId }, "publisher could not be recorded");
    const renewal = setInterval(() => {
      records.publishing(jobId, publisher).catch(unheard);
    }, PUBLISHER_TTL_MS / 3);
    try {
      await publish();
    } catch (error) {
      await records.unpublished(jobId, publisher).catch(unheard);
      throw error;
    } finally {
      clearInterval(renewal);
    }
  }

  async publish(
    result: JobResult,
    correlationId: string | undefined,
    replyTo: readonly string[],
    signal: AbortSignal,
  ): Promise<void> {
    await this.parts.queue.publishResult(result, correlationId, replyTo, signal);
    const { job_id, status, attempt, image_digest, error } = result;
    this.parts.logger.info({ job_id, status, attempt, image_digest, error }, "result published");
  }

  /** Without the records a result goes out all the same: a job's end must not wait for its history. */
  async #finish(
    result: JobResult,
    publisher: string,
    properties: MessageProperties,
    signal: AbortSignal,
  ): Promise<Finish> {
    const delay = new GrowingDelay({ firstMs: 100, mostMs: 1000 });
    for (let tries = 1; ; tries += 1) {
      try {
        return await this.#finishAlone(result, publisher, signal);
      } catch (error) {
        if (!(error instanceof RecordsUnavailable)) throw error;
        if (tries === 5) {
          this.parts.logger.warn(
            { err: error, job_id: result.job_id },
            "result could not be recorded; publishing it",
          );
          const { replyTo, correlationId } = properties;
          return { kind: "publish", result, replyTo: replyTo ? [replyTo] : [], correlationId };
        }
        await sleep(delay.nextMs(), signal);
      }
    }
  }

  /** Waits for somebody else who publishes it, until that has succeeded or given up. */
  async #finishAlone(result: JobResult, publisher: string, signal: AbortSignal): Promise<Finish> {
    const delay = new GrowingDelay({ firstMs: 50, mostMs: 1000 });
    for (;;) {
      const finish = await this.parts.records.finish(result, publisher);
      if (finish.kind !== "publishing") return finish;
      await sleep(delay.nextMs(), signal);
    }
  }

  async #notePublished(jobId: string): Promise<void> {
    try {
      await this.parts.records.published(jobId);
    } catch (error) {
      this.parts.logger.warn({ err: error, job_id: jobId }, "result is out, but that could not be recorded");
    }
  }

  /** The result is safe; what fails here is made up for when the worker next reports the run (ended-runs.ts). */
  async #letGo(lease: Lease): Promise<void> {
    const steps = await Promise.allSettled([lease.release(), lease.acknowledge()]);
    for (const step of steps) {
      if (step.status === "fulfilled") continue;
      this.parts.logger.warn({ err: step.reason, job_id: lease.job.jobId }, "run could not be let go of");
    }
  }
}

function endDetail(result: JobResult): Readonly<Record<string, unknown>> {
  if (result.status !== "SUCCESS") return { error: result.error };
  return { image_url: result.image_url, image_digest: result.image_digest, commit: result.commit };
}
