/** All kinds of faults, and the plan: kinds, targets, times and durations follow from the seed. */
import { type Range, SeededRandom } from "../seeded-random.ts";
import type { FaultKind, PlannedFault } from "./fault.ts";
import { LATE_TAG_FAULTS } from "./late-tag-faults.ts";
import { MOMENT_FAULTS } from "./moment-faults.ts";
import { ORCHESTRATOR_FAULTS } from "./orchestrator-faults.ts";
import { SERVER_FAULTS } from "./server-faults.ts";
import { WORKER_FAULTS } from "./worker-faults.ts";

export const FAULT_KINDS: readonly FaultKind[] = [
  ...ORCHESTRATOR_FAULTS,
  ...WORKER_FAULTS,
  ...SERVER_FAULTS,
  ...MOMENT_FAULTS,
  ...LATE_TAG_FAULTS,
];

const PAUSE_MS: Range = [1500, 5500];

export const MEAN_PAUSE_MS = (PAUSE_MS[0] + PAUSE_MS[1]) / 2;

/** Every kind occurs once before one occurs a second time. */
export function planFaults(
  count: number,
  seed: string | number,
  kinds: readonly FaultKind[] = FAULT_KINDS,
): PlannedFault[] {
  const random = new SeededRandom(`faults ${seed}`);
  const faults: PlannedFault[] = [];
  while (faults.length < count) {
    for (const kind of random.shuffled(kinds)) {
      faults.push({
        number: faults.length + 1,
        kind,
        target: random.pick(kind.targets),
        lastsMs: random.integer(kind.lastsMs),
        pauseMs: random.integer(PAUSE_MS),
      });
    }
  }
  return faults.slice(0, count);
}
