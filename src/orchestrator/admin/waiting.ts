/** `GET /api/v1/jobs/:id/waiting`: why a job does not run yet. */
import { z } from "zod";
import { PRIORITIES } from "../../shared/job.ts";
import { canonicalPlatforms } from "../../shared/platforms.ts";
import { covers } from "../leases/capabilities.ts";
import { type Control, describeControlSince } from "../leases/control.ts";
import type { WorkerView } from "../leases/leases.ts";
import type { JobPlace, JobRecord, JobRecords, JobSummary } from "../records/job-records.ts";
import { type PlacedJob, requirementsOf } from "../workers/free-slots.ts";
import { type Preferred, preferredAmong } from "../workers/platform-preference.ts";
import { JOB_ID, JOB_STATE } from "./answers.ts";
import { WORKER_STATUS } from "./worker-view.ts";

export interface WaitingParts {
  readonly records: Pick<JobRecords, "list" | "retrySource">;
  readonly leases: {
    workers(): Promise<readonly WorkerView[]>;
    drainedRegions(): Promise<ReadonlyMap<string, Control>>;
  };
  readonly regions: { has(region: string): boolean };
  /** `BLACKTREE_REGION_FALLBACK` */
  readonly regionFallback: readonly string[];
  /** `BLACKTREE_UNSUPPORTED_AFTER` */
  readonly unsupportedAfterMs: number;
}

const WORKER_VERDICT = z.object({
  id: z.string(),
  region: z.string(),
  status: WORKER_STATUS,
  is_free_for_it: z.boolean().meta({ description: "It has a free slot for the job." }),
  reason: z.string().meta({ description: "Why it does not take the job, or `free`." }),
});
export type WorkerVerdict = z.infer<typeof WORKER_VERDICT>;

export const WAITING = z
  .object({
    job_id: JOB_ID,
    state: JOB_STATE,
    is_waiting: z.boolean(),
    reason: z.string().meta({ description: "Why the job waits or does not, in one sentence." }),
    regions: z.array(z.string()).meta({
      description: "Worker regions in which it may run, in the order of preference.",
    }),
    jobs_before: z.int().min(0).nullable().meta({
      description:
        "Waiting jobs of its region with a higher priority, or with the same one and accepted earlier, among the latest 10,000 records, or fewer if those are large: there may be more then, as `reason` says; null if it does not wait in a queue.",
    }),
    retry_at: z.iso.datetime().nullable().meta({
      description: "When the next attempt begins, after one that has failed; else null.",
    }),
    workers: z.array(WORKER_VERDICT).meta({ description: "Those of its regions." }),
    estimate_ms: z.int().min(0).nullable().meta({
      description:
        "Until it starts: from the median duration of the region's latest 50 jobs, and the slots that can build it; null if nothing is known.",
    }),
  })
  .meta({ id: "Waiting" });
export type Waiting = z.infer<typeof WAITING>;

/** Pages of the list of jobs that are read to find its place. */
const MAX_PAGES = 10;
const PAGE = 500;
const MAX_DURATIONS = 50;

export async function explainWaiting(parts: WaitingParts, record: JobRecord, now: Date): Promise<Waiting> {
  const { jobId: job_id, state } = record;
  const job = await placedJobOf(record, parts.records);
  const regions = job ? requirementsOf(job, parts.regionFallback).regions : [];
  const nothing = {
    job_id,
    state,
    regions: [...regions],
    jobs_before: null,
    retry_at: null,
    workers: [],
    estimate_ms: null,
  };
  if (record.result) return { ...nothing, is_waiting: false, reason: `the job has ended: it is ${state}` };
  if (state !== "QUEUED" && state !== "RETRYING")
    return { ...nothing, is_waiting: false, reason: "the job is running" };

  const views = (await parts.leases.workers()).filter(({ region }) => regions.includes(region));
  const wanted = { platforms: job?.platforms ?? [], ...(job ? preferredAmong(job, views) : NOTHING_WANTED) };
  const workers = views.map((view) => verdictOn(view, wanted, now));
  const retryAt = retryTimeOf(record);
  if (retryAt && retryAt > now) {
    const reason = `an attempt has failed with ${errorCodeOf(record)}, and the next one begins at ${retryAt.toISOString()}`;
    return { ...nothing, is_waiting: true, reason, retry_at: retryAt.toISOString(), workers };
  }
  if (!job) return { ...nothing, is_waiting: true, reason: RECORD_LOST };
  const queue = await surveyQueue(parts.records, record);
  const slots = views
    .filter((view) => isUsable(view) && covers(view.capabilities, wanted.needs))
    .reduce((sum, view) => sum + view.slots, 0);
  const situation: Situation = {
    regions,
    wanted,
    drained: await parts.leases.drainedRegions(),
    views,
    workers,
    slots,
    queue,
    unsupportedAfterMs: parts.unsupportedAfterMs,
    isKnown: (region) => parts.regions.has(region),
  };
  return {
    ...nothing,
    is_waiting: true,
    reason: reasonOf(situation),
    jobs_before: queue.before,
    workers,
    estimate_ms: estimateOf(situation, now.getTime() - record.acceptedAt.getTime()),
  };
}

