/**
 * Recovery time of a fault: until its part does its work again (a worker is known to an orchestrator, an orchestrator is
 * ready, all of them are when a server was hit), counted from when the part was started again or let go on; and until each
 * job that it had in hand goes on, counted from the fault itself where something was lost, else from its healing. The
 * longest of these counts. A job goes on when somebody attaches to its run, when its next attempt starts or its result is
 * published; at once, if its run was under way all the time.
 */
import type { FaultRecord } from "./fault-runner.ts";
import { type Attempt, attemptsIn, type Journal } from "./journal.ts";

const TAKEN = new Set(["job assigned", "attaching to a running job"]);
const LET_GO = new Set(["result published", "attempt failed; the job is tried again"]);
const GOES_ON = new Set(["attaching to a running job", "run started", "result published"]);

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
      const jobs = jobsInHand(target, record.beganAt, journal, attempts);
      const jobsMs = jobs.map((jobId) => goesOnAfterMs(jobId, from, journal, attempts));
      return { record, tookMs: Math.max(record.settledAt - record.healedAt, ...jobsMs) };
    });
}

/** Of a server that all share, these are all jobs under way. */
function jobsInHand(
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
    if (TAKEN.has(message) && isHit(launch.program)) held.add(jobId);
    else if (LET_GO.has(message)) held.delete(jobId);
    else if (TAKEN.has(message) && !running.includes(jobId)) held.delete(jobId);
  }
  return [...held];
}

function goesOnAfterMs(jobId: string, from: number, journal: Journal, attempts: readonly Attempt[]): number {
  const next = journal.find((line) => line.at > from && line.jobId === jobId && GOES_ON.has(line.message));
  if (!next) return 0;
  const isUnderWay = attempts.some(
    (attempt) => attempt.jobId === jobId && attempt.startedAt <= from && from < attempt.endedAt,
  );
  return next.message === "result published" && isUnderWay ? 0 : next.at - from;
}

/** Nearest rank; undefined of nothing. */
export function percentile(values: readonly number[], part: number): number | undefined {
  const sorted = [...values].sort((one, other) => one - other);
  return sorted[Math.max(0, Math.ceil(part * sorted.length) - 1)];
}
