/** The parts of a schedule, as fast-check generates and shrinks them. */
import * as fc from "fast-check";
import { MAX_CHOICE } from "./delays.ts";
import type { Build } from "./worker.ts";

export interface PlannedJob extends Build {
  readonly atMs: number;
  /** Of its preferred workers; 0 or 1. */
  readonly region: number;
  readonly isHigh: boolean;
}

export interface PlannedFault {
  readonly kind: (typeof FAULTS)[number] | (typeof INPUTS)[number];
  readonly atMs: number;
  /** The fault waits for this many further calls of its process. */
  readonly steps: number;
  /** Which job, worker or orchestrator; taken modulo their number. */
  readonly target: number;
  readonly forMs: number;
}

export interface Plan {
  readonly orchestrators: number;
  /** Slots of each worker. */
  readonly workers: readonly number[];
  readonly jobs: readonly PlannedJob[];
  readonly faults: readonly PlannedFault[];
  /** See delays.ts. */
  readonly choices: readonly number[];
  /** After some faults a message returns to its queue without a hint: only then the Dispatcher polls. */
  readonly isPolled: boolean;
}

/** No Dispatcher has to poll after these. */
const INPUTS = ["cancel", "duplicate", "stop worker", "kill worker", "freeze worker", "cut"] as const;
const FAULTS = ["stop orchestrator", "kill orchestrator", "freeze orchestrator", "reset connection"] as const;

const LAST_MS = 12_000;
const MAX_CALLS = 300;

const job: fc.Arbitrary<PlannedJob> = fc.record({
  atMs: fc.nat({ max: LAST_MS / 2 }),
  durationMs: fc.nat({ max: 4000 }),
  end: fc.constantFrom("success", "success", "success", "failure", "retryable failure"),
  region: fc.nat({ max: 1 }),
  isHigh: fc.boolean(),
});

function fault(kinds: readonly PlannedFault["kind"][]): fc.Arbitrary<PlannedFault> {
  return fc.record({
    kind: fc.constantFrom(...kinds),
    atMs: fc.nat({ max: LAST_MS }),
    steps: fc.nat({ max: 40 }),
    target: fc.nat({ max: 3 }),
    forMs: fc.nat({ max: LAST_MS }),
  });
}

export function plans(isPolled: boolean): fc.Arbitrary<Plan> {
  const kinds = isPolled ? [...INPUTS, ...FAULTS, ...FAULTS] : INPUTS;
  return fc.record({
    orchestrators: fc.integer({ min: 1, max: 2 }),
    workers: fc.array(fc.integer({ min: 1, max: 2 }), { minLength: 1, maxLength: 2 }),
    jobs: fc.array(job, { minLength: 1, maxLength: 5, size: "max" }),
    faults: fc.array(fault(kinds), { maxLength: 4, size: "max" }),
    choices: fc.array(fc.nat({ max: MAX_CHOICE }), { maxLength: MAX_CALLS, size: "max" }),
    isPolled: fc.constant(isPolled),
  });
}
