/** Canceller: ends waiting and running jobs that were cancelled, and retries until each has its result. */
import type { Logger } from "../shared/logging.ts";
import type { Cancellation } from "./job/cancellation.ts";
import { readableTarget } from "./job/message.ts";
import { cancelledResult } from "./job/result.ts";
import { type CancelledJob, type Claim, type Leases, LeasesUnavailable } from "./leases/leases.ts";
import { type JobRecord, type JobRecords, RecordsUnavailable } from "./records/job-records.ts";
import type { ResultPublisher } from "./result-publisher.ts";
import type { WorkerClient } from "./workers/worker-client.ts";

export interface CancellerParts {
  readonly leases: Leases;
  readonly records: JobRecords;
  readonly publisher: ResultPublisher;
  readonly logger: Logger;
  connect(address: string): WorkerClient;
  /** The job's message may be held by this orchestrator, or be first in its ready queue. */
  onCancelled(jobId: string): void;
}

const POLL_INTERVAL_MS = 1000;

export class Canceller {
  #timer: NodeJS.Timeout | undefined;
  #isPolling = false;

  constructor(private readonly parts: CancellerParts) {}

  start(): void {
    this.#timer = setInterval(() => void this.#poll(), POLL_INTERVAL_MS);
  }

  stop(): void {
    clearInterval(this.#timer);
  }

  /**
   * Resolves when the cancellation is recorded, so that the job ends without further calls. `reason` appears in the log
   * and in the job's result. @throws LeasesUnavailable, RecordsUnavailable: the job may be cancelled or not.
   */
  async cancel(jobId: string, reason: string): Promise<Cancellation> {
    const { records, logger } = this.parts;
    const record = await records.find(jobId);
    if (!record) return { kind: "unknown" };
    if (record.result) return { kind: "ended", state: record.state };
    logger.info({ job_id: jobId, reason }, "job is cancelled");
    await this.#apply({ jobId, reason }, record);
    return { kind: "cancelling", state: (await records.find(jobId))?.state ?? record.state };
  }

  async #poll(): Promise<void> {
    if (this.#isPolling || !this.parts.leases.isReady) return;
    this.#isPolling = true;
    try {
      for (const job of await this.parts.leases.cancelling()) await this.#continueCancel(job);
    } catch (error) {
      // The Redis client logs its own failures; the next poll tries again.
      if (!(error instanceof LeasesUnavailable || error instanceof RecordsUnavailable))
        this.parts.logger.error({ err: error }, "failed to process cancellations");
    } finally {
      this.#isPolling = false;
    }
  }

  async #continueCancel(job: CancelledJob): Promise<void> {
    const record = await this.parts.records.find(job.jobId);
    if (!record || record.result) await this.parts.leases.cancelEnded(job.jobId);
    else await this.#apply(job, record);
  }

  async #apply({ jobId, reason }: CancelledJob, record: JobRecord): Promise<void> {
    const atCancel = await this.parts.leases.cancel(jobId, reason);
    if (atCancel.kind === "claimed") return this.#endRun(atCancel.claim, reason);
    if (atCancel.kind === "unclaimed") await this.#publishResult(record, reason, atCancel.attempts);
    if (atCancel.kind === "unknown" && hasNeverRun(record)) await this.#publishResult(record, reason, 0);
    this.parts.onCancelled(jobId);
  }

  async #endRun(claim: Claim, reason: string): Promise<void> {
    const client = this.parts.connect(claim.address);
    try {
      await client.cancel(claim, claim.incarnation, reason);
    } catch (error) {
      const { jobId: job_id, workerId: worker_id } = claim;
      this.parts.logger.warn(
        { err: error, job_id, worker_id },
        "failed to send the cancellation to the worker, retrying",
      );
    } finally {
      client.close();
    }
  }

  async #publishResult(
    { jobId, job, acceptedAt }: JobRecord,
    reason: string,
    attempts: number,
  ): Promise<void> {
    // The job's data was lost with Redis; the orchestrator that takes its message publishes the result.
    if (Object.keys(job).length === 0) return;
    const target = readableTarget(job);
    await this.parts.publisher.publishForWaitingJob(
      cancelledResult({ jobId, reason, target, acceptedAt, attempts }),
    );
  }
}

/** The first event of an attempt is published before its run begins. */
function hasNeverRun({ events }: JobRecord): boolean {
  return events.every(({ attempt }) => attempt === 0);
}
