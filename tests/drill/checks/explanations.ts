/**
 * Every further attempt, lost worker and repeated assignment needs a fault that explains it: one that the drill caused
 * to a part that the job used at that time.
 */
import type { Harm } from "../faults/fault.ts";
import { type Assigned, type Attempt, type Journal, workerPrograms } from "../site/journal.ts";
import { LEASE_TTL_MS } from "../site/site.ts";
import type { FaultLog, Period } from "./fault-log.ts";

/** An attempt that ended without being the job's last one, or with a failure that another attempt might not have. */
export interface EndedAttempt {
  readonly attempt: number;
  /** Why it ended; a worker that was lost, unless an orchestrator has logged another failure. */
  readonly code: string;
  /** All that had this attempt, for calls that never arrived. */
  readonly workers: readonly string[];
  /** Those that assigned it. */
  readonly orchestrators: readonly string[];
  /** A worker has started it. */
  readonly hasRun: boolean;
  readonly period: Period;
}

const HARMS_OF_FAILURES: Readonly<Record<string, readonly Harm[]>> = {
  WORKER_LOST: ["run", "leases"],
  CLONE_FAILED: ["git"],
  REPO_NOT_FOUND: ["git"],
  ECR_AUTH: ["registry"],
  PUSH_FAILED: ["registry", "docker"],
  BUILD_FAILED: ["docker", "registry"],
  INTERNAL: ["docker", "registry", "git"],
};

export function isExplained(ended: EndedAttempt, faults: FaultLog): boolean {
  const { code, workers, orchestrators, hasRun, period } = ended;
  if (code === "WORKER_LOST" && faults.hasStoppedPings(period)) return true;
  // The claim is not renewed before the call has arrived: it ends if its orchestrator loses the worker or the message.
  if (!hasRun && faults.hasHarmed(orchestrators, ["pings", "messages"], period)) return true;
  // A frozen worker's requests fail after it has continued.
  return faults.hasHarmed(workers, [...(HARMS_OF_FAILURES[code] ?? []), "run"], period);
}

/** Fewer end no lease. */
const MIN_PINGS_MISSED = 3;

/** The machine was too busy: it did not run the drill, or workers did not answer pings in time. */
export function isOfBusyMachine(
  { workers, hasRun, period }: Pick<EndedAttempt, "workers" | "hasRun" | "period">,
  journal: Journal,
  faults: FaultLog,
): boolean {
  if (faults.wasBusy(period, "stalled")) return true;
  if (!faults.wasBusy(period, "overloaded")) return false;
  const programs = workerPrograms(journal);
  const missed = journal.filter(
    ({ message, fields, at }) =>
      message === "ping missed" &&
      workers.includes(programs.get(String(fields.worker_id)) ?? "") &&
      period.from <= at &&
      at <= period.until,
  );
  // A claim is not renewed by pings before the worker has the run.
  return !hasRun || missed.length >= MIN_PINGS_MISSED;
}

/** @param jobAssigned all of one job, as are the runs; in the order of time */
export function endedAttempts(
  journal: Journal,
  jobAssigned: readonly Assigned[],
  runs: readonly Attempt[],
  orchestrators: readonly string[],
): EndedAttempt[] {
  const retries = journal.filter(({ message }) => message === "attempt failed; the job is tried again");
  const startOf = (attempt: number) => {
    const assigned = jobAssigned.find((each) => each.attempt === attempt)?.at;
    const started = runs.find((run) => run.attempt === attempt)?.startedAt;
    const known = [assigned, started].filter((at) => at !== undefined);
    return known.length > 0 ? Math.min(...known) : undefined;
  };
  const last = Math.max(
    0,
    ...jobAssigned.map(({ attempt }) => attempt),
    ...runs.map(({ attempt }) => attempt),
  );
  const ended: EndedAttempt[] = [];
  for (let attempt = 1; attempt < last; attempt += 1) {
    const retry = retries.find(({ fields }) => fields.attempt === attempt);
    const { code = "WORKER_LOST" } = (retry?.fields.error ?? {}) as { code?: string };
    const until = retry?.at ?? startOf(attempt + 1) ?? Number.POSITIVE_INFINITY;
    const claims = jobAssigned.filter((each) => each.attempt === attempt);
    const started = runs.filter((run) => run.attempt === attempt).map(({ launch }) => launch.program);
    const had = new Set([...claims.map(({ worker }) => worker), ...started]);
    const workers = [...had].filter((worker) => worker !== undefined);
    const assigning = claims.map(({ orchestrator }) => orchestrator);
    // Without a start, the attempt was only counted: its number was lost, and given again, with Redis's data.
    const period = { from: startOf(attempt) ?? until - LEASE_TTL_MS, until };
    ended.push({
      attempt,
      code,
      workers,
      // The answer to a claim may have been lost: then no orchestrator has logged it.
      orchestrators: assigning.length > 0 ? assigning : orchestrators,
      hasRun: started.length > 0,
      period,
    });
  }
  return ended;
}

/** Log lines about an assignment that did not lead to a run, or a run that had lost its assignment. */
const DISTURBED = new Set([
  "worker not reachable; the job is assigned again, under the same attempt",
  "run out of reach; returning its message for an orchestrator that reaches the worker",
  "worker refused the job",
  "worker failed to handle the call",
  "stale run ended",
  "lease not confirmed: the job is not assigned to this run",
  "delivery revoked by broker; the orchestrator that gets the message next continues the job",
  "failed to handle the job; returning its message to the queue",
]);

/** The run of a cancelled job has lost its assignment without any fault. */
const ALSO_OF_CANCELLED = new Set([
  "stale run ended",
  "lease not confirmed: the job is not assigned to this run",
]);

/** How long after a fault its consequences for an assignment may be logged. */
const NOTICED_MS = 3 * LEASE_TTL_MS;

/** Descriptions of the unexplained lines about one job. */
export function unexplainedLines(jobLines: Journal, journal: Journal, faults: FaultLog): string[] {
  const programs = workerPrograms(journal);
  const isCancelled = jobLines.some(({ message }) => message === "job is cancelled");
  return jobLines
    .filter(({ message }) => DISTURBED.has(message) && !(isCancelled && ALSO_OF_CANCELLED.has(message)))
    .filter(({ at, fields, launch }) => {
      const period = { from: at - NOTICED_MS, until: at };
      const worker = programs.get(String(fields.worker_id));
      const parts = worker === undefined ? [launch.program] : [launch.program, worker];
      return !faults.hasAffected(parts, period) && !faults.wasBusy(period);
    })
    .map(
      ({ launch, message, fields }) =>
        `${launch.program}: ${message} (attempt ${fields.attempt ?? "unknown"})`,
    );
}
