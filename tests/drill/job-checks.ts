/** The conditions for every job, checked from outside: its result, its attempts, its tag. */
import type { JobResult } from "../../src/shared/job.ts";
import type { RecordedRequest } from "../support/servers/registry-proxy.ts";
import type { Breach } from "./breach.ts";
import { evidenceAbout } from "./evidence.ts";
import type { FaultRecord } from "./fault-runner.ts";
import type { JobClient, ReceivedResult } from "./job-client.ts";
import { type Attempt, attemptsIn, type Journal } from "./journal.ts";
import { LEASE_TTL_MS, MAX_ATTEMPTS, PING_INTERVAL_MS, type Site } from "./site.ts";
import type { DrillJob } from "./workload.ts";

export interface JobVerdict {
  readonly breaches: readonly Breach[];
  readonly succeeded: number;
  /** Builds that had to fail, and did. */
  readonly failed: number;
  /** Used all its attempts, and each of them was hit by a fault. */
  readonly failedByFaults: number;
  readonly lost: number;
  readonly doubled: number;
  /** The identical result again: its confirmation was lost, so it was published again. */
  readonly repeated: number;
  /** Run again after Redis had lost its data, and the image already existed. */
  readonly foundAgain: number;
  /** With more than one attempt. */
  readonly retried: number;
  readonly overlaps: number;
}

export interface Observed {
  readonly site: Site;
  readonly jobs: readonly DrillJob[];
  readonly jobClient: JobClient;
  readonly journal: Journal;
  readonly records: readonly FaultRecord[];
}

type Counted = Omit<JobVerdict, "breaches">;
export type Finding = Partial<Counted> & { readonly problems: readonly { rule: string; what: string }[] };

const NOTHING: Finding = { problems: [] };

export async function checkJobs(observed: Observed): Promise<JobVerdict> {
  const { jobs, jobClient, journal, records, site } = observed;
  const attempts = Map.groupBy(attemptsIn(journal), ({ jobId }) => jobId);
  const breaches: Breach[] = [];
  const counts = {
    succeeded: 0,
    failed: 0,
    failedByFaults: 0,
    lost: 0,
    doubled: 0,
    repeated: 0,
    foundAgain: 0,
    retried: 0,
    overlaps: 0,
  };
  for (const job of jobs) {
    const { job_id, ecr_repo, deployment_version } = job.message;
    const results = jobClient.results.get(job_id) ?? [];
    const runs = attempts.get(job_id) ?? [];
    const puts = site.backends.ecr.tagPuts(ecr_repo, deployment_version);
    const findings = [
      checkResult(job, results),
      checkFurtherResults(results, records),
      checkAttempts(runs, records),
      await checkTag(job, results[0]?.result, puts, runs, site),
    ];
    for (const { problems, ...counted } of findings) {
      for (const name of Object.keys(counts) as (keyof Counted)[]) counts[name] += counted[name] ?? 0;
      const evidence = problems.length > 0 ? evidenceAbout(job_id, journal, records, puts) : [];
      for (const { rule, what } of problems) breaches.push({ rule, what: `${job_id}: ${what}`, evidence });
    }
  }
  return { ...counts, breaches: [...breaches, ...unknownJobs(observed)] };
}

function unknownJobs({ jobs, jobClient }: Observed): Breach[] {
  const known = new Set(jobs.map(({ message }) => message.job_id));
  return [...jobClient.results.keys()]
    .filter((jobId) => !known.has(jobId))
    .map((jobId) => ({ rule: "result of an unknown job", what: jobId, evidence: [] }));
}

export function checkResult(job: DrillJob, [first]: readonly ReceivedResult[]): Finding {
  if (!first) return { lost: 1, problems: [{ rule: "lost", what: "no result" }] };
  const { status, error, attempt } = first.result;
  const outcome = `${status} at attempt ${attempt}, ${error?.code}: ${error?.message}`;
  const wrong = { problems: [{ rule: "wrong result", what: `${job.kind} job ended ${outcome}` }] };
  if (status === "SUCCESS") return job.kind === "failing" ? wrong : { ...NOTHING, succeeded: 1 };
  if (status !== "FAILED" || !error) return wrong;
  if (job.kind === "failing" && error.code === "BUILD_FAILED") return { ...NOTHING, failed: 1 };
  return error.retryable && attempt >= MAX_ATTEMPTS ? { ...NOTHING, failedByFaults: 1 } : wrong;
}

export function checkFurtherResults(
  [first, ...further]: readonly ReceivedResult[],
  records: readonly FaultRecord[],
): Finding {
  let [repeated, foundAgain, doubled] = [0, 0, 0];
  const problems: { rule: string; what: string }[] = [];
  for (const again of further) {
    if (!first) break;
    if (again.text === first.text) repeated += 1;
    else if (isFoundAgain(first, again, records)) foundAgain += 1;
    else {
      doubled += 1;
      problems.push({ rule: "doubled", what: `${summary(first.result)}, and then ${summary(again.result)}` });
    }
  }
  return { repeated, foundAgain, doubled, problems };
}

