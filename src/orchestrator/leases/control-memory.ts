/** The controls of InProcessLeases: for as long as this process runs. */
import type { Control, ControlOrder, ControlTarget } from "./control.ts";

export class ControlMemory {
  readonly #ofWorkers = new Map<string, Control>();
  readonly #ofRegions = new Map<string, Control>();

  set({ kind, name }: ControlTarget, order: ControlOrder): void {
    const controls = this.#of(kind);
    const known = controls.get(name);
    if (!order) controls.delete(name);
    else if (known?.kind === order.kind)
      controls.set(name, { ...known, reason: order.reason || known.reason });
    else controls.set(name, { ...order, since: new Date() });
  }

  get({ kind, name }: ControlTarget): Control | undefined {
    return this.#of(kind).get(name);
  }

  isInService({ workerId, region }: { readonly workerId: string; readonly region: string }): boolean {
    return !this.#ofWorkers.has(workerId) && !this.#ofRegions.has(region);
  }

  drainedRegions(): ReadonlyMap<string, Control> {
    return new Map(this.#ofRegions);
  }

  #of(kind: ControlTarget["kind"]): Map<string, Control> {
    return kind === "worker" ? this.#ofWorkers : this.#ofRegions;
  }
}
