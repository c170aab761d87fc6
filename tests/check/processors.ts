/** How busy the machine's processors were, from proc_stat(5). */
import { readFileSync } from "node:fs";

export interface ProcessorTimes {
  readonly idleTicks: number;
  readonly totalTicks: number;
}

export function processorTimes(): ProcessorTimes {
  const [line = ""] = readFileSync("/proc/stat", "utf8").split("\n");
  // user nice system idle iowait irq softirq steal; guests' times are part of the first two.
  const ticks = line.split(/\s+/).slice(1, 9).map(Number);
  const [, , , idle = 0, ioWait = 0] = ticks;
  return { idleTicks: idle + ioWait, totalTicks: ticks.reduce((sum, each) => sum + each, 0) };
}

/** Between 0 and 1. */
export function idleShare(from: ProcessorTimes, to: ProcessorTimes): number {
  return (to.idleTicks - from.idleTicks) / Math.max(1, to.totalTicks - from.totalTicks);
}
