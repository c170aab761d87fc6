/**
 * Recovery time of a fault: until its part works again (an orchestrator knows the worker; an orchestrator is ready; all
 * of them are, after a fault of a server), counted from the restart or resumption of the part; and until each of its
 * jobs continues, counted from the fault itself if it lost something, else from its healing. The longest of these
 * counts. A job continues when an orchestrator attaches to its run, when its next attempt starts or its result is
 * published; at once, if its run was not interrupted.
 */
import type { FaultRecord } from "./faults/runner.ts";
import { type Attempt, attemptsIn, type Journal } from "./site/journal.ts";

const ACCEPTED = new Set(["job assigned", "attaching to a running job"]);
const RELEASED = new Set(["result published", "attempt failed; the job is tried again"]);
const RESUMED = new Set(["attaching to a running job", "run started", "result published"]);

export interface Recovery {
  readonly record: FaultRecord;
  readonly tookMs: number;
}

export function recoveriesOf(records: readonly FaultRecord[], journal: Journal): Recovery[] {
  const attempts = attemptsIn(journal);
  return records
    .filter(({ failure }) => failure === undefined)
    .map((record) => {
      const { kind, target } = record.planned;
      const from = kind.recoversFrom === "begin" ? record.beganAt : record.healedAt;
      const jobs = jobsHeld(target, record.beganAt, journal, attempts);
      const jobsMs = jobs.map((jobId) => resumedAfterMs(jobId, from, journal, attempts));
      return { record, tookMs: Math.max(record.settledAt - record.healedAt, ...jobsMs) };
    });
}

/** For a shared server, these are all running jobs. */
function jobsHeld(
  target: readonly string[],
  at: number,
  journal: Journal,
  attempts: readonly Attempt[],
): string[] {
  const isShared = !/^(orchestrator|worker)-/.test(target[0] ?? "");
  const isHit = (program: string) => isShared || target.includes(program);
  const running = attempts
    .filter(({ launch, startedAt, endedAt }) => isHit(launch.program) && startedAt <= at && at <= endedAt)
    .map(({ jobId }) => jobId);
  const held = new Set(running);
  for (const { at: then, launch, message, jobId } of journal) {
    if (then > at) break;
    if (jobId === undefined) continue;
    if (ACCEPTED.has(message) && isHit(launch.program)) held.add(jobId);
    else if (RELEASED.has(message)) held.delete(jobId);
    else if (ACCEPTED.has(message) && !running.includes(jobId)) held.delete(jobId);
  }
  return [...held];
}

function resumedAfterMs(jobId: string, from: number, journal: Journal, attempts: readonly Attempt[]): number {
  const next = journal.find((line) => line.at > from && line.jobId === jobId && RESUMED.has(line.message));
  if (!next) return 0;
  const isUnderWay = attempts.some(
    (attempt) => attempt.jobId === jobId && attempt.startedAt <= from && from < attempt.endedAt,
  );
  return next.message === "result published" && isUnderWay ? 0 : next.at - from;
}

/** Nearest rank; undefined without values. */
export function percentile(values: readonly number[], part: number): number | undefined {
  const sorted = [...values].sort((one, other) => one - other);
  return sorted[Math.max(0, Math.ceil(part * sorted.length) - 1)];
}
