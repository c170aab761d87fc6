/** Runs the planned faults in order; several may be active at the same time. */
import { setTimeout as sleep } from "node:timers/promises";
import type { Site } from "../site/site.ts";
import type { Fault, PartName, PlannedFault } from "./fault.ts";
import { MEAN_PAUSE_MS } from "./kinds.ts";

export interface FaultRecord {
  readonly planned: PlannedFault;
  readonly beganAt: number;
  /** Infinite while it lasts. */
  readonly healedAt: number;
  readonly settledAt: number;
  /** Why its part did not recover. */
  readonly failure: string | undefined;
}

/** Longer than the longest build. */
const MOMENT_TIMEOUT_MS = 30_000;

/** With more at once, too few parts would run for the others to recover against. */
const MAX_ACTIVE_FAULTS = 3;
const POLL_INTERVAL_MS = 50;

export class FaultRunner {
  readonly #site: Site;
  readonly #plan: readonly PlannedFault[];
  readonly #mayBegin: (number: number) => boolean;
  readonly #log: (line: string) => void;
  readonly #records: FaultRecord[] = [];
  readonly #missed: PlannedFault[] = [];
  readonly #taken = new Set<PartName>();
  /** Begun faults, and those that wait for their moment. */
  readonly #active = new Set<Promise<void>>();
  #awaitingMoment = 0;
  #begunCount = 0;
  #lastBeginAt = 0;

  /** `mayBegin` is called for each fault, with its number from 1, until it returns true. */
  constructor(
    site: Site,
    plan: readonly PlannedFault[],
    mayBegin: (number: number) => boolean,
    log: (line: string) => void,
  ) {
    this.#site = site;
    this.#plan = plan;
    this.#mayBegin = mayBegin;
    this.#log = log;
  }

  get records(): readonly FaultRecord[] {
    return this.#records;
  }

  /** Those whose moment did not come. */
  get missed(): readonly PlannedFault[] {
    return this.#missed;
  }

  /** The completed share of the plan, from 0 to 1; the jobs are sent at the same pace. */
  get progress(): number {
    if (this.#begunCount === this.#plan.length) return 1;
    const sinceLast = this.#begunCount === 0 ? 0 : (Date.now() - this.#lastBeginAt) / MEAN_PAUSE_MS;
    return (this.#begunCount + Math.min(1, sinceLast)) / this.#plan.length;
  }

  /** Resolves when every fault has been healed, and its part has recovered or failed to. */
  async run(signal: AbortSignal): Promise<void> {
    for (const planned of this.#plan) {
      await this.#untilAllowed(planned, signal);
      if (signal.aborted) break;
      this.#begin(planned, signal);
      await interruptible(planned.pauseMs, signal);
    }
    await Promise.all(this.#active);
  }

  async #untilAllowed({ number, target }: PlannedFault, signal: AbortSignal): Promise<void> {
    while (!signal.aborted && !this.#mayBegin(number)) await interruptible(POLL_INTERVAL_MS, signal);
    const isTaken = () => target.some((part) => this.#taken.has(part));
    while (!signal.aborted && (isTaken() || this.#active.size - this.#awaitingMoment >= MAX_ACTIVE_FAULTS)) {
      await Promise.race(this.#active);
    }
  }

  #begin(planned: PlannedFault, signal: AbortSignal): void {
    for (const part of planned.target) this.#taken.add(part);
    this.#begunCount += 1;
    this.#lastBeginAt = Date.now();
    const done = this.#carryOut(planned, signal).finally(() => {
      for (const part of planned.target) this.#taken.delete(part);
      this.#active.delete(done);
    });
    this.#active.add(done);
  }

  async #carryOut(planned: PlannedFault, signal: AbortSignal): Promise<void> {
    const { kind, target, lastsMs, number } = planned;
    const fault = kind.make(this.#site, target, lastsMs);
    const name = `fault ${number}/${this.#plan.length}: ${kind.name}: ${target.join(", ")}`;
    const beganAt = await this.#momentOf(fault, signal);
    if (beganAt === undefined) {
      this.#missed.push(planned);
      this.#log(`${name}: its moment did not come`);
      return;
    }
    const open = Number.POSITIVE_INFINITY;
    const record = { planned, beganAt, healedAt: open, settledAt: open, failure: undefined };
    const entry: { -readonly [Field in keyof FaultRecord]: FaultRecord[Field] } = record;
    this.#records.push(entry);
    const lasts = kind.lastsMs[1] > 0 ? `, ${(lastsMs / 1000).toFixed(1)} s` : "";
    this.#log(`${name}${lasts}`);
    try {
      await fault.begin();
      await Bun.sleep(lastsMs);
    } catch (error) {
      entry.failure = String(error);
    }
    try {
      await fault.heal();
      entry.healedAt = Date.now();
      await fault.settled();
    } catch (error) {
      entry.failure ??= String(error);
    }
    entry.settledAt = Date.now();
    if (entry.failure !== undefined)
      this.#log(`fault ${number} did not heal: ${entry.failure.split("\n")[0]}`);
  }

  async #momentOf({ awaitMoment }: Fault, signal: AbortSignal): Promise<number | undefined> {
    if (!awaitMoment) return Date.now();
    this.#awaitingMoment += 1;
    try {
      return await awaitMoment(AbortSignal.any([signal, AbortSignal.timeout(MOMENT_TIMEOUT_MS)]));
    } finally {
      this.#awaitingMoment -= 1;
    }
  }
}

/** Returns early, without an error, when the signal aborts. */
async function interruptible(ms: number, signal: AbortSignal): Promise<void> {
  await sleep(ms, undefined, { signal }).catch(() => undefined);
}
