/**
 * Job records: each job's message, events and result by job id, from its acceptance until BLACKTREE_JOB_MEMORY after
 * its end. They answer a repeated id, provide the jobs of the admin API and the messages of retries, and number events.
 * They contain no secrets.
 * They also store which images were pushed, for jobs that may reuse one. Losing them costs history, never a job.
 * Redis (redis.ts) and the embedded SQLite file (sqlite.ts) implement this interface, and both pass
 * tests/integration/orchestrator/records/job-records-contract.ts.
 */
import type { JobEvent, JobResult, JobState, KnownImage } from "../../shared/job.ts";
import type { JournalStep } from "../../shared/log-journal.ts";

/** A job message that may be shown: without secrets, and with masked values of build arguments. */
export type PublicJob = Readonly<Record<string, unknown>>;

/** What a retry needs of a job's message besides the public job. Contains no secret and is never shown. */
export interface RetryBasis {
  /** Without those whose value contains a secret of the job. */
  readonly buildArgs: Readonly<Record<string, string>>;
  /** The names of those. */
  readonly withheldBuildArgs: readonly string[];
  /** The secrets are not stored: a retry has to supply them again. */
  readonly hadGitToken: boolean;
  readonly secretNames: readonly string[];
  readonly registryHosts: readonly string[];
}

/** For a retry of the job: its sender waits for the result, too. */
export interface RetrySource {
  /** Undefined if the record began after a loss, or was made by a version that did not store it. */
  readonly basis: RetryBasis | undefined;
  readonly replyTo: readonly string[];
  readonly correlationId: string | undefined;
}

/**
 * Everything that makes two messages with one id the same job: by field of the message, its value unless that is the
 * default (job/identity.ts). Only fingerprints of it are stored (fingerprints.ts).
 */
export type JobIdentity = Readonly<Record<string, unknown>>;

export interface JobRecord {
  readonly jobId: string;
  readonly job: PublicJob;
  readonly acceptedAt: Date;
  readonly state: JobState;
  readonly events: readonly JobEvent[];
  readonly result: JobResult | undefined;
  /** The build steps of the run whose outcome is the result. */
  readonly steps?: readonly JournalStep[];
}

/** A job in a list: without its events, its build steps and the lines of its log. */
export interface JobSummary extends Omit<JobRecord, "events" | "result" | "steps"> {
  readonly result: Omit<JobResult, "logs"> | undefined;
}

/** The place of a job in the list of all jobs, which is ordered by time of acceptance, the latest first. */
export interface JobPlace {
  readonly acceptedAtMs: number;
  readonly jobId: string;
}

export interface JobPage {
  readonly jobs: readonly JobSummary[];
  /** More jobs may follow this place; undefined at the end of the list. */
  readonly next: JobPlace | undefined;
}

export interface JobListing {
  readonly matches: (job: JobSummary) => boolean;
  readonly limit: number;
  /** Where the page before this one ended. */
  readonly after: JobPlace | undefined;
  /** The list ends before the first job that was accepted earlier. */
  readonly sinceMs?: number;
}

export interface AdmissionRequest {
  readonly jobId: string;
  readonly job: PublicJob;
  readonly identity: JobIdentity;
  /** Without it, the job cannot be retried. */
  readonly retryBasis?: RetryBasis;
  readonly acceptedAt: Date;
  /** A further queue for the result, named by the sender. */
  readonly replyTo?: string;
  /** The sender's correlation id, copied to the result. */
  readonly correlationId?: string;
}

export type Admission =
  /** Unknown, or admitted before a crash that kept it from its ready queue: go on, with the first acceptance's time. */
  | { readonly kind: "new"; readonly acceptedAt: Date }
  /** The job waits or runs: the message starts nothing; its `replyTo` was stored for the result. */
  | { readonly kind: "active"; readonly unchangedForMs: number }
  /** The job has ended within the job memory. */
  | { readonly kind: "finished"; readonly result: JobResult }
  /** The id is that of another job, which differs in these fields. */
  | { readonly kind: "conflict"; readonly fields: readonly string[] };

/** Jobs of one tenant that supersede each other. */
export interface SupersedeGroup {
  readonly tenant: string;
  readonly key: string;
}

/** A tenant contains no colon, so no two groups have the same name. */
export function supersedeName({ tenant, key }: SupersedeGroup): string {
  return `${tenant}:${key}`;
}

/** An event before it has its number. (`Omit` would lose the named fields to the open ones.) */
export type UnnumberedEvent = Pick<JobEvent, "job_id" | "tenant" | "attempt" | "state" | "at"> & {
  readonly [detail: string]: unknown;
};

export interface FinishOptions {
  readonly isWaiting?: boolean;
  /** Stored with the result. */
  readonly steps?: readonly JournalStep[];
}
export type Ending =
  | { readonly kind: "unknown" }
  | { readonly kind: "active" }
  | { readonly kind: "ended"; readonly attempt: number };

