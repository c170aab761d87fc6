/** Formats jobs for the terminal. */
import type { JobEvent, JobResult, JobState } from "../shared/job.ts";

/** Response of `GET /api/v1/jobs/:id`. */
export interface ShownJob {
  readonly job_id: string;
  readonly state: JobState;
  readonly repo_url: string;
  readonly branch: string;
  readonly deployment_version: string;
  readonly events: readonly JobEvent[];
  readonly result: JobResult | null;
}

export function describeJob(job: ShownJob): string {
  const events = job.events.map(
    (event) => `  ${event.at}  ${event.state}${event.attempt ? ` (attempt ${event.attempt})` : ""}`,
  );
  const head = `${job.job_id}  ${job.state}  ${job.repo_url}@${job.branch} as ${job.deployment_version}`;
  return [head, ...events, ...(job.result ? [describeResult(job.result)] : [])].join("\n");
}

export function describeResult(result: JobResult): string {
  const seconds = (result.timings_ms.total / 1000).toFixed(1);
  if (result.status === "SUCCESS") {
    return [
      `SUCCESS in ${seconds} s on ${result.worker_id}`,
      `image   ${result.image_url}`,
      `digest  ${result.image_digest}`,
      `commit  ${result.commit}`,
    ].join("\n");
  }
  return `${result.status} in ${seconds} s: ${result.error?.code} at ${result.error?.step}: ${result.error?.message}`;
}
