/** Formats jobs for the terminal. */
import type { JobEvent, JobResult, JobState } from "../shared/job.ts";
import { tableOf } from "./terminal/table.ts";
import { shownDuration, shownTime } from "./terminal/times.ts";

interface ShownStep {
  readonly number: number;
  readonly name: string;
  /** Null while the step runs. */
  readonly duration_ms: number | null;
  readonly cached: boolean;
  readonly error: string | null;
}

/** Response of `GET /api/v1/jobs/:id`: also has the other fields of the message. */
export interface ShownJob {
  readonly job_id: string;
  readonly state: JobState;
  readonly accepted_at: string;
  /** Fields of its message: missing after a loss of the records. */
  readonly repo_url?: string;
  readonly branch?: string;
  readonly deployment_version?: string;
  readonly events: readonly JobEvent[];
  readonly result: JobResult | null;
  /** Of the latest attempt. */
  readonly steps?: readonly ShownStep[] | null;
  readonly [field: string]: unknown;
}

export function describeJob(job: ShownJob): string {
  const {
    job_id,
    state,
    repo_url,
    branch,
    deployment_version,
    accepted_at,
    events,
    result,
    steps,
    ...fields
  } = job;
  const head = `${job_id}  ${state}  ${repo_url ?? "?"}@${branch ?? "?"} as ${deployment_version ?? "?"}`;
  const parts = [
    describeFields({ accepted: shownTime(accepted_at), ...fields }),
    describeEvents(events, accepted_at),
    describeSteps(steps ?? []),
    result ? [describeTimings(result), describeResult(result)].join("\n") : "",
  ];
  return [head, ...parts.filter((part) => part !== "")].join("\n\n");
}

function describeFields(fields: Readonly<Record<string, unknown>>): string {
  const rows = Object.entries(fields)
    .filter(([, value]) => value !== null && value !== undefined)
    .map(([name, value]) => [name, typeof value === "string" ? value : JSON.stringify(value)] as const);
  const width = Math.max(...rows.map(([name]) => name.length));
  return rows.map(([name, value]) => `${name.padEnd(width)}  ${value}`).join("\n");
}

function describeEvents(events: readonly JobEvent[], acceptedAt: string): string {
  if (events.length === 0) return "";
  const rows = events.map(({ at, state, attempt, worker_id, error, reason }) => [
    shownTime(at),
    `+${shownDuration(Math.max(0, Date.parse(at) - Date.parse(acceptedAt)))}`,
    state,
    attempt ? String(attempt) : "",
    typeof worker_id === "string" ? worker_id : "",
    typeof reason === "string" ? reason : describeError(error),
  ]);
  return tableOf(["EVENT AT", "AFTER", "STATE", "ATTEMPT", "WORKER", "DETAIL"], rows);
}

function describeError(error: unknown): string {
  if (typeof error !== "object" || error === null) return "";
  const { code, message } = error as { readonly code?: unknown; readonly message?: unknown };
  return `${code}: ${message}`;
}

function describeSteps(steps: readonly ShownStep[]): string {
  if (steps.length === 0) return "";
  const rows = steps.map(({ number, name, duration_ms, cached, error }) => [
    `#${number}`,
    duration_ms === null ? "running" : shownDuration(duration_ms),
    error ? "failed" : cached ? "cached" : "",
    name,
  ]);
  return tableOf(["STEP", "DURATION", "", "NAME"], rows);
}

const TIMINGS = ["queued", "clone", "auth", "build", "push", "total"] as const;

function describeTimings({ timings_ms }: JobResult): string {
  const parts = TIMINGS.map((name) => `${name} ${shownDuration(timings_ms[name])}`);
  return `timings: ${parts.join(", ")}`;
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
