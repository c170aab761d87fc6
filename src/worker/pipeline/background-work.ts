/**
 * Work that continues after a run has ended: exporting its build cache, then removing its folder. It delays no result
 * and occupies no slot. A worker that stops aborts it.
 */
import type { Logger } from "../../shared/logging.ts";

export interface UnfinishedRun {
  readonly jobId: string;
  readonly cacheExport: Promise<void>;
  /** Never rejects. */
  readonly cleanUp: (report: (problem: string) => void) => Promise<void>;
}

export class BackgroundWork {
  readonly #logger: Logger;
  readonly #stopping = new AbortController();
  readonly #tasks = new Set<Promise<void>>();

  constructor(logger: Logger) {
    this.#logger = logger;
  }

  /** Aborts when the worker stops. */
  get signal(): AbortSignal {
    return this.#stopping.signal;
  }

  add(run: UnfinishedRun): void {
    const task = this.#finish(run).finally(() => this.#tasks.delete(task));
    this.#tasks.add(task);
  }

  /** Resolves when no background work is left. */
  async ended(): Promise<void> {
    while (this.#tasks.size > 0) await Promise.all(this.#tasks);
  }

  /** Aborts cache exports: a missing cache makes a later build slower, but no build fails. */
  async stop(): Promise<void> {
    this.#stopping.abort(new Error("the worker stops"));
    await this.ended();
  }

  async #finish({ jobId: job_id, cacheExport, cleanUp }: UnfinishedRun): Promise<void> {
    try {
      await cacheExport;
      this.#logger.debug({ job_id }, "build cache stored");
    } catch (error) {
      this.#logger.warn({ err: error, job_id }, "build cache not stored");
    }
    await cleanUp((problem) => this.#logger.warn({ job_id, problem }, "clean-up of a run incomplete"));
  }
}
