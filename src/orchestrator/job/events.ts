/** Tells the outside how a job goes: every change of state is numbered by the job's record, then published. */
import type { JobEvent, JobState } from "../../shared/job.ts";
import type { Logger } from "../../shared/logging.ts";
import type { JobQueue } from "../queue/queue.ts";
import type { JobRecords } from "../records/job-records.ts";

export interface StateChange {
  readonly jobId: string;
  /** 0 while no attempt has begun. */
  readonly attempt: number;
  readonly state: JobState;
  /** What this state adds to the event; no secret. */
  readonly detail?: Readonly<Record<string, unknown>>;
}

export class JobEvents {
  /** Changes of one job are numbered in the order they were told, although numbering takes a round trip. */
  readonly #lastOfJob = new Map<string, Promise<void>>();

  constructor(
    private readonly records: JobRecords,
    private readonly queue: JobQueue,
    private readonly logger: Logger,
  ) {}

  /** Resolves when the event is on its way. Never rejects: telling is best effort and holds nothing up. */
  publish(change: StateChange): Promise<void> {
    const previous = this.#lastOfJob.get(change.jobId) ?? Promise.resolve();
    const published = previous.then(() => this.#publishNow(change));
    this.#lastOfJob.set(change.jobId, published);
    return published.finally(() => {
      if (this.#lastOfJob.get(change.jobId) === published) this.#lastOfJob.delete(change.jobId);
    });
  }

  async #publishNow(change: StateChange): Promise<void> {
    const at = new Date().toISOString();
    const unnumbered = {
      ...change.detail,
      job_id: change.jobId,
      attempt: change.attempt,
      state: change.state,
      at,
    };
    let event: JobEvent;
    try {
      event = await this.records.append(unnumbered);
    } catch (error) {
      this.logger.warn(
        { err: error, job_id: change.jobId, state: change.state },
        "event could not be recorded",
      );
      event = { ...unnumbered, seq: 0 };
    }
    this.queue.publishEvent(event);
  }
}
