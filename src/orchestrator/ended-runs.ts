/**
 * Releases the claims of runs whose job's result is published: the orchestrator that published it died before it
 * released the run. The worker continues to report such a run, which would keep the claim, and with it a slot, for as
 * long as the worker keeps the response.
 */

import { finalState } from "../shared/job.ts";
import type { Logger } from "../shared/logging.ts";
import { type Leases, LeasesUnavailable } from "./leases/leases.ts";
import { type JobRecord, type JobRecords, RecordsUnavailable } from "./records/job-records.ts";

export interface EndedRunsParts {
  readonly records: Pick<JobRecords, "find">;
  readonly leases: Pick<Leases, "find" | "release">;
  readonly logger: Logger;
}

export class EndedRuns {
  constructor(private readonly parts: EndedRunsParts) {}

  /**
   * Releases those of these jobs' runs, for which no orchestrator waits. A run without a claim is stale: after the next
   * pings, an orchestrator copies its log and acknowledges it.
   */
  async release(jobIds: readonly string[]): Promise<void> {
    for (const jobId of jobIds) {
      try {
        await this.#releaseOne(jobId);
      } catch (error) {
        // The next ping reports these runs again.
        if (error instanceof RecordsUnavailable || error instanceof LeasesUnavailable) return;
        this.parts.logger.error({ err: error, job_id: jobId }, "failed to release an ended run");
      }
    }
  }

  async #releaseOne(jobId: string): Promise<void> {
    const { records, leases, logger } = this.parts;
    const record = await records.find(jobId);
    if (!record || !isResultPublished(record)) return;
    const claim = await leases.find(jobId);
    if (!claim) return;
    await leases.release(claim);
    const { attempt, workerId: worker_id } = claim;
    logger.info({ job_id: jobId, attempt, worker_id }, "released a run whose result is published");
  }
}

/** The final event follows the broker's confirmation of the result; before that the worker's response may be needed. */
function isResultPublished({ result, events }: JobRecord): boolean {
  return result !== undefined && events.some(({ state }) => state === finalState(result));
}
