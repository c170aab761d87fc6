/** The faults that the drill has caused, and whether one of them explains what a job went through. */
import type { Harm } from "../faults/fault.ts";
import type { FaultRecord } from "../faults/runner.ts";
import type { BusyPeriod } from "../site/machine-watch.ts";
import { LEASE_TTL_MS } from "../site/site.ts";

/** Times in ms since 1970. */
export interface Period {
  readonly from: number;
  readonly until: number;
}

/** How long after the part works again a harm may still show. */
const AFTERMATH_MS: Readonly<Record<Harm, number>> = {
  run: 2000,
  // A restarted orchestrator pings, and one that was cut off connects again.
  pings: 3000,
  // The leases are built again from the workers' reports.
  leases: 2 * LEASE_TTL_MS + 5000,
  messages: 5000,
  // Repeated requests wait longer each time.
  registry: 5000,
  git: 5000,
  docker: 5000,
};

/** Servers that all workers use. */
const SHARED = ["registry", "docker", "redis", "rabbitmq"];

export class FaultLog {
  constructor(
    readonly records: readonly FaultRecord[],
    readonly orchestrators: readonly string[],
    private readonly busy: readonly BusyPeriod[] = [],
  ) {}

  /** Whether a fault of one of these parts, or of a server, may have done one of these harms in this period. */
  hasHarmed(parts: readonly string[], harms: readonly Harm[], period: Period): boolean {
    return harms.some((harm) =>
      this.#harming(harm, [...parts, ...SHARED]).some((harming) => isOverlapping(harming, period)),
    );
  }

  /** Whether a fault has affected one of these parts or a server in this period, whatever its harm. */
  hasAffected(parts: readonly string[], period: Period): boolean {
    return this.records
      .filter(({ planned }) => planned.target.some((part) => parts.includes(part) || SHARED.includes(part)))
      .some(({ beganAt, settledAt }) => isOverlapping({ from: beganAt, until: settledAt }, period));
  }

  /** Whether all orchestrators together may have been unable to renew a lease for a while. */
  hasStoppedPings(period: Period): boolean {
    return this.#allOrchestrators("pings", this.orchestrators, period);
  }

  hasForgotten({ from, until }: Period): boolean {
    return this.records.some(
      ({ planned, beganAt, healedAt }) => planned.kind.forgets && beganAt <= until && healedAt >= from,
    );
  }

  /** The machine did not run the programs, or not in time. */
  wasBusy(period: Period, kind?: BusyPeriod["kind"]): boolean {
    return this.busy
      .filter((busy) => kind === undefined || busy.kind === kind)
      .some(({ from, until }) => isOverlapping({ from, until: until + LEASE_TTL_MS }, period));
  }

  #allOrchestrators(harm: Harm, [first, ...others]: readonly string[], period: Period): boolean {
    if (first === undefined) return true;
    return this.#harming(harm, [first])
      .map((harming) => commonPeriod(harming, period))
      .some((common) => common !== undefined && this.#allOrchestrators(harm, others, common));
  }

  #harming(harm: Harm, parts: readonly string[]): Period[] {
    return this.records
      .filter(({ planned: { kind, target } }) => {
        const isShared = harm === "leases" || harm === "messages";
        return kind.harms.includes(harm) && (isShared || target.some((part) => parts.includes(part)));
      })
      .map(({ beganAt, settledAt }) => ({ from: beganAt, until: settledAt + AFTERMATH_MS[harm] }));
  }
}

function isOverlapping(one: Period, other: Period): boolean {
  return one.from <= other.until && one.until >= other.from;
}

function commonPeriod(one: Period, other: Period): Period | undefined {
  const common = { from: Math.max(one.from, other.from), until: Math.min(one.until, other.until) };
  return common.from <= common.until ? common : undefined;
}
