/** Carries the planned faults out, one after the other but not one at a time. */
import { setTimeout as sleep } from "node:timers/promises";
import type { PartName, PlannedFault } from "./faults.ts";
import { MEAN_PAUSE_MS } from "./faults.ts";
import type { Site } from "./site.ts";

export interface FaultRecord {
  readonly planned: PlannedFault;
  readonly beganAt: number;
  /** Infinite while it lasts. */
  readonly healedAt: number;
  readonly settledAt: number;
  /** Why its part did not come back as it should. */
  readonly failure: string | undefined;
}

/** More at once would leave too little standing for the others to recover against. */
const MOST_AT_ONCE = 3;
const LOOK_INTERVAL_MS = 50;

export class FaultRunner {
  readonly #site: Site;
  readonly #plan: readonly PlannedFault[];
  readonly #mayBegin: (number: number) => boolean;
  readonly #say: (line: string) => void;
  readonly #records: FaultRecord[] = [];
  readonly #taken = new Set<PartName>();
  readonly #active = new Set<Promise<void>>();
  #begunCount = 0;
  #lastBeginAt = 0;

  /** `mayBegin` is asked for each fault, by its number from 1 on, until it allows it. */
  constructor(
    site: Site,
    plan: readonly PlannedFault[],
    mayBegin: (number: number) => boolean,
    say: (line: string) => void,
  ) {
    this.#site = site;
    this.#plan = plan;
    this.#mayBegin = mayBegin;
    this.#say = say;
  }

  get records(): readonly FaultRecord[] {
    return this.#records;
  }

  /** How much of the plan is done, from 0 to 1; the jobs are put in at the same pace. */
  get progress(): number {
    if (this.#begunCount === this.#plan.length) return 1;
    const sinceLast = this.#begunCount === 0 ? 0 : (Date.now() - this.#lastBeginAt) / MEAN_PAUSE_MS;
    return (this.#begunCount + Math.min(1, sinceLast)) / this.#plan.length;
  }

  /** Comes back when every fault has been healed, and its part is back or did not come. */
  async run(signal: AbortSignal): Promise<void> {
    for (const planned of this.#plan) {
      await this.#room(planned, signal);
      if (signal.aborted) break;
      this.#begin(planned);
      await interruptible(planned.pauseMs, signal);
    }
    await Promise.all(this.#active);
  }

  async #room({ number, target }: PlannedFault, signal: AbortSignal): Promise<void> {
    while (!signal.aborted && !this.#mayBegin(number)) await interruptible(LOOK_INTERVAL_MS, signal);
    const isTaken = () => target.some((part) => this.#taken.has(part));
    while (!signal.aborted && (isTaken() || this.#active.size >= MOST_AT_ONCE)) {
      await Promise.race(this.#active);
    }
  }

  #begin(planned: PlannedFault): void {
    for (const part of planned.target) this.#taken.add(part);
    this.#begunCount += 1;
    this.#lastBeginAt = Date.now();
    const done = this.#carryOut(planned).finally(() => {
      for (const part of planned.target) this.#taken.delete(part);
      this.#active.delete(done);
    });
    this.#active.add(done);
  }

  async #carryOut(planned: PlannedFault): Promise<void> {
    const { kind, target, lastsMs, number } = planned;
    const open = Number.POSITIVE_INFINITY;
    const record = { planned, beganAt: Date.now(), healedAt: open, settledAt: open, failure: undefined };
    const told: { -readonly [Field in keyof FaultRecord]: FaultRecord[Field] } = record;
    this.#records.push(told);
    const lasts = kind.lastsMs[1] > 0 ? `, ${(lastsMs / 1000).toFixed(1)} s` : "";
    this.#say(`fault ${number}/${this.#plan.length}: ${kind.name}: ${target.join(", ")}${lasts}`);
    const fault = kind.make(this.#site, target, lastsMs);
    try {
      await fault.begin();
      await Bun.sleep(lastsMs);
    } catch (error) {
      told.failure = String(error);
    }
    try {
      await fault.heal();
      told.healedAt = Date.now();
      await fault.settled();
    } catch (error) {
      told.failure ??= String(error);
    }
    told.settledAt = Date.now();
    if (told.failure !== undefined) this.#say(`fault ${number} did not heal: ${told.failure.split("\n")[0]}`);
  }
}

/** Ends early, and without a word, when the signal aborts. */
async function interruptible(ms: number, signal: AbortSignal): Promise<void> {
  await sleep(ms, undefined, { signal }).catch(() => undefined);
}