function summary({ status, attempt, image_digest, finished_at }: JobResult): string {
  return `${status} (attempt ${attempt}, ${image_digest}, finished at ${finished_at})`;
}

/** docs/messages.md, Identity: after a loss of Redis a job may run again, and then finds its image already made. */
function isFoundAgain(
  first: ReceivedResult,
  again: ReceivedResult,
  records: readonly FaultRecord[],
): boolean {
  const { status, image_digest } = first.result;
  const isSame = status === again.result.status && image_digest === again.result.image_digest;
  return (
    isSame &&
    records.some(
      ({ planned, beganAt }) => planned.kind.forgets && beganAt >= first.sentAt && beganAt <= again.at,
    )
  );
}

/**
 * A worker that is reachable again learns at the latest with its next registration that its run is stale. It registers
 * after a lease time without a ping and then a ping; asking for that may first have to run into a deadline.
 */
const NOTICED_MS = LEASE_TTL_MS + 2 * PING_INTERVAL_MS + 5000;

export function checkAttempts(runs: readonly Attempt[], records: readonly FaultRecord[]): Finding {
  const problems: { rule: string; what: string }[] = [];
  let overlaps = 0;
  for (const [index, later] of runs.entries()) {
    for (const earlier of runs.slice(0, index)) {
      if (earlier.endedAt <= later.startedAt) continue;
      overlaps += 1;
      if (wasIsolated(earlier, later.startedAt, records)) continue;
      const what = `${nameOf(later)} began while ${nameOf(earlier)} was running, and that worker was reachable`;
      problems.push({ rule: "overlap", what });
    }
    const twin = runs.slice(0, index).find(({ attempt }) => attempt === later.attempt);
    if (twin && !wasForgotten(twin.startedAt, later.startedAt, records)) {
      problems.push({ rule: "attempt number used twice", what: `${nameOf(twin)} and ${nameOf(later)}` });
    }
  }
  return { overlaps, retried: runs.length > 1 ? 1 : 0, problems };
}

function nameOf({ attempt, launch }: Attempt): string {
  return `attempt ${attempt} on ${launch.program}#${launch.number}`;
}

function wasIsolated({ launch }: Attempt, at: number, records: readonly FaultRecord[]): boolean {
  return records.some(
    ({ planned, beganAt, healedAt }) =>
      planned.kind.isolates &&
      planned.target.includes(launch.program) &&
      beganAt <= at &&
      at <= healedAt + NOTICED_MS,
  );
}

function wasForgotten(from: number, until: number, records: readonly FaultRecord[]): boolean {
  return records.some(
    ({ planned, beganAt, healedAt }) => planned.kind.forgets && beganAt <= until && healedAt >= from,
  );
}

async function checkTag(
  { message: { ecr_repo, deployment_version } }: DrillJob,
  result: JobResult | undefined,
  puts: readonly RecordedRequest[],
  runs: readonly Attempt[],
  site: Site,
): Promise<Finding> {
  const tagged = await site.backends.registry.getManifest(ecr_repo, deployment_version);
  const problems = [
    ...tagProblems(result, tagged?.digest),
    ...putProblems(
      puts.filter(({ status }) => status === 201),
      runs,
      (host) => site.workers.find(({ toRegistry }) => toRegistry.address === host)?.program.name,
    ),
  ];
  return { problems: problems.map((what) => ({ rule: "tag", what })) };
}

export function tagProblems(result: JobResult | undefined, tagged: string | undefined): string[] {
  if (!result) return [];
  if (result.status === "SUCCESS") {
    if (result.image_digest === tagged) return [];
    return [`the result has ${result.image_digest}, the registry ${tagged}`];
  }
  // A last attempt whose worker was lost right after it had put its tag has no next one to find it.
  const mayBeTagged = result.error?.retryable === true;
  return tagged === undefined || mayBeTagged ? [] : [`the job failed, and the registry has ${tagged}`];
}

export function putProblems(
  puts: readonly RecordedRequest[],
  runs: readonly Attempt[],
  workerAt: (host: string) => string | undefined,
): string[] {
  const digests = new Set(puts.map(({ digest }) => digest));
  const moved = digests.size > 1 ? [`moved: ${[...digests].join(", then ")}`] : [];
  const stale = puts.flatMap((put) => {
    const worker = workerAt(put.host);
    const own = runs.findLast(({ launch, startedAt }) => launch.program === worker && startedAt <= put.at);
    if (!own) return [`put by ${put.host}, which had no run of this job`];
    const newer = runs.find(({ attempt, startedAt }) => attempt > own.attempt && startedAt < put.at);
    return newer ? [`put by ${nameOf(own)} after ${nameOf(newer)} had begun`] : [];
  });
  return [...moved, ...stale];
}
