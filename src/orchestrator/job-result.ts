/** Builds results: the job's one answer to the outside (docs/messages.md). */
import { createHash } from "node:crypto";
import { RESULT_LOG_BYTES } from "../shared/common-settings.ts";
import type { Job, JobFailure, JobResult, LogSummary, Outcome } from "../shared/job.ts";
import type { Claim } from "./leases/leases.ts";

/** One attempt that has come to its end. */
export interface EndedRun {
  readonly claim: Claim;
  readonly assignedAt: Date;
  readonly outcome: Outcome;
}

export function emptyLog(): LogSummary {
  return { bytes: 0, lines: 0, sha256: createHash("sha256").digest("hex"), truncated: false };
}

export function resultOf(job: Job, acceptedAt: Date, ended: EndedRun, logLines: number): JobResult {
  const { claim, outcome } = ended;
  const queuedMs = Math.max(0, ended.assignedAt.getTime() - acceptedAt.getTime());
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

/** The answer to a job that no worker ever saw. */
export function refusal(
  jobId: string,
  failure: JobFailure,
  target: Partial<ReturnType<typeof targetOf>>,
  acceptedAt: Date | undefined,
): JobResult {
  return {
    job_id: jobId,
    status: "FAILED",
    image_url: null,
    image_digest: null,
    commit: null,
    deployment_version: target.deployment_version ?? null,
    aws_account: target.aws_account ?? null,
    ecr_repo: target.ecr_repo ?? null,
    region: target.region ?? null,
    worker_id: null,
    attempt: 0,
    logs: [],
    log: emptyLog(),
    error: failure,
    timings_ms: { queued: 0, clone: 0, build: 0, auth: 0, push: 0, total: 0 },
    accepted_at: acceptedAt?.toISOString() ?? null,
    started_at: null,
    finished_at: new Date().toISOString(),
  };
}

export function targetOf(job: Omit<Job, "jobId">) {
  return {
    deployment_version: job.deploymentVersion,
    aws_account: job.awsAccount,
    ecr_repo: job.ecrRepo,
    region: job.region,
  };
}

/** The worker has its own bound; this one holds whatever worker answers. */
function tail(lines: readonly string[], mostLines: number): readonly string[] {
  const kept: string[] = [];
  let bytes = 0;
  for (const line of lines.slice(mostLines === 0 ? lines.length : -mostLines).toReversed()) {
    bytes += Buffer.byteLength(line) + 1;
    if (bytes > RESULT_LOG_BYTES) break;
    kept.push(line);
  }
  return kept.toReversed();
}
