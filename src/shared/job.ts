/** A job, its outcome and its result: the words that every room of Blacktree shares. */

export const PRIORITIES = ["high", "normal", "low"] as const;
/** The order of PRIORITIES is the order in which waiting jobs are taken. */
export type Priority = (typeof PRIORITIES)[number];

export type RegionPolicy = "prefer" | "require";

/** A job message that has passed every check, with its defaults filled in. */
export interface Job {
  readonly jobId: string;
  /** `owner/name`, or a full `https://` URL; see repository-url.ts. */
  readonly repoUrl: string;
  /** Branch or tag. */
  readonly branch: string;
  /** 40 or 64 hex digits; must be in the history of `branch`. */
  readonly commit?: string;
  readonly deploymentVersion: string;
  readonly awsAccount: string;
  readonly ecrRepo: string;
  /** AWS region of the registry. */
  readonly region: string;
  /** Where it should be built. */
  readonly workerRegion: string;
  readonly regionPolicy: RegionPolicy;
  /** Paths are relative to the repository's root. */
  readonly dockerfile?: string;
  readonly context?: string;
  readonly target?: string;
  readonly buildArgs: Readonly<Record<string, string>>;
  readonly labels: Readonly<Record<string, string>>;
  readonly gitToken?: string;
  readonly priority: Priority;
  /** Bound on one attempt, counted by the worker. */
  readonly timeoutSeconds?: number;
  readonly provenance: boolean;
  /** In the one form and order of platforms.ts; empty for that of whoever builds. */
  readonly platforms: readonly string[];
  /** Name to value, offered to RUN steps. */
  readonly secrets: Readonly<Record<string, string>>;
  /** `same-commit`: an image that was made from the same commit and inputs before will do. */
  readonly reuse: "never" | "same-commit";
  /** A later job with the same key cancels this one. */
  readonly supersede?: string;
}

/** An image that was pushed before. Only a hint: the registry may have it no more. */
export interface KnownImage {
  /** Stands for all that it was made of. */
  readonly inputs: string;
  readonly digest: string;
}

/** Names one run: one attempt of one job. */
export interface RunRef {
  readonly jobId: string;
  /** From 1 on. */
  readonly attempt: number;
}

export const ERROR_CODES = [
  "INVALID_JOB",
  "UNSUPPORTED",
  "REPO_NOT_FOUND",
  "REF_NOT_FOUND",
  "GIT_AUTH",
  "CLONE_FAILED",
  "DOCKERFILE_NOT_FOUND",
  "BUILD_FAILED",
  "ECR_AUTH",
  "ECR_REPO_NOT_FOUND",
  "TAG_IMMUTABLE",
  "PUSH_FAILED",
  "DISK_FULL",
  "TIMEOUT",
  "CANCELLED",
  "WORKER_LOST",
  "INTERNAL",
] as const;
export type ErrorCode = (typeof ERROR_CODES)[number];

export const STEPS = ["intake", "dispatch", "clone", "authenticate", "build", "push", "tag"] as const;
/** The step in which a job failed. */
export type Step = (typeof STEPS)[number];

/** Why a job did not succeed: part of the result, so it holds no secret. */
export interface JobFailure {
  readonly code: ErrorCode;
  readonly message: string;
  readonly step: Step;
  /** The same job may succeed on another worker or later. */
  readonly retryable: boolean;
}

/** Describes the whole kept, redacted log. */
export interface LogSummary {
  readonly bytes: number;
  readonly lines: number;
  /** Hex, over the kept log with each line ended by a newline. */
  readonly sha256: string;
  /** The kept log is not all of what the build printed. */
  readonly truncated: boolean;
}

export type OutcomeStatus = "SUCCESS" | "FAILED" | "CANCELLED";

/** How one run ended, as its worker says it. A failing build is a value like any other. */
export interface Outcome {
  readonly status: OutcomeStatus;
  readonly imageUrl?: string;
  /** `sha256:<hex>` of the manifest that the version's tag names. */
  readonly imageDigest?: string;
  /** Stands for all that the image was made of. */
  readonly inputs?: string;
  readonly commit?: string;
  readonly failure?: JobFailure;
  /** The log's tail, redacted, one entry a line. */
  readonly logs: readonly string[];
  readonly log: LogSummary;
  readonly timingsMs: {
    readonly clone: number;
    readonly build: number;
    readonly auth: number;
    readonly push: number;
    readonly total: number;
  };
  readonly startedAt: Date;
  readonly finishedAt: Date;
}

const FINAL_STATES = ["SUCCEEDED", "FAILED", "CANCELLED"] as const;
export type FinalState = (typeof FINAL_STATES)[number];

export const JOB_STATES = [
  "QUEUED",
  "ASSIGNED",
  "CLONING",
  "BUILDING",
  "AUTHENTICATING",
  "PUSHING",
  "RETRYING",
  ...FINAL_STATES,
] as const;
export type JobState = (typeof JOB_STATES)[number];

/** One change of a job's state, as published on `jobs.events` and kept in its record. */
export interface JobEvent {
  readonly job_id: string;
  readonly attempt: number;
  /** Grows by one with every event of the job, starting at 1. */
  readonly seq: number;
  readonly state: JobState;
  /** RFC 3339 */
  readonly at: string;
  readonly [detail: string]: unknown;
}

/** The final answer to a job, as published on `jobs.results` (docs/messages.md). */
export interface JobResult {
  readonly job_id: string;
  readonly status: OutcomeStatus;
  readonly image_url: string | null;
  readonly image_digest: string | null;
  readonly commit: string | null;
  readonly deployment_version: string | null;
  readonly aws_account: string | null;
  readonly ecr_repo: string | null;
  readonly region: string | null;
  readonly worker_id: string | null;
  readonly attempt: number;
  readonly logs: readonly string[];
  readonly log: LogSummary;
  readonly error: JobFailure | null;
  readonly timings_ms: {
    readonly queued: number;
    readonly clone: number;
    readonly build: number;
    readonly auth: number;
    readonly push: number;
    readonly total: number;
  };
  readonly accepted_at: string | null;
  readonly started_at: string | null;
  readonly finished_at: string;
}

export function finalState({ status }: { readonly status: OutcomeStatus }): FinalState {
  return status === "SUCCESS" ? "SUCCEEDED" : status;
}
