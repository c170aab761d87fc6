/** Publishes job events: each change of state gets its number from the job's record and is sent to `jobs.events`. */
import type { JobEvent, JobState } from "../../shared/job.ts";
import type { Logger } from "../../shared/logging.ts";
import type { JobQueue } from "../queue/queue.ts";
import type { JobRecords } from "../records/job-records.ts";

export interface StateChange {
  readonly jobId: string;
  readonly tenant: JobEvent["tenant"];
  /** 0 before the first attempt. */
  readonly attempt: number;
  readonly state: JobState;
  /** Fields that this state adds to the event; must not contain a secret. */
  readonly detail?: Readonly<Record<string, unknown>>;
}

export class JobEvents {
  /** Per job, the last pending event: events are numbered in call order, although numbering takes a round trip. */
  readonly #lastOfJob = new Map<string, Promise<void>>();

  constructor(
    private readonly records: JobRecords,
    private readonly queue: JobQueue,
    private readonly logger: Logger,
  ) {}

  /** Resolves once the event is handed to the queue. Never rejects: events are best effort and block nothing. */
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
      tenant: change.tenant,
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
        "failed to record the event; publishing it with seq 0",
      );
      event = { ...unnumbered, seq: 0 };
    }
    this.queue.publishEvent(event);
  }
}