const RECORD_LOST =
  "its record was lost with Redis's data, and began again without the job's message: what the job waits for is not known";

/** What the workers that it waits for have. */
interface Wanted extends Preferred {
  /** Of the job. */
  readonly platforms: readonly string[];
}

const NOTHING_WANTED: Preferred = { needs: [], missesPlatforms: false };

/** Undefined for a record that began after a loss. */
async function placedJobOf(
  { jobId, job }: JobRecord,
  records: WaitingParts["records"],
): Promise<PlacedJob | undefined> {
  const workerRegion = workerRegionOf(job);
  if (workerRegion === undefined) return undefined;
  const { basis } = (await records.retrySource(jobId)) ?? {};
  return {
    workerRegion,
    regionPolicy: job.region_policy === "require" ? "require" : "prefer",
    platforms: canonicalPlatforms(Array.isArray(job.platforms) ? job.platforms.map(String) : []),
    provenance: job.provenance === true,
    secrets: Object.fromEntries((basis?.secretNames ?? []).map((name) => [name, ""])),
  };
}

function workerRegionOf(job: JobRecord["job"]): string | undefined {
  const region = job.worker_region ?? job.region;
  return typeof region === "string" ? region : undefined;
}

const isUsable = ({ status, refusal }: WorkerView) =>
  status === "FREE" || (status === "BUSY" && refusal === undefined);

function verdictOn(
  view: WorkerView,
  { needs, missesPlatforms, platforms }: Wanted,
  now: Date,
): WorkerVerdict {
  const { workerId: id, region, status } = view;
  const reason = whyNot(view, needs, now);
  const missing = platforms.filter((platform) => !view.capabilities.includes(platform));
  const free = missesPlatforms ? `free, but does not run programs of ${missing.join(" and ")}` : "free";
  return { id, region, status, is_free_for_it: reason === undefined, reason: reason ?? free };
}

function whyNot(
  { status, refusal, capabilities, runs, slots, lastSeen, region, control }: WorkerView,
  needs: readonly string[],
  now: Date,
): string | undefined {
  if (status === "LOST") return `lost: last seen at ${lastSeen.toISOString()}`;
  const lacks = needs.filter((need) => !capabilities.includes(need));
  if (lacks.length > 0) return `cannot build it: lacks ${lacks.join(", ")}`;
  if (control)
    return `${control.scope === "region" ? `its region ${region} is ` : ""}${describeControlSince(control)}`;
  if (status === "DRAINING") return "draining: takes no new jobs";
  if (refusal !== undefined) return `refuses jobs: ${refusal}`;
  if (status === "FREE") return undefined;
  const running = runs.map((run) => describeRun(run, now));
  return running.length > 0
    ? `busy with ${running.join(", ")}`
    : `busy: reports that its ${slots} slots are in use`;
}

/** The start is not known after a loss of Redis's data. */
function describeRun({ jobId, since }: WorkerView["runs"][number], now: Date): string {
  if (since === undefined) return `job ${jobId}`;
  return `job ${jobId} for ${Math.max(0, Math.round((now.getTime() - since.getTime()) / 1000))} s`;
}

function retryTimeOf({ events }: JobRecord): Date | undefined {
  const last = events.at(-1);
  if (last?.state !== "RETRYING" || typeof last.delay_ms !== "number") return undefined;
  return new Date(Date.parse(last.at) + last.delay_ms);
}

function errorCodeOf({ events }: JobRecord): string {
  const error = events.at(-1)?.error as { code?: unknown } | undefined;
  return String(error?.code ?? "a fault");
}

interface Queue {
  readonly before: number;
  /** The list of jobs, the latest first, has been read to its end: no further one is before it. */
  readonly isComplete: boolean;
  /** Of the region's latest jobs, from the start of the run to its end. */
  readonly durationsMs: readonly number[];
}

