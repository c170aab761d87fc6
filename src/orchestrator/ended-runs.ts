/**
 * Takes the claims of runs whose job has ended and whose result is out: whoever published that died before it let go of
 * the run. Its worker goes on reporting it, which would keep the claim, and with it a slot, for as long as the worker
 * keeps the response.
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

  /** Of these jobs, for whose runs nobody waits. Without its claim a run is stale, and the next ping has it forgotten. */
  async release(jobIds: readonly string[]): Promise<void> {
    for (const jobId of jobIds) {
      try {
        await this.#releaseOne(jobId);
      } catch (error) {
        // They are reported again with the next ping.
        if (error instanceof RecordsUnavailable || error instanceof LeasesUnavailable) return;
        this.parts.logger.error({ err: error, job_id: jobId }, "an ended run could not be let go of");
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
    logger.info({ job_id: jobId, attempt, worker_id }, "let go of a run whose result is out");
  }
}

/** A job's end is told once the broker has its result; until then the worker's response may still be needed. */
function isResultPublished({ result, events }: JobRecord): boolean {
  return result !== undefined && events.some(({ state }) => state === finalState(result));
}
