/**
 * What of a run goes on when the run has ended: storing its cache, and then removing its folder. It delays no result
 * and keeps no slot; a worker that stops ends it.
 */
import type { Logger } from "../../shared/logging.ts";

export interface UnfinishedRun {
  readonly jobId: string;
  readonly storing: Promise<void>;
  /** Never rejects. */
  readonly cleanUp: (report: (problem: string) => void) => Promise<void>;
}

export class Afterwork {
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

  /** Resolves when all of it has ended. */
  async ended(): Promise<void> {
    while (this.#tasks.size > 0) await Promise.all(this.#tasks);
  }

  /** A cache that is not stored costs time, and no build. */
  async stop(): Promise<void> {
    this.#stopping.abort(new Error("the worker stops"));
    await this.ended();
  }

  async #finish({ jobId: job_id, storing, cleanUp }: UnfinishedRun): Promise<void> {
    try {
      await storing;
      this.#logger.debug({ job_id }, "build cache stored");
    } catch (error) {
      this.#logger.warn({ err: error, job_id }, "the build cache was not stored");
    }
    await cleanUp((problem) => this.#logger.warn({ job_id, problem }, "a run's clean-up is not complete"));
  }
}
