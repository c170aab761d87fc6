/** What one sweep of the Dispatcher knows of free slots: never too little, and too much only until a claim finds none. */
import { covers } from "../leases/capabilities.ts";
import type { SlotGroup } from "../leases/leases.ts";

/** Where a job may be built, and what its worker has to be able to do. */
export interface PlacementRequirements {
  readonly regions: readonly string[];
  readonly needs: readonly string[];
}

export class FreeSlots {
  #groups: readonly SlotGroup[];
  readonly #byRegion = new Map<string, number>();

  constructor(groups: readonly SlotGroup[]) {
    this.#groups = groups;
    for (const { region, free } of groups) this.#byRegion.set(region, this.#freeIn(region) + free);
  }

  hasAnyIn(regions: readonly string[]): boolean {
    return this.fit({ regions, needs: [] });
  }

  fit(requirements: PlacementRequirements): boolean {
    return this.#regionFor(requirements) !== undefined;
  }

  /** Which of the workers that could have got it did is not known here, so only the region has one slot less. */
  claimed(requirements: PlacementRequirements): void {
    const region = this.#regionFor(requirements);
    if (region !== undefined) this.#byRegion.set(region, this.#freeIn(region) - 1);
  }

  /** A claim found none; those of workers that cannot build this job may be free all the same. */
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
