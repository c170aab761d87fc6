/**
 * Job records: what is known of each job by its id, from its acceptance until BLACKTREE_JOB_MEMORY after its end.
 * They give a repeated id its answer, the admin API its jobs, and events their numbers. They hold no secret.
 * Beside that they remember images that were pushed, for jobs that may reuse one.
 * Losing them costs history, never a job. Redis (redis.ts) and the embedded SQLite file (sqlite.ts) stand behind this
 * interface, and both pass tests/integration/orchestrator/records/job-records-contract.ts.
 */
import type { JobEvent, JobResult, JobState, KnownImage } from "../../shared/job.ts";

/** A job message as it may be shown: no secret, values of build arguments masked. */
export type PublicJob = Readonly<Record<string, unknown>>;

export interface JobRecord {
  readonly jobId: string;
  readonly job: PublicJob;
  readonly acceptedAt: Date;
  readonly state: JobState;
  readonly events: readonly JobEvent[];
  readonly result: JobResult | undefined;
}

export interface AdmissionRequest {
  readonly jobId: string;
  readonly job: PublicJob;
  readonly acceptedAt: Date;
  /** Where the sender wants the result as well. */
  readonly replyTo?: string;
  /** What the sender wants to find on the result. */
  readonly correlationId?: string;
}

export type Admission =
  /** Not known, or admitted before without having reached its ready queue (a crash in between): go on, with the first acceptance's time. */
  | { readonly kind: "new"; readonly acceptedAt: Date }
  /** It waits or runs: the message starts nothing; its `replyTo` was noted for the result. */
  | { readonly kind: "active" }
  /** It has ended within the job memory. */
  | { readonly kind: "finished"; readonly result: JobResult };

/** An event before it has its number. (`Omit` would lose the named fields to the open ones.) */
export type UnnumberedEvent = Pick<JobEvent, "job_id" | "attempt" | "state" | "at"> & {
  readonly [detail: string]: unknown;
};

/** What the result handler has to do for a job that has just ended. */
export type Finish =
  /** First to end it, or the one before never got its result confirmed: publish this result, also to `replyTo`. */
  | {
      readonly kind: "publish";
      readonly result: JobResult;
      readonly replyTo: readonly string[];
      readonly correlationId?: string;
    }
  /** Somebody else publishes it right now. */
  | { readonly kind: "publishing" }
  /** Its result is out. */
  | { readonly kind: "published" };

/** The right to publish a job's result ends with its publisher, this many ms after its last word. */
export const PUBLISHER_TTL_MS = 5000;

export interface JobRecords {
  /** Connects, and goes on reconnecting with growing delay until `close`. Never rejects for an absent server. */
  start(): void;
  /** Answers now. Every other method rejects with RecordsUnavailable while this is false. */
  readonly isReady: boolean;

  /** Decides in one atomic step what a message with this id means. */
  admit(request: AdmissionRequest): Promise<Admission>;
  /** The job is in its ready queue; from here on a message with its id joins. */
  queued(jobId: string): Promise<void>;
  /** Appends an event and returns it with its `seq`. Works for a job that has no record (after a loss): seq starts at 1. */
  append(event: UnnumberedEvent): Promise<JobEvent>;
  /**
   * Keeps the job's one result: the first one offered stays, whoever asks later gets that one back.
   * The record lives for the job memory from here. "publish" gives `publisher`, a name made for this once, the right to
   * publish it: a job may lie in the queue twice, in the hands of two orchestrators, and be cancelled by a third.
   */
  finish(result: JobResult, publisher: string): Promise<Finish>;
  /** The publisher is still at it. */
  publishing(jobId: string, publisher: string): Promise<void>;
  /** The publisher has given up: another one need not wait for it. */
  unpublished(jobId: string, publisher: string): Promise<void>;
  /** The result was confirmed by the queue. */
  published(jobId: string): Promise<void>;
  /** The job's result, when it has ended. */
  result(jobId: string): Promise<JobResult | undefined>;
  /**
   * The job was accepted under this key. Gives the jobs that were accepted under it before and not let go of since,
   * the oldest first. Again for the same job: its place stays.
   */
  supersede(key: string, jobId: string): Promise<readonly string[]>;
  /** This job need not be superseded any more. */
  superseded(key: string, jobId: string): Promise<void>;
  /** This image is in the repository, by whatever name the caller has for it. */
  rememberImage(repository: string, image: KnownImage): Promise<void>;
  /** Up to 200 images of the repository, the one remembered last first. Each is remembered for 30 days, and 1,000 at most. */
  knownImages(repository: string): Promise<readonly KnownImage[]>;
  /** Its last 200 events; `job` is empty for a record that began with an event, after a loss. */
  find(jobId: string): Promise<JobRecord | undefined>;

  close(): Promise<void>;
}

/** Errors other than these are faults of Blacktree. */
export class RecordsUnavailable extends Error {
  override readonly name = "RecordsUnavailable";
}
