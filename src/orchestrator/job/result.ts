/** Builds the results that are published for jobs (docs/messages.md). */
import { createHash } from "node:crypto";
import type { Job, JobFailure, JobResult, LogSummary, Outcome, OutcomeStatus } from "../../shared/job.ts";
import type { JournalStep } from "../../shared/log-journal.ts";
import { RESULT_LOG_BYTES } from "../../shared/settings/common.ts";
import type { Claim } from "../leases/leases.ts";

/** One attempt that has ended. */
export interface EndedRun {
  readonly claim: Claim;
  readonly outcome: Outcome;
}

export function emptyLog(): LogSummary {
  return { bytes: 0, lines: 0, sha256: createHash("sha256").digest("hex"), truncated: false };
}

/**
 * The same text whichever orchestrator makes it: after a take-over the result may be published twice, and is then the
 * same one. So the time in the queue is that until the worker began, by its clock, and not until this assignment.
 */
export function resultOf(job: Job, acceptedAt: Date, ended: EndedRun, logLines: number): JobResult {
  const { claim, outcome } = ended;
  const queuedMs = Math.max(0, outcome.startedAt.getTime() - acceptedAt.getTime());
  return {
    job_id: job.jobId,
    status: outcome.status,
    image_url: outcome.imageUrl ?? null,
    image_digest: outcome.imageDigest ?? null,
    commit: outcome.commit ?? null,
    ...targetOf(job),
    worker_id: claim.workerId,
    attempt: claim.attempt,
    logs: tail(outcome.logs, logLines),
    log: outcome.log,
    error: outcome.failure ?? null,
    timings_ms: { ...outcome.timingsMs, queued: queuedMs, total: queuedMs + outcome.timingsMs.total },
    accepted_at: acceptedAt.toISOString(),
    started_at: outcome.startedAt.toISOString(),
    finished_at: outcome.finishedAt.toISOString(),
  };
}

const MAX_STEPS = 500;
const MAX_STEP_NAME_CHARS = 500;
const MAX_STEP_ERROR_CHARS = 1000;

/** For the job's record. Workers limit them too; this limit does not depend on the worker. */
export function recordedSteps({ steps }: Outcome): readonly JournalStep[] | undefined {
  return steps?.slice(0, MAX_STEPS).map((step) => ({
    ...step,
    name: step.name.slice(0, MAX_STEP_NAME_CHARS),
    error: step.error?.slice(0, MAX_STEP_ERROR_CHARS),
  }));
}

/** On whose behalf and where a job's image is pushed, as far as known. */
export type Target = Partial<ReturnType<typeof targetOf>>;

/** Result of a message that failed validation and never reached a worker. */
export function rejectedResult(
  jobId: string,
  failure: JobFailure,
  target: Target,
  acceptedAt: Date | undefined,
): JobResult {
  return resultWithoutRun({ jobId, status: "FAILED", failure, target, acceptedAt, attempt: 0 });
}

export interface WaitingJob {
  readonly jobId: string;
  readonly reason: string;
  readonly target: Target;
  readonly acceptedAt: Date;
  /** Attempts made before. */
  readonly attempts: number;
}

/** Result of a job that was cancelled while it did not run. */
export function cancelledResult({ reason, attempts: attempt, ...job }: WaitingJob): JobResult {
  return resultWithoutRun({ ...job, status: "CANCELLED", failure: cancelledFailure(reason), attempt });
}

/** Result of a job that no worker can build. */
export function unsupportedResult({ reason: message, attempts: attempt, ...job }: WaitingJob): JobResult {
  const failure: JobFailure = { code: "UNSUPPORTED", step: "dispatch", retryable: false, message };
  return resultWithoutRun({ ...job, status: "FAILED", failure, attempt });
}

export function cancelledFailure(reason: string): JobFailure {
  const message = reason === "" ? "the job was cancelled" : `the job was cancelled: ${reason}`;
  return { code: "CANCELLED", step: "dispatch", retryable: false, message };
}

interface EndWithoutRun {
  readonly jobId: string;
  readonly status: Exclude<OutcomeStatus, "SUCCESS">;
  readonly failure: JobFailure;
  readonly target: Target;
  readonly acceptedAt: Date | undefined;
  readonly attempt: number;
}

function resultWithoutRun({ jobId, status, failure, target, acceptedAt, attempt }: EndWithoutRun): JobResult {
  const finishedAt = new Date();
  const queued = acceptedAt ? Math.max(0, finishedAt.getTime() - acceptedAt.getTime()) : 0;
  return {
    job_id: jobId,
    status,
    image_url: null,
    image_digest: null,
    commit: null,
    tenant: target.tenant ?? null,
    deployment_version: target.deployment_version ?? null,
    aws_account: target.aws_account ?? null,
    ecr_repo: target.ecr_repo ?? null,
    region: target.region ?? null,
    worker_id: null,
    attempt,
    logs: [],
    log: emptyLog(),
    error: failure,
    timings_ms: { queued, clone: 0, build: 0, auth: 0, push: 0, total: queued },
    accepted_at: acceptedAt?.toISOString() ?? null,
    started_at: null,
    finished_at: finishedAt.toISOString(),
  };
}

/** Unique name of the repository that a job's image is pushed to. */
export function repositoryOf({ awsAccount, region, ecrRepo }: Omit<Job, "jobId">): string {
  return `${awsAccount}:${region}:${ecrRepo}`;
}

/** Unique name of the version that a job makes, in its repository. */
export function versionOf(job: Omit<Job, "jobId">): string {
  return `${repositoryOf(job)}:${job.deploymentVersion}`;
}

export function targetOf(job: Omit<Job, "jobId">) {
  return {
    tenant: job.tenant,
    deployment_version: job.deploymentVersion,
    aws_account: job.awsAccount,
    ecr_repo: job.ecrRepo,
    region: job.region,
  };
}

/** Workers limit the log too; this limit does not depend on the worker. */
function tail(lines: readonly string[], maxLines: number): readonly string[] {
  const kept: string[] = [];
  let bytes = 0;
  for (const line of lines.slice(maxLines === 0 ? lines.length : -maxLines).toReversed()) {
    bytes += Buffer.byteLength(line) + 1;
    if (bytes > RESULT_LOG_BYTES) break;
    kept.push(line);
  }
  return kept.toReversed();
}
