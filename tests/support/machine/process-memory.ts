import { readFile } from "node:fs/promises";
import type { TestProcess } from "./processes.ts";

/** The most memory that the process has had at any time since its start. */
export async function peakResidentBytes({ pid }: Pick<TestProcess, "pid">): Promise<number> {
  const status = await readFile(`/proc/${pid}/status`, "utf8");
  const [, kibibytes] = /^VmHWM:\s+(\d+) kB$/m.exec(status) ?? [];
  if (kibibytes === undefined) throw new Error(`/proc/${pid}/status has no VmHWM`);
  return Number(kibibytes) * 1024;
}
