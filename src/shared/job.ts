/** A job, its outcome and its result: the types that all parts of Blacktree share. */
import type { RegistryLogin } from "./registry-login.ts";

export const PRIORITIES = ["high", "normal", "low"] as const;
/** The order of PRIORITIES is the order in which waiting jobs are dispatched. */
export type Priority = (typeof PRIORITIES)[number];

export type RegionPolicy = "prefer" | "require";

/** A job message that has passed every check, with its defaults filled in. */
export interface Job {
  readonly jobId: string;
  /** `owner/name`, or a full `https://` URL; see repository-url.ts. */
  readonly repoUrl: string;
  /** A branch, a tag, a whole ref, or a commit's id. */
  readonly branch: string;
  /** 40 or 64 hex digits; must be in the history of `branch`. */
  readonly commit?: string;
  /** Number of commits that .git contains; 0 for all. */
  readonly gitDepth: number;
  /** .git also contains the tags of these commits. */
  readonly gitTags: boolean;
  readonly deploymentVersion: string;
  /** On whose behalf: tenants never share caches or `supersede` keys. */
  readonly tenant: string;
  readonly awsAccount: string;
  readonly ecrRepo: string;
  /** AWS region of the registry. */
  readonly region: string;
  /** Region of the workers that should build it. */
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
  /** Normalized and sorted by platforms.ts; empty for the platform of the worker that builds. */
  readonly platforms: readonly string[];
  /** Name to value, offered to RUN steps. */
  readonly secrets: Readonly<Record<string, string>>;
  /** By the registries' hosts, for base images. */
  readonly registryAuths: Readonly<Record<string, RegistryLogin>>;
  /** `same-commit`: an earlier image of the same commit and inputs is reused. */
  readonly reuse: "never" | "same-commit";
  /** A later job of the tenant with the same key cancels this one. */
  readonly supersede?: string;
}

/** An image that was pushed before. The registry may no longer have it. */
export interface KnownImage {
  /** SHA-256 of the tenant and everything that the image was built from. */
  readonly inputs: string;
  readonly digest: string;
}

/** Identifies one run: one attempt of one job. */
export interface RunRef {
  readonly jobId: string;
  /** Starts at 1. */
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

/** Why a job did not succeed. Part of the result, so it contains no secrets. */
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
  /** The kept log is not everything that the build printed. */
  readonly truncated: boolean;
}

/** A step of the build: one instruction of the Dockerfile. */
export interface BuildStepView {
  /** As in the step's log lines: `#<number> …`. */
  readonly number: number;
  /** Redacted, such as `[build 2/5] RUN make`. */
  readonly name: string;
  readonly started_at: string;
  /** Absent while the step runs, as the following fields. */
  readonly ended_at?: string;
  readonly duration_ms?: number;
  /** The result of an earlier build was used. */
  readonly cached?: boolean;
  /** Redacted; absent if the step succeeded. */
  readonly error?: string;
}

export type OutcomeStatus = "SUCCESS" | "FAILED" | "CANCELLED";

/** How one run ended, as its worker reports it. A failing build is an ordinary outcome, not an exception. */
export interface Outcome {
  readonly status: OutcomeStatus;
  readonly imageUrl?: string;
  /** `sha256:<hex>` of the manifest that the version's tag names. */
  readonly imageDigest?: string;
  /** SHA-256 of everything that the image was built from. */
  readonly inputs?: string;
  readonly commit?: string;
  readonly failure?: JobFailure;
  /** Decided by an orchestrator: during the run the worker's process died, or froze until its lease had ended. */
  readonly isWorkerLost?: boolean;
  /** The worker lost its builder before the build began: the attempt does not count against the limit of attempts. */
  readonly isUncounted?: boolean;
  /** The last lines of the redacted log, one line per entry. */
  readonly logs: readonly string[];
  readonly log: LogSummary;
  /** At most the first 500. Absent if no worker reported an end. */
  readonly steps?: readonly BuildStepView[];
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
  /** Null where the job's message could not be read. */
  readonly tenant: string | null;
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
  /** Null where the job's message could not be read. */
  readonly tenant: string | null;
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
