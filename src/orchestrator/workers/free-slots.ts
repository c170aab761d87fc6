/** What one sweep of the Dispatcher knows of free slots: never too little, and too much only until a claim finds none. */
import { covers } from "../leases/capabilities.ts";
import type { SlotGroup } from "../leases/leases.ts";

/** Where a job may be built, and what its worker has to be able to do. */
export interface SlotWish {
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

  isAnyIn(regions: readonly string[]): boolean {
    return this.fit({ regions, needs: [] });
  }

  fit(wish: SlotWish): boolean {
    return this.#regionFor(wish) !== undefined;
  }

  /** Which of the workers that could have got it did is not known here, so only the region has one slot less. */
  taken(wish: SlotWish): void {
    const region = this.#regionFor(wish);
    if (region !== undefined) this.#byRegion.set(region, this.#freeIn(region) - 1);
  }

  /** A claim found none; those of workers that cannot build this job may be free all the same. */
  exhausted({ regions, needs }: SlotWish): void {
    this.#groups = this.#groups.filter(
      ({ region, capabilities }) => !(regions.includes(region) && covers(capabilities, needs)),
    );
  }

  #regionFor({ regions, needs }: SlotWish): string | undefined {
    const isFit = (wanted: string) =>
      this.#freeIn(wanted) > 0 &&
      this.#groups.some(({ region, capabilities }) => region === wanted && covers(capabilities, needs));
    return regions.find(isFit);
  }

  #freeIn(region: string): number {
    return this.#byRegion.get(region) ?? 0;
  }
}
