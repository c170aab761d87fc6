import type { JobResult } from "../../../src/shared/job.ts";

export function sampleResult(jobId: string, overrides: Partial<JobResult> = {}): JobResult {
  return {
    job_id: jobId,
    status: "SUCCESS",
    image_url: "1234567890.dkr.ecr.us-east-1.amazonaws.com/app-images:v1.0.3",
    image_digest: `sha256:${"a".repeat(64)}`,
    commit: "b".repeat(40),
    tenant: "acme",
    deployment_version: "v1.0.3",
    aws_account: "1234567890",
    ecr_repo: "app-images",
    region: "us-east-1",
    worker_id: "worker-1",
    attempt: 1,
    logs: ["Step 1", "„ready“ ✓"],
    log: { bytes: 20, lines: 2, sha256: "c".repeat(64), truncated: false },
    error: null,
    timings_ms: { queued: 1, clone: 2, build: 3, auth: 4, push: 5, total: 15 },
    accepted_at: "2026-01-02T03:04:05.000Z",
    started_at: "2026-01-02T03:04:06.000Z",
    finished_at: "2026-01-02T03:04:21.000Z",
    ...overrides,
  };
}
