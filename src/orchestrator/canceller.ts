import type { Logger } from "../shared/logging.ts";
import type { Cancellation } from "./job/cancellation.ts";
import { readableTarget } from "./job/message.ts";
import { cancelledResult } from "./job/result.ts";
import { type CancelledJob, type Claim, type Leases, LeasesUnavailable } from "./leases/leases.ts";
import { type JobRecord, type JobRecords, RecordsUnavailable } from "./records/job-records.ts";
import type { ResultHandler } from "./result-handler.ts";
import type { WorkerClient } from "./workers/worker-client.ts";

export interface CancellerParts {
  readonly leases: Leases;
  readonly records: JobRecords;
  readonly results: ResultHandler;
  readonly logger: Logger;
  connect(address: string): WorkerClient;
  /** The job may be in this orchestrator's hands, or first in its ready queue. */
  onCancelled(jobId: string): void;
}

const LOOK_INTERVAL_MS = 1000;

export class Canceller {
  #timer: NodeJS.Timeout | undefined;
  #isLooking = false;

  constructor(private readonly parts: CancellerParts) {}

  start(): void {
    this.#timer = setInterval(() => void this.#look(), LOOK_INTERVAL_MS);
  }

  stop(): void {
    clearInterval(this.#timer);
  }

  /**
   * Resolves when the job will end without anybody's help. `reason` is for its log and its result.
   * @throws LeasesUnavailable, RecordsUnavailable: it may be cancelled or not.
   */
  async cancel(jobId: string, reason: string): Promise<Cancellation> {
    const { records, logger } = this.parts;
    const record = await records.find(jobId);
    if (!record) return { kind: "unknown" };
    if (record.result) return { kind: "ended", state: record.state };
    logger.info({ job_id: jobId, reason }, "job is cancelled");
    await this.#carryOut({ jobId, reason }, record);
    return { kind: "cancelling", state: (await records.find(jobId))?.state ?? record.state };
  }

  async #look(): Promise<void> {
    if (this.#isLooking || !this.parts.leases.isReady) return;
    this.#isLooking = true;
    try {
      for (const job of await this.parts.leases.cancelling()) await this.#follow(job);
    } catch (error) {
      // Redis has its own log line; the next look tries again.
      if (!(error instanceof LeasesUnavailable || error instanceof RecordsUnavailable))
        this.parts.logger.error({ err: error }, "cancelled jobs could not be looked after");
    } finally {
      this.#isLooking = false;
    }
  }

  async #follow(job: CancelledJob): Promise<void> {
    const record = await this.parts.records.find(job.jobId);
    if (!record || record.result) await this.parts.leases.cancelEnded(job.jobId);
    else await this.#carryOut(job, record);
  }

  async #carryOut({ jobId, reason }: CancelledJob, record: JobRecord): Promise<void> {
    const found = await this.parts.leases.cancel(jobId, reason);
    if (found.kind === "claimed") return this.#endRun(found.claim, reason);
    if (found.kind === "unclaimed") await this.#settle(record, reason, found.attempts);
    if (found.kind === "unknown" && hasNeverRun(record)) await this.#settle(record, reason, 0);
    this.parts.onCancelled(jobId);
  }

  async #endRun(claim: Claim, reason: string): Promise<void> {
    const client = this.parts.connect(claim.address);
    try {
      await client.cancel(claim, claim.incarnation, reason);
    } catch (error) {
      const { jobId: job_id, workerId: worker_id } = claim;
      this.parts.logger.warn({ err: error, job_id, worker_id }, "worker could not be told of the cancel yet");
    } finally {
      client.close();
    }
  }

  async #settle({ jobId, job, acceptedAt }: JobRecord, reason: string, attempts: number): Promise<void> {
    // What the job was is lost: its message tells it to whoever takes that.
    if (Object.keys(job).length === 0) return;
    const target = readableTarget(job);
    await this.parts.results.settleWaiting(cancelledResult({ jobId, reason, target, acceptedAt, attempts }));
  }
}

/** An attempt is told of before its run begins. */
function hasNeverRun({ events }: JobRecord): boolean {
  return events.every(({ attempt }) => attempt === 0);
}
