/** A job's attempts: one at a time, each with a new number, in a region that the job allows. */

import type { FaultRecord } from "../faults/runner.ts";
import type { JobMessage } from "../jobs/job.ts";
import type { Attempt, Journal } from "../site/journal.ts";
import { LEASE_TTL_MS, PING_INTERVAL_MS, REGIONS } from "../site/site.ts";
import { isOfBusyMachine } from "./explanations.ts";
import type { FaultLog } from "./fault-log.ts";
import type { Finding } from "./finding.ts";

/**
 * A worker that is reachable again learns at the latest with its next registration that its run is stale. It registers
 * after a lease time without a ping and then a ping; asking for that may first have to run into a deadline.
 */
const NOTICED_MS = LEASE_TTL_MS + 2 * PING_INTERVAL_MS + 5000;

export function checkAttempts(runs: readonly Attempt[], faults: FaultLog, journal: Journal): Finding {
  const problems: { rule: string; what: string }[] = [];
  let overlaps = 0;
  for (const [index, later] of runs.entries()) {
    for (const earlier of runs.slice(0, index)) {
      if (earlier.endedAt <= later.startedAt) continue;
      overlaps += 1;
      if (wasIsolated(earlier, later.startedAt, faults.records)) continue;
      if (wasLostByMachine(earlier, later.startedAt, faults, journal)) continue;
      const what = `${nameOf(later)} began while ${nameOf(earlier)} was running, and that worker was reachable`;
      problems.push({ rule: "overlap", what });
    }
    const twin = runs.slice(0, index).find(({ attempt }) => attempt === later.attempt);
    if (twin && !faults.hasForgotten({ from: twin.startedAt, until: later.startedAt })) {
      problems.push({ rule: "attempt number used twice", what: `${nameOf(twin)} and ${nameOf(later)}` });
    }
  }
  return { overlaps, retried: runs.length > 1 ? 1 : 0, problems };
}

/** Descriptions of the runs outside the regions in which the job may be built. */
export function misplacedRuns(
  { worker_region, region_policy }: Pick<JobMessage, "worker_region" | "region_policy">,
  runs: readonly Attempt[],
  regionOf: (worker: string) => string | undefined,
): string[] {
  const allowed: readonly (string | undefined)[] =
    region_policy === "require" ? [worker_region] : [worker_region, ...REGIONS];
  return runs
    .filter(({ launch }) => !allowed.includes(regionOf(launch.program)))
    .map(
      (run) => `${nameOf(run)} is in ${regionOf(run.launch.program)}, and the job requires ${worker_region}`,
    );
}

function nameOf({ attempt, launch }: Attempt): string {
  return `attempt ${attempt} on ${launch.program}#${launch.number}`;
}

function wasIsolated({ launch }: Attempt, at: number, records: readonly FaultRecord[]): boolean {
  return records.some(
    ({ planned, beganAt, healedAt }) =>
      planned.kind.isolates &&
      planned.target.includes(launch.program) &&
      beganAt <= at &&
      at <= healedAt + NOTICED_MS,
  );
}

/** Its worker did not answer pings because the machine was too busy. */
function wasLostByMachine({ launch }: Attempt, at: number, faults: FaultLog, journal: Journal): boolean {
  const period = { from: at - NOTICED_MS, until: at };
  return isOfBusyMachine({ workers: [launch.program], hasRun: true, period }, journal, faults);
}
