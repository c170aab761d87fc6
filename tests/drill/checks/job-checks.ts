/** The conditions for every job, checked from outside: its result, its attempts, its tag, its dead letters. */
import type { JobResult } from "../../../src/shared/job.ts";
import type { FaultRecord } from "../faults/runner.ts";
import type { JobClient, ReceivedResult } from "../jobs/client.ts";
import { conflictingMessage, type DrillJob } from "../jobs/job.ts";
import type { Cancellation } from "../jobs/sender.ts";
import { type Assigned, type Attempt, assignedIn, attemptsIn, type Journal } from "../site/journal.ts";
import type { BusyPeriod } from "../site/machine-watch.ts";
import type { Site } from "../site/site.ts";
import { checkAttempts, misplacedRuns } from "./attempts.ts";
import type { Breach } from "./breach.ts";
import { checkDeadLetters } from "./dead-letters.ts";
import { evidenceAbout } from "./evidence.ts";
import {
  type EndedAttempt,
  endedAttempts,
  isExplained,
  isOfBusyMachine,
  unexplainedLines,
} from "./explanations.ts";
import { FaultLog } from "./fault-log.ts";
import { type Counts, type Finding, findingOf, NO_COUNTS } from "./finding.ts";
import { checkCancelTook, checkFurtherResults, checkGroup, checkResult } from "./results.ts";
import { putProblems, type TagPut, tagHistory } from "./tag-history.ts";

export interface JobVerdict extends Counts {
  readonly breaches: readonly Breach[];
}

export interface Observed {
  readonly site: Site;
  readonly jobs: readonly DrillJob[];
  readonly cancellations: readonly Cancellation[];
  readonly jobClient: JobClient;
  readonly journal: Journal;
  readonly records: readonly FaultRecord[];
  readonly busy: readonly BusyPeriod[];
}

/** All that is known about one job. */
interface JobFacts {
  readonly job: DrillJob;
  readonly results: readonly ReceivedResult[];
  readonly runs: readonly Attempt[];
  readonly assigned: readonly Assigned[];
  readonly lines: Journal;
  readonly puts: readonly TagPut[];
  readonly unknownPuts: number;
  readonly tagged: string | undefined;
  /** The image of the other job under its id. */
  readonly otherTagged: string | undefined;
  readonly cancellation: Cancellation | undefined;
  readonly group: readonly string[];
}

const EVER = { from: 0, until: Number.POSITIVE_INFINITY };

export async function checkJobs(observed: Observed): Promise<JobVerdict> {
  const { journal, records, site } = observed;
  const orchestrators = site.orchestrators.map(({ program }) => program.name);
  const faults = new FaultLog(records, orchestrators, observed.busy);
  const breaches: Breach[] = [];
  const counts = { ...NO_COUNTS };
  for (const facts of await factsOf(observed)) {
    const { job, puts } = facts;
    for (const { problems, ...counted } of findingsAbout(facts, observed, faults)) {
      for (const name of Object.keys(counts) as (keyof Counts)[])
        (counts as Record<keyof Counts, number>)[name] += counted[name] ?? 0;
      const { job_id } = job.message;
      const evidence = problems.length > 0 ? evidenceAbout(job_id, journal, records, puts) : [];
      for (const { rule, what } of problems) breaches.push({ rule, what: `${job_id}: ${what}`, evidence });
    }
  }
  return { ...counts, breaches: [...breaches, ...unknownJobs(observed)] };
}

async function factsOf({ jobs, jobClient, journal, site, cancellations }: Observed): Promise<JobFacts[]> {
  const attempts = Map.groupBy(attemptsIn(journal), ({ jobId }) => jobId);
  const assigned = Map.groupBy(assignedIn(journal), ({ jobId }) => jobId);
  const lines = Map.groupBy(journal, ({ jobId }) => jobId);
  const groups = Map.groupBy(
    jobs,
    ({ message: { tenant, supersede } }) => supersede && `${tenant} ${supersede}`,
  );
  const { completedRequests, getManifest } = site.backends.registry;
  const completed = completedRequests().filter(({ method }) => method === "PUT");
  const workerAt = (host: string) =>
    site.workers.find(({ toRegistry }) => toRegistry.address === host)?.program.name;
  return Promise.all(
    jobs.map(async (job) => {
      const { job_id, ecr_repo, deployment_version, tenant, supersede } = job.message;
      const path = `/v2/${ecr_repo}/manifests/${deployment_version}`;
      const passed = site.backends.ecr.tagPuts(ecr_repo, deployment_version);
      const { puts, unknown } = tagHistory(completed, passed, path, workerAt);
      const group = supersede === undefined ? [] : (groups.get(`${tenant} ${supersede}`) ?? []);
      return {
        job,
        results: jobClient.results.get(job_id) ?? [],
        runs: attempts.get(job_id) ?? [],
        assigned: assigned.get(job_id) ?? [],
        lines: lines.get(job_id) ?? [],
        puts,
        unknownPuts: unknown,
        tagged: (await getManifest(ecr_repo, deployment_version))?.digest,
        otherTagged: (await getManifest(ecr_repo, conflictingMessage(job).deployment_version))?.digest,
        cancellation: cancellations.find(({ jobId }) => jobId === job_id),
        group: group.map(({ message }) => message.job_id),
      };
    }),
  );
}

