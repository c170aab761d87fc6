/** The worker's state in one line, for the service manager. */
import type { ServiceState } from "../shared/service-manager.ts";
import type { DiskWatch } from "./disk/disk-watch.ts";
import { describeSize } from "./disk/free-space.ts";
import type { Runs } from "./runs/runs.ts";

type Phase =
  /** Progresses towards the registration. */
  | { readonly kind: "preparing"; readonly doing: string }
  /** Repeats an attempt that failed. */
  | { readonly kind: "waiting"; readonly reason: string }
  | { readonly kind: "registered" }
  /** Runs may continue until this time. */
  | { readonly kind: "draining"; readonly untilMs: number };

export interface WorkerStateParts {
  readonly runs: Pick<Runs, "status" | "refusal" | "running" | "ended">;
  readonly disks: Pick<DiskWatch, "freeBytes">;
}

export class WorkerState {
  #phase: Phase = { kind: "preparing", doing: "looking for Docker or BuildKit" };
  #hasRegistered = false;
  readonly #firstRegistration = Promise.withResolvers<void>();

  constructor(private readonly parts: WorkerStateParts) {}

  get firstRegistration(): Promise<void> {
    return this.#firstRegistration.promise;
  }

  preparing(doing: string): void {
    this.#enter({ kind: "preparing", doing });
  }

  waiting(reason: string): void {
    this.#enter({ kind: "waiting", reason });
  }

  registered(): void {
    this.#hasRegistered = true;
    this.#firstRegistration.resolve();
    this.#enter({ kind: "registered" });
  }

  draining(timeoutMs: number): void {
    this.#enter({ kind: "draining", untilMs: performance.now() + timeoutMs });
  }

  /** A worker that has lost its orchestrators after its registration remains ready. */
  describe(): ServiceState {
    return {
      isReady: this.#hasRegistered,
      isProgressing: this.#isProgressing(),
      status: this.#status(),
    };
  }

  /** A draining worker still repeats its registration until its runs have ended. */
  #enter(phase: Phase): void {
    if (this.#phase.kind !== "draining") this.#phase = phase;
  }

  #isProgressing(): boolean {
    if (this.#phase.kind === "draining") return performance.now() < this.#phase.untilMs;
    return this.#phase.kind === "preparing";
  }

  #status(): string {
    const { runs, disks } = this.parts;
    const jobs = `${counted(runs.running)} running, ${counted(runs.ended)} done`;
    switch (this.#phase.kind) {
      case "preparing":
        return this.#phase.doing;
      case "waiting":
        return `waiting: ${this.#phase.reason}`;
      case "draining":
        return `DRAINING, ${jobs}`;
      case "registered": {
        const free = disks.freeBytes === undefined ? "" : `, ${describeSize(disks.freeBytes)} free`;
        return runs.refusal() ?? `${runs.status()}, ${jobs}${free}`;
      }
    }
  }
}

function counted(jobs: number): string {
  return jobs === 1 ? "1 job" : `${jobs} jobs`;
}
