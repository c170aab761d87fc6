/**
 * The journals of a worker's runs, in one folder. Those of ended runs are kept as long as their outcomes, but are
 * removed earlier, the oldest first, when journals need too much of the disk or of memory. If those of running runs
 * alone need too much, they get only the last lines of their logs from then on.
 */
import { join } from "node:path";
import type { RunRef } from "../../shared/job.ts";
import type { Logger } from "../../shared/logging.ts";
import { runName } from "../job/workspace.ts";
import { Journal, JournalRemoved } from "./journal.ts";
import { JournalFile } from "./journal-file.ts";

/** The log of an ended run had to make space. */
export class JournalEvicted extends JournalRemoved {}

export interface JournalsOptions {
  /** Created with the first file; its parent exists. */
  readonly folder: string;
  /** Size of the folder's disk. */
  readonly diskBytes: number;
  readonly logger: Logger;
  readonly limits?: Partial<JournalLimits>;
}

export interface JournalLimits {
  /** Part of the disk that journals may need. */
  readonly diskShare: number;
  /** Memory for entries that are not written yet, or cannot be. */
  readonly memoryBytes: number;
  /** How long those may continue that read a journal when its run is acknowledged. */
  readonly readOnMs: number;
}

const DEFAULT_LIMITS: JournalLimits = {
  diskShare: 0.25,
  memoryBytes: 128 * 1024 * 1024,
  readOnMs: 5000,
};

/** Of these limits, for running runs. Less than half: a log that was cut for this reason is kept after its run has ended. */
const RUNNING_PART = 0.4;

export class Journals {
  readonly #options: JournalsOptions;
  readonly #limits: JournalLimits;
  readonly #running = new Set<Journal>();
  /** The oldest first. */
  readonly #ended = new Set<Journal>();
  /** Their disk space is not free yet. */
  readonly #leaving = new Set<Journal>();
  readonly #maxDiskBytes: number;

  constructor(options: JournalsOptions) {
    this.#options = options;
    this.#limits = { ...DEFAULT_LIMITS, ...options.limits };
    this.#maxDiskBytes = options.diskBytes * this.#limits.diskShare;
  }

  create(run: RunRef): Journal {
    const { folder, logger } = this.#options;
    const { jobId: job_id, attempt } = run;
    const journal = new Journal({
      file: new JournalFile(() => join(folder, `${runName(run)}.jsonl`)),
      refusal: () => this.#refusal(),
      onWritten: () => void this.#limitDiskUse(),
      onWriteError: (error) =>
        logger.warn({ err: error, job_id, attempt }, "failed to write the log of a run"),
    });
    this.#running.add(journal);
    return journal;
  }

  /** The run has ended: its journal may be removed to free space. */
  ended(journal: Journal): void {
    this.#running.delete(journal);
    this.#ended.add(journal);
    void this.#shrink("memoryBytes", this.#limits.memoryBytes);
    void this.#limitDiskUse();
  }

  /** The run's outcome is no longer kept. */
  forget(journal: Journal): void {
    this.#running.delete(journal);
    this.#ended.delete(journal);
    if (!journal.isUsed) return;
    const gone = new JournalRemoved("the run was acknowledged, or forgotten, before all of its log was read");
    void this.#leave(journal, () => journal.retire(gone, this.#limits.readOnMs));
  }

  /** Removes journals of ended runs, the oldest first, until they need at most this much of the disk. */
  shrinkTo(keepBytes: number): Promise<void> {
    return this.#shrink("fileBytes", keepBytes);
  }

  /** Resolves when no file is left. */
  async close(): Promise<void> {
    const gone = new JournalRemoved("the worker stops");
    const all = [...this.#running, ...this.#ended, ...this.#leaving];
    await Promise.all(all.map((journal) => this.#leave(journal, () => journal.remove(gone))));
  }

  #refusal(): string | undefined {
    const { diskShare, memoryBytes } = this.#limits;
    const maxMemoryBytes = memoryBytes * RUNNING_PART;
    if (total(this.#running, "memoryBytes") > maxMemoryBytes)
      return "the worker's disk is too slow for the logs";
    // Also what is not written yet: on a slow disk, that may be more than the share.
    if (total(this.#running, "sizeBytes") <= this.#maxDiskBytes * RUNNING_PART) return undefined;
    return `running builds' logs take ${Math.round(diskShare * RUNNING_PART * 100)}% of the worker's disk`;
  }

  async #limitDiskUse(): Promise<void> {
    const runningBytes = total(this.#running, "fileBytes");
    await this.#shrink("fileBytes", Math.max(0, this.#maxDiskBytes - runningBytes));
  }

  async #shrink(resource: Resource, keepBytes: number): Promise<void> {
    for (const journal of this.#ended) {
      if (total(this.#ended, resource) <= keepBytes) return;
      if (journal[resource] > 0) await this.#evict(journal);
    }
  }

  #evict(journal: Journal): Promise<void> {
    this.#options.logger.info({ bytes: journal.sizeBytes }, "removed the log of an ended run to free space");
    const gone = new JournalEvicted("the worker has removed the log of this run to free space");
    return this.#leave(journal, () => journal.remove(gone));
  }

  async #leave(journal: Journal, remove: () => Promise<void>): Promise<void> {
    this.#running.delete(journal);
    this.#ended.delete(journal);
    this.#leaving.add(journal);
    try {
      await remove();
    } catch (error) {
      this.#options.logger.warn({ err: error }, "failed to remove the log of a run");
    }
    this.#leaving.delete(journal);
  }
}

type Resource = "fileBytes" | "memoryBytes" | "sizeBytes";

function total(journals: Iterable<Journal>, resource: Resource): number {
  let bytes = 0;
  for (const journal of journals) bytes += journal[resource];
  return bytes;
}
