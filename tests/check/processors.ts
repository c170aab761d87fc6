/** Idle time of the machine's processors, from proc_stat(5). */
import { readFileSync } from "node:fs";

export interface ProcessorTimes {
  readonly idleTicks: number;
  readonly totalTicks: number;
}

export function processorTimes(): ProcessorTimes {
  const [line = ""] = readFileSync("/proc/stat", "utf8").split("\n");
  // user nice system idle iowait irq softirq steal; user and nice include the times of guests.
  const ticks = line.split(/\s+/).slice(1, 9).map(Number);
  const [, , , idle = 0, ioWait = 0] = ticks;
  return { idleTicks: idle + ioWait, totalTicks: ticks.reduce((sum, each) => sum + each, 0) };
}

/** @returns the share of idle time between two readings, from 0 to 1. */
export function idleShare(from: ProcessorTimes, to: ProcessorTimes): number {
  return (to.idleTicks - from.idleTicks) / Math.max(1, to.totalTicks - from.totalTicks);
}