function findingsAbout(facts: JobFacts, { jobClient, journal, site }: Observed, faults: FaultLog): Finding[] {
  const { job, results, runs, assigned, lines, puts, cancellation, group } = facts;
  const { job_id } = job.message;
  const letters = jobClient.deadLetters.filter(({ text }) => text.includes(`"${job_id}"`));
  const duplicates = (jobClient.sent.get(job_id)?.length ?? 1) - 1;
  const regionOf = (worker: string) => site.workers.find(({ program }) => program.name === worker)?.region;
  const others = group.filter((id) => id !== job_id);
  const isLastOfGroup = group.at(-1) === job_id;
  const groupResults = isLastOfGroup ? group.map((id) => jobClient.results.get(id)?.[0]) : [];
  return [
    checkResult(job, results, { cancellation, group: others }),
    checkFurtherResults(results, { duplicates, faults }),
    checkGroup(groupResults),
    checkCancelTook(cancellation, puts.at(-1)?.arrivedAt, faults),
    checkAttempts(runs, faults, journal),
    checkExplained(facts, journal, faults),
    checkDeadLetters(job, letters, results, faults),
    findingOf("wrong region", misplacedRuns(job.message, runs, regionOf)),
    findingOf("unexplained", unexplainedLines(lines, journal, faults)),
    findingOf("tag", [
      ...tagProblems(facts, faults),
      ...putProblems(puts, { runs, assigned, lines, faults }),
      ...(facts.otherTagged !== undefined && !faults.hasForgotten(EVER)
        ? ["another job under its id was built"]
        : []),
      ...(facts.unknownPuts > 0 ? [`put ${facts.unknownPuts} times past the workers' proxies`] : []),
    ]),
  ];
}

function checkExplained(
  { lines, assigned, runs, results }: JobFacts,
  journal: Journal,
  faults: FaultLog,
): Finding {
  const ended = [
    ...endedAttempts(lines, assigned, runs, faults.orchestrators),
    ...givenUp(results[0], assigned, runs),
  ];
  const others = ended.filter((attempt) => !isExplained(attempt, faults) && !isForgotten(attempt, faults));
  const unexplained = others.filter((attempt) => !isOfBusyMachine(attempt, journal, faults));
  return {
    explained: ended.length - others.length,
    endedByMachine: others.length - unexplained.length,
    problems: unexplained.map(({ attempt, code, workers }) => ({
      rule: "unexplained",
      what: `attempt ${attempt} on ${workers.join(", ") || "no worker"} ended with ${code}, and no fault explains that`,
    })),
  };
}

/** With Redis's data, the number of the attempt was lost. */
function isForgotten({ period }: EndedAttempt, faults: FaultLog): boolean {
  return faults.hasForgotten(period);
}

/** The last attempt of a job that failed because of faults. */
function givenUp(
  first: ReceivedResult | undefined,
  assigned: readonly Assigned[],
  runs: readonly Attempt[],
): EndedAttempt[] {
  if (first?.result.error?.retryable !== true) return [];
  const { attempt, error } = first.result;
  const own = assigned.filter((each) => each.attempt === attempt);
  const workers = own.map(({ worker }) => worker).filter((worker) => worker !== undefined);
  const period = { from: own[0]?.at ?? first.sentAt, until: first.at };
  const orchestrators = own.map(({ orchestrator }) => orchestrator);
  const hasRun = runs.some((run) => run.attempt === attempt);
  return [{ attempt, code: error.code, workers, orchestrators, hasRun, period }];
}

function unknownJobs({ jobs, jobClient }: Observed): Breach[] {
  const known = new Set(jobs.map(({ message }) => message.job_id));
  return [...jobClient.results.keys()]
    .filter((jobId) => !known.has(jobId))
    .map((jobId) => ({ rule: "result of an unknown job", what: jobId, evidence: [] }));
}

type TagFacts = Pick<JobFacts, "results" | "tagged" | "puts" | "lines"> & { readonly job: DrillJob };

/** The tag in the end is the one in the result; without a success there is none. */
export function tagProblems({ job, results, tagged, puts, lines }: TagFacts, faults: FaultLog): string[] {
  const own = results.filter(({ result }) => isOwn(result, job)).map(({ result }) => result);
  const success = own.find(({ status }) => status === "SUCCESS");
  if (success) {
    const isPut = puts.some(({ digest }) => digest === success.image_digest);
    return [
      ...(success.image_digest === tagged
        ? []
        : [`the result has ${success.image_digest}, the registry ${tagged}`]),
      ...(isPut ? [] : [`the registry's log has no request that put ${success.image_digest}`]),
    ];
  }
  const [last] = own.slice(-1);
  if (!last || tagged === undefined) return [];
  // A worker that was lost right after it had put its tag has no next attempt that finds it.
  const isLost = lines.some(({ message }) => message === "worker lost");
  const mayBeTagged = last.error?.retryable === true || (last.status === "CANCELLED" && isLost);
  const isBuiltAgain = faults.hasForgotten({ from: results[0]?.sentAt ?? 0, until: puts.at(-1)?.at ?? 0 });
  return mayBeTagged || isBuiltAgain ? [] : [`the job ended ${last.status}, and the registry has ${tagged}`];
}

function isOwn({ deployment_version }: JobResult, job: DrillJob): boolean {
  return deployment_version !== conflictingMessage(job).deployment_version;
}
