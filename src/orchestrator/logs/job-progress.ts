/** How far followed jobs are. However many readers wait for a job, its state is read once per interval. */
import { sleep } from "../../shared/abort.ts";
import type { Leases } from "../leases/leases.ts";
import type { Ending, JobRecords } from "../records/job-records.ts";

export interface Progress {
  readonly ending: Ending;
  /** The attempt that has the job's claim. */
  readonly claimed: number | undefined;
}

export interface JobProgressParts {
  readonly records: Pick<JobRecords, "ending">;
  readonly leases: Pick<Leases, "find">;
}

const POLL_INTERVAL_MS = 200;

export class JobProgress {
  readonly #polls = new Map<string, Promise<Progress>>();

  constructor(private readonly parts: JobProgressParts) {}

  async now(jobId: string): Promise<Progress> {
    const { records, leases } = this.parts;
    const [ending, claim] = await Promise.all([records.ending(jobId), leases.find(jobId)]);
    return { ending, claimed: claim?.attempt };
  }

  /** The state after the present interval. */
  next(jobId: string): Promise<Progress> {
    const pending = this.#polls.get(jobId);
    if (pending) return pending;
    const poll = sleep(POLL_INTERVAL_MS)
      .then(() => this.now(jobId))
      .finally(() => this.#polls.delete(jobId));
    this.#polls.set(jobId, poll);
    return poll;
  }
}
