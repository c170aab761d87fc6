/** Removes what a run has left on the host, in the builder and in the registry. */
import type { Source } from "../git/checkout.ts";
import type { Workspace } from "../job/workspace.ts";
import { endProcessesOf } from "../process/end-processes.ts";

type Undo = (signal: AbortSignal) => Promise<void>;

/** Phases register what has to be undone; one failed step does not keep the others from running. */
export class CleanUp {
  readonly #undo: Undo[] = [];
  #workspace: Workspace | undefined;
  #source: Source | undefined;
  #cacheExport: Promise<void> | undefined;

  /** The folder is removed last. */
  removeWorkspace(workspace: Workspace): void {
    this.#workspace = workspace;
  }

  /** The checkout goes to the checkout cache once no process of the run is left. */
  keepCheckout(source: Source): void {
    this.#source = source;
  }

  /** Runs in the reverse order of registration, before the run's processes are ended. */
  add(undo: Undo): void {
    this.#undo.push(undo);
  }

  /** Clean-up has to wait for `cacheExport`, which still uses the run's folder after the run has ended. */
  waitFor(cacheExport: Promise<void> | undefined): void {
    this.#cacheExport = cacheExport;
  }

  get cacheExport(): Promise<void> | undefined {
    return this.#cacheExport;
  }

  /** Never rejects: calls `report` for each step that failed. */
  async run(timeoutMs: number, report: (problem: string) => void): Promise<void> {
    const signal = AbortSignal.timeout(timeoutMs);
    for (const undo of [...this.#undo.toReversed(), ...this.#ofWorkspace()]) {
      try {
        await undo(signal);
      } catch (error) {
        // The run's outcome stands, whatever is left behind.
        report(error instanceof Error ? error.message : String(error));
      }
    }
  }

  #ofWorkspace(): Undo[] {
    const workspace = this.#workspace;
    if (!workspace) return [];
    const endProcesses = async (signal: AbortSignal) => {
      await endProcessesOf([workspace.path], signal);
      await this.#source?.cacheCheckout();
    };
    return [endProcesses, workspace.remove];
  }
}
