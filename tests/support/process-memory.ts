import { readFile } from "node:fs/promises";
import type { TestProcess } from "./processes.ts";

async function fieldOf({ pid }: Pick<TestProcess, "pid">, name: "VmRSS" | "VmHWM"): Promise<number> {
  const status = await readFile(`/proc/${pid}/status`, "utf8");
  const [, kibibytes] = new RegExp(`^${name}:\\s+(\\d+) kB$`, "m").exec(status) ?? [];
  if (kibibytes === undefined) throw new Error(`process ${pid} says nothing of its ${name}`);
  return Number(kibibytes) * 1024;
}

/** What it has in memory now. */
export function residentBytes(process: Pick<TestProcess, "pid">): Promise<number> {
  return fieldOf(process, "VmRSS");
}

/** The most that it ever had. */
export function peakResidentBytes(process: Pick<TestProcess, "pid">): Promise<number> {
  return fieldOf(process, "VmHWM");
}
