/** The identity of a process beyond its id, which the kernel reuses once the process has ended. */
import { readFileSync } from "node:fs";

/** `<pid>-<start time in clock ticks since boot>`; undefined when no such process runs. */
export function identityOf(pid: number): string | undefined {
  const stat = statFields(pid);
  return stat && `${pid}-${stat.startTicks}`;
}

export function isRunning(identity: string): boolean {
  return identityOf(Number.parseInt(identity, 10)) === identity;
}

/** The process group that a process belongs to; undefined when it has ended. */
export function groupOf(pid: number): number | undefined {
  return statFields(pid)?.group;
}

/** Fields of proc_pid_stat(5). A zombie has ended: only its parent has not collected it yet. */
function statFields(pid: number): { group: number; startTicks: string } | undefined {
  let text: string;
  try {
    text = readFileSync(`/proc/${pid}/stat`, "latin1");
  } catch {
    return undefined;
  }
  // The second field is the program's name in brackets, and may contain anything.
  const fields = text.slice(text.lastIndexOf(")") + 2).split(" ");
  const [state, , group] = fields;
  const startTicks = fields[19];
  if (state === "Z" || state === "X" || startTicks === undefined) return undefined;
  return { group: Number(group), startTicks };
}
