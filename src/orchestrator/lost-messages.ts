/**
 * Lost Messages: RabbitMQ drops a waiting job's message without a trace if a policy limits how long or how many
 * messages wait, or if an operator purges a queue. The job would stay QUEUED, and its sender's next messages would only
 * join it. So such a message replaces the lost one. Whether a message is lost can only be concluded: the job has no
 * claim, has not changed for longer than a delay between two attempts, and no message waits where its message could be.
 * One that an orchestrator holds is not visible, and gets a duplicate then, which is harmless: the Dispatcher runs a
 * job with two messages once.
 */
import type { Job } from "../shared/job.ts";
import type { Leases } from "./leases/leases.ts";
import { FALLBACK_QUEUES } from "./parking.ts";
import { FAILURE_DELAY } from "./queue/failure-delays.ts";
import { type JobQueue, RETRY_DELAYS_MS, type Retry } from "./queue/queue.ts";
import type { JobRecord, JobRecords } from "./records/job-records.ts";

const MARGIN_MS = 60_000;
/** No delay of Blacktree's keeps a waiting job out of its queues, unchanged, for longer. */
export const LOST_AFTER_MS = Math.max(...RETRY_DELAYS_MS) + FAILURE_DELAY.maxMs + MARGIN_MS;

export interface LostMessagesParts {
  readonly queue: Pick<JobQueue, "hasWaiting">;
  readonly leases: Pick<Leases, "find">;
  readonly records: Pick<JobRecords, "find" | "messageLost">;
}

/** What a message needs that replaces the lost one. */
export interface LostMessage {
  readonly acceptedAt: Date;
  readonly retry: Retry | undefined;
}

export class LostMessages {
  constructor(private readonly parts: LostMessagesParts) {}

  /**
   * Undefined: the job's message is not lost. Otherwise the job counts as not queued from now on, and the caller offers
   * another message. @throws LeasesUnavailable, RecordsUnavailable
   */
  async replace(job: Job, unchangedForMs: number): Promise<LostMessage | undefined> {
    if (unchangedForMs < LOST_AFTER_MS) return undefined;
    const { records, leases } = this.parts;
    const { jobId } = job;
    const record = await records.find(jobId);
    if (!record || unchangedForMs < lostAfterMs(record)) return undefined;
    if ((await leases.find(jobId)) || (await this.#mayWait(job))) return undefined;
    if (!(await records.messageLost(jobId, LOST_AFTER_MS))) return undefined;
    return { acceptedAt: record.acceptedAt, retry: earlierAttempts(record) };
  }

  #mayWait({ workerRegion, priority }: Job): Promise<boolean> {
    return this.parts.queue.hasWaiting(
      [workerRegion, FALLBACK_QUEUES].map((region) => ({ region, priority })),
    );
  }
}

/** Doubles with each replacement, in case an orchestrator holds the job's message for long. */
function lostAfterMs({ events }: JobRecord): number {
  const replacements = events.length - 1 - events.findLastIndex(({ requeued }) => requeued !== true);
  return LOST_AFTER_MS * 2 ** replacements;
}

/** The lost message had them in its envelope. */
function earlierAttempts({ events }: JobRecord): Retry | undefined {
  const attempts = Math.max(0, ...events.map(({ attempt }) => attempt));
  const lastWorkerId = events.findLast(({ worker_id }) => worker_id !== undefined)?.worker_id;
  return attempts > 0 ? { attempts, lastWorkerId: String(lastWorkerId ?? "") } : undefined;
}
