/** Free slots as known to one sweep of the Dispatcher: an upper bound, corrected when a claim finds none. */
import type { Job } from "../../shared/job.ts";
import { covers, neededBy } from "../leases/capabilities.ts";
import type { SlotGroup } from "../leases/leases.ts";

/** Constraints on the worker of a job. */
export interface PlacementRequirements {
  /** Worker regions in which the job may be built, in order of preference. */
  readonly regions: readonly string[];
  /** Capabilities that the worker must have; see leases/capabilities.ts. */
  readonly needs: readonly string[];
}

/** What of a job decides which workers may get it. */
export type PlacedJob = Pick<Job, "workerRegion" | "regionPolicy" | "platforms" | "provenance" | "secrets">;

/** @param fallback `BLACKTREE_REGION_FALLBACK` */
export function requirementsOf(job: PlacedJob, fallback: readonly string[]): PlacementRequirements {
  const others = job.regionPolicy === "require" ? [] : fallback;
  return { regions: [...new Set([job.workerRegion, ...others])], needs: neededBy(job) };
}

export class FreeSlots {
  #groups: readonly SlotGroup[];
  readonly #byRegion = new Map<string, number>();

  constructor(groups: readonly SlotGroup[]) {
    this.#groups = groups;
    for (const { region, free } of groups) this.#byRegion.set(region, this.#freeIn(region) + free);
  }

  get hasAny(): boolean {
    return this.#groups.some(({ region }) => this.#freeIn(region) > 0);
  }

  hasAnyIn(regions: readonly string[]): boolean {
    return this.fit({ regions, needs: [] });
  }

  fit(requirements: PlacementRequirements): boolean {
    return this.#regionFor(requirements) !== undefined;
  }

  /** Which worker got the job is not known here, so only the region's count is reduced. */
  claimed(requirements: PlacementRequirements): void {
    const region = this.#regionFor(requirements);
    if (region !== undefined) this.#byRegion.set(region, this.#freeIn(region) - 1);
  }

  /** A claim found no slot; slots of workers that cannot build this job may still be free. */
  exhausted({ regions, needs }: PlacementRequirements): void {
    this.#groups = this.#groups.filter(
      ({ region, capabilities }) => !(regions.includes(region) && covers(capabilities, needs)),
    );
  }

  #regionFor({ regions, needs }: PlacementRequirements): string | undefined {
    const isFit = (candidate: string) =>
      this.#freeIn(candidate) > 0 &&
      this.#groups.some(({ region, capabilities }) => region === candidate && covers(capabilities, needs));
    return regions.find(isFit);
  }

  #freeIn(region: string): number {
    return this.#byRegion.get(region) ?? 0;
  }
}
