/**
 * Recovery time of a fault: from its beginning (where something was lost) or its healing (where something stood still)
 * to the first sign of work on an affected part. A sign is a step of some job that an orchestrator or a worker noted:
 * assigned, attached to, run started or ended, attempt failed, result published. On an affected part means: noted by
 * the part that was hit, or about a job that it had in hand when it was hit, whoever goes on with that; when a server was
 * hit that all of them share, whoever noted it. A part that was idle and stays so has no recovery time.
 */
import type { FaultRecord } from "./fault-runner.ts";
import { attemptsIn, type Journal, type JournalLine } from "./journal.ts";

const TAKEN = new Set(["job assigned", "attaching to a running job"]);
const LET_GO = new Set(["result published", "attempt failed; the job is tried again"]);
const SIGNS = new Set([...TAKEN, ...LET_GO, "run started", "run ended"]);

export interface Recovery {
  readonly record: FaultRecord;
  readonly tookMs: number;
}

export function recoveriesOf(records: readonly FaultRecord[], journal: Journal): Recovery[] {
  const signs = journal.filter(({ message }) => SIGNS.has(message));
  return records.flatMap((record) => {
    const { kind, target } = record.planned;
    const from = kind.recoversFrom === "begin" ? record.beganAt : record.healedAt;
    const inHand = jobsInHand(target, record.beganAt, journal);
    const isAffected = ({ launch, jobId }: JournalLine) =>
      isShared(target) || target.includes(launch.program) || (jobId !== undefined && inHand.has(jobId));
    const sign = signs.find((line) => line.at > from && isAffected(line));
    return sign ? [{ record, tookMs: sign.at - from }] : [];
  });
}

function isShared(target: readonly string[]): boolean {
  return target.length > 1 || !/^(orchestrator|worker)-/.test(target[0] ?? "");
}

function jobsInHand(target: readonly string[], at: number, journal: Journal): ReadonlySet<string> {
  const running = attemptsIn(journal)
    .filter(
      ({ launch, startedAt, endedAt }) => target.includes(launch.program) && startedAt <= at && at <= endedAt,
    )
    .map(({ jobId }) => jobId);
  const held = new Set<string>();
  for (const { at: then, launch, message, jobId } of journal) {
    if (then > at) break;
    if (jobId === undefined) continue;
    if (TAKEN.has(message) && target.includes(launch.program)) held.add(jobId);
    else if (TAKEN.has(message) || LET_GO.has(message)) held.delete(jobId);
  }
  return new Set([...running, ...held]);
}

/** Nearest rank; undefined of nothing. */
export function percentile(values: readonly number[], part: number): number | undefined {
  const sorted = [...values].sort((one, other) => one - other);
  return sorted[Math.max(0, Math.ceil(part * sorted.length) - 1)];
}