/** The result handler's next step for a job that has just ended. */
export type Finish =
  /** The first end of the job, or its result was never confirmed: publish this result, also to `replyTo`. */
  | {
      readonly kind: "publish";
      readonly result: JobResult;
      readonly replyTo: readonly string[];
      readonly correlationId?: string;
    }
  /** Another publisher is publishing it now. */
  | { readonly kind: "publishing" }
  /** Its result is published. */
  | { readonly kind: "published" };

/** A publisher's right to publish a job's result ends this many ms after its last `finish` or `publishing` call. */
export const PUBLISHER_TTL_MS = 5000;

export interface JobRecords {
  /** Connects, and keeps reconnecting with growing delay until `close`. Does not fail without a server. */
  start(): void;
  /** The server answers now. Every other method rejects with RecordsUnavailable while this is false. */
  readonly isReady: boolean;

  /**
   * Decides in one atomic step whether a message with this id starts a job. A record without an identity, because it
   * began with an event after a loss, takes that of the message. A job without a record begins without logs: the places
   * (log-places.ts) of those of an earlier job with its id are forgotten in the same step.
   */
  admit(request: AdmissionRequest): Promise<Admission>;
  /** Names the fields in which the job with this id differs from `identity`; undefined without a record of the job. */
  differingFields(jobId: string, identity: JobIdentity): Promise<readonly string[] | undefined>;
  /**
   * The job is in its ready queue; from now on a message with its id joins the job. True: the job has ended already,
   * since it was cancelled in the meantime, and its message is not needed any more.
   */
  queued(jobId: string): Promise<boolean>;
  /**
   * The message of a job that has not ended is gone from the queues: `admit` answers "new" again until `queued`. False,
   * and nothing is done: the job has ended, is not queued, or has changed within `unchangedForMs`, also by another such
   * call.
   */
  messageLost(jobId: string, unchangedForMs: number): Promise<boolean>;
  /** Appends an event and returns it with its `seq`. For a job without a record (after a loss) seq starts at 1. */
  append(event: UnnumberedEvent): Promise<JobEvent>;
  /**
   * Stores the job's only result: the first one stays, and later calls return that one. The record is stored for the
   * job memory from now on. "publish" grants `publisher`, a name unique to this publication, the right to publish it: a
   * job may be in the queue twice, be delivered to two orchestrators, and be cancelled by a third. With `isWaiting` the
   * job's message is still in a queue: the record is stored until `settled`, so that the job never runs after all.
   */
  finish(result: JobResult, publisher: string, options?: FinishOptions): Promise<Finish>;
  /** The message of a job that has ended is removed from its queue: the record is stored for the job memory from now on. */
  settled(jobId: string): Promise<void>;
  /** The publisher is still publishing: renews its right. */
  publishing(jobId: string, publisher: string): Promise<void>;
  /** The publisher has given up: another one may publish at once. */
  unpublished(jobId: string, publisher: string): Promise<void>;
  /** The result was confirmed by the queue. */
  published(jobId: string): Promise<void>;
  /** The job's result, when it has ended. */
  result(jobId: string): Promise<JobResult | undefined>;
  /** Whether the job has ended, and with the result of which attempt. Cheap, for repeated calls. */
  ending(jobId: string): Promise<Ending>;
  /**
   * The job was accepted in this group. Returns the jobs that were accepted in it before and not passed to
   * `superseded` since, the oldest first. When called again for the same job, its place stays.
   */
  supersede(group: SupersedeGroup, jobId: string): Promise<readonly string[]>;
  /** This job no longer has to be superseded. */
  superseded(group: SupersedeGroup, jobId: string): Promise<void>;
  /** This image is in the repository. The caller chooses the name of the repository, or of a part of it. */
  rememberImage(repository: string, image: KnownImage): Promise<void>;
  /** Up to 200 images of the repository, the latest first. At most 1,000 are stored, each for 30 days. */
  knownImages(repository: string): Promise<readonly KnownImage[]>;
  /** With its last 200 events; `job` is empty for a record that began with an event, after a loss. */
  find(jobId: string): Promise<JobRecord | undefined>;
  /** Undefined without a record of the job. */
  retrySource(jobId: string): Promise<RetrySource | undefined>;
  /**
   * Jobs that match, the latest accepted first. At most 1,000 records, and about 8 MB of them, are read in one call, so
   * that a page may have fewer jobs than `limit`, or none, and still be followed by others.
   */
  list(listing: JobListing): Promise<JobPage>;

  close(): Promise<void>;
}

/** The only expected error of job records; any other is a bug in Blacktree. */
export class RecordsUnavailable extends Error {
  override readonly name = "RecordsUnavailable";
}
