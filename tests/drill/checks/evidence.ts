/** The evidence for a breach about a job: the faults during the job, and all log lines about it. */
import type { FaultRecord } from "../faults/runner.ts";
import type { Journal } from "../site/journal.ts";
import type { TagPut } from "./tag-history.ts";

const MAX_LINES = 80;

export function evidenceAbout(
  jobId: string,
  journal: Journal,
  records: readonly FaultRecord[],
  puts: readonly TagPut[] = [],
): string[] {
  const lines = journal.filter((line) => line.jobId === jobId);
  const [from, until] = [lines[0]?.at ?? 0, lines.at(-1)?.at ?? 0];
  const during = records.filter(({ beganAt, healedAt }) => beganAt <= until && healedAt >= from - 10_000);
  const entries = [
    ...lines.map(({ at, launch, text }) => ({ at, text: `${launch.program}#${launch.number} ${text}` })),
    ...puts.map(({ at, worker, digest }) => ({ at, text: `tag put by ${worker}: ${digest}` })),
    ...during.flatMap(faultEntries),
  ];
  return entries
    .sort((one, other) => one.at - other.at)
    .slice(-MAX_LINES)
    .map(({ at, text }) => `${timeOf(at)} ${text}`);
}

function faultEntries({ planned, beganAt, healedAt }: FaultRecord): { at: number; text: string }[] {
  const name = `fault ${planned.number} (${planned.kind.name}: ${planned.target.join(", ")})`;
  return [
    { at: beganAt, text: `--- ${name} begins` },
    ...(Number.isFinite(healedAt) ? [{ at: healedAt, text: `--- ${name} is healed` }] : []),
  ];
}

function timeOf(at: number): string {
  return new Date(at).toISOString().slice(11, 23);
}