async function surveyQueue(records: WaitingParts["records"], record: JobRecord): Promise<Queue> {
  const region = workerRegionOf(record.job);
  const durationsMs: number[] = [];
  const matches = (other: JobSummary) => {
    if (workerRegionOf(other.job) !== region) return false;
    const { status, timings_ms } = other.result ?? {};
    if (timings_ms && (status === "SUCCESS" || status === "FAILED") && durationsMs.length < MAX_DURATIONS)
      durationsMs.push(timings_ms.total - timings_ms.queued);
    return other.state === "QUEUED" && isBefore(other, record);
  };
  let before = 0;
  let after: JobPlace | undefined;
  for (let page = 0; page < MAX_PAGES; page++) {
    const { jobs, next } = await records.list({ matches, limit: PAGE, after });
    before += jobs.length;
    after = next;
    if (!next) break;
  }
  return { before, isComplete: after === undefined, durationsMs };
}

function isBefore(other: JobSummary, record: JobRecord): boolean {
  const [rank, ownRank] = [other, record].map(({ job }) =>
    PRIORITIES.indexOf((job.priority as (typeof PRIORITIES)[number] | undefined) ?? "normal"),
  ) as [number, number];
  return rank === ownRank ? other.acceptedAt < record.acceptedAt : rank < ownRank;
}

interface Situation {
  readonly regions: readonly string[];
  readonly wanted: Wanted;
  readonly views: readonly WorkerView[];
  readonly workers: readonly WorkerVerdict[];
  readonly slots: number;
  readonly queue: Queue;
  readonly drained: ReadonlyMap<string, Control>;
  readonly unsupportedAfterMs: number;
  isKnown(region: string): boolean;
}

function reasonOf(situation: Situation): string {
  const { regions, drained } = situation;
  const drains = [...drained].filter(([region]) => regions.includes(region));
  return [
    whyItWaits(situation),
    ...(situation.wanted.missesPlatforms ? [whyNotAtOnce(situation)] : []),
    ...drains.map(([region, control]) => `the region ${region} is ${describeControlSince(control)}`),
  ].join("; ");
}

function whyNotAtOnce({ regions, wanted, unsupportedAfterMs }: Situation): string {
  const { platforms } = wanted;
  const programs = `programs of ${platforms.length > 1 ? "all of " : ""}${platforms.join(", ")}`;
  return `no worker of ${regions.join(" and ")} runs ${programs} natively: another one gets the job after it has waited ${unsupportedAfterMs / 1000} s for such a worker (BLACKTREE_UNSUPPORTED_AFTER)`;
}

function whyItWaits(situation: Situation): string {
  const { regions, wanted, views, workers, slots, queue, unsupportedAfterMs, isKnown } = situation;
  const [own = "unknown"] = regions;
  const { before, isComplete } = queue;
  const jobsBefore = `${isComplete ? "" : "at least "}${count(before, "job")}`;
  const where = regions.join(" and ");
  const { needs, missesPlatforms } = wanted;
  if (workers.some((worker) => worker.is_free_for_it)) {
    const isFree = `a worker is free, and ${jobsBefore} of ${own} ${before === 1 ? "waits" : "wait"} before it`;
    return missesPlatforms ? isFree : `${isFree}: it should start within moments`;
  }
  if (views.length === 0 && !isKnown(own))
    return `the worker region ${own} is not known: no worker has registered there for an hour, and BLACKTREE_REGIONS does not name it`;
  if (views.length === 0)
    return `no worker of ${where} has registered; a worker's own log says why it cannot`;
  const live = views.filter(({ hasLease }) => hasLease);
  if (live.length > 0 && !live.some(({ capabilities }) => covers(capabilities, needs)))
    return `no worker of ${where} can build it: it needs ${needs.join(", ")}, and fails with UNSUPPORTED after it has waited ${unsupportedAfterMs / 1000} s for such a worker (BLACKTREE_UNSUPPORTED_AFTER)`;
  if (slots === 0)
    return `no worker of ${where} takes jobs: each one that can build it is lost, draining, taken out of service by an operator, or refuses jobs`;
  return `all ${count(slots, "slot")} for it in ${where} ${slots === 1 ? "is" : "are"} in use, and ${jobsBefore} ${before === 1 ? "waits" : "wait"} before it`;
}

const count = (number: number, what: string) => `${number} ${what}${number === 1 ? "" : "s"}`;

/** Each slot runs one job after the other, and those that run now are half done on average. */
function estimateOf(
  { queue, workers, slots, wanted, unsupportedAfterMs }: Situation,
  waitedMs: number,
): number | null {
  if (workers.some((worker) => worker.is_free_for_it))
    return wanted.missesPlatforms ? Math.max(0, unsupportedAfterMs - waitedMs) : 0;
  const { before, durationsMs } = queue;
  const median = durationsMs.toSorted((a, b) => a - b)[Math.floor(durationsMs.length / 2)];
  if (median === undefined || slots === 0) return null;
  return Math.round(median * (0.5 + Math.floor(before / slots)));
}
