/**
 * Times in which the machine was too busy for the lease time of a drill: neither a fault of the plan nor of the
 * programs. All traffic passes through the drill, so a drill that does not run is a fault of every part at once.
 */
import { readFileSync } from "node:fs";
import { availableParallelism } from "node:os";
import { LEASE_TTL_MS } from "./site.ts";

const SAMPLE_INTERVAL_MS = 200;
/** Shorter ones end no lease. */
const MIN_STALL_MS = 1000;
/** Threads that could run, for each processor, on average over a lease time. */
const OVERLOAD = 5;

export interface BusyPeriod {
  readonly kind: "stalled" | "overloaded";
  readonly from: number;
  readonly until: number;
}

interface Sample {
  readonly at: number;
  readonly runnable: number;
}

export class MachineWatch {
  readonly periods: BusyPeriod[] = [];
  #samples: Sample[] = [];
  #lastAt = Date.now();
  readonly #timer = setInterval(() => this.#sample(), SAMPLE_INTERVAL_MS);

  stop(): void {
    clearInterval(this.#timer);
  }

  #sample(): void {
    const at = Date.now();
    if (at - this.#lastAt > MIN_STALL_MS) this.#add("stalled", this.#lastAt, at);
    this.#lastAt = at;
    const recent = this.#samples.filter((sample) => sample.at > at - LEASE_TTL_MS);
    this.#samples = [...recent, { at, runnable: runnableThreads() }];
    const mean = this.#samples.reduce((sum, { runnable }) => sum + runnable, 0) / this.#samples.length;
    const from = this.#samples[0]?.at ?? at;
    if (at - from > LEASE_TTL_MS / 2 && mean > OVERLOAD * availableParallelism())
      this.#add("overloaded", from, at);
  }

  /** Consecutive periods become one. */
  #add(kind: BusyPeriod["kind"], from: number, until: number): void {
    const last = this.periods.at(-1);
    if (last?.kind === kind && last.until >= from) this.periods[this.periods.length - 1] = { ...last, until };
    else this.periods.push({ kind, from, until });
  }
}

/** The fourth field is that number, and that of all threads. */
function runnableThreads(): number {
  return Number.parseInt(readFileSync("/proc/loadavg", "utf8").split(" ")[3] ?? "", 10);
}
