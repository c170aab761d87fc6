/**
 * The journals of a worker's runs, in one folder. Those of ended runs are kept as long as their outcomes, but are
 * removed earlier, the oldest first, when they need too much of the disk or of memory.
 */
import { statfs } from "node:fs/promises";
import { dirname, join } from "node:path";
import type { RunRef } from "../../shared/job.ts";
import type { Logger } from "../../shared/logging.ts";
import { runName } from "../job/workspace.ts";
import { Journal, JournalRemoved } from "./journal.ts";
import { JournalFile } from "./journal-file.ts";
import type { MemoryUse } from "./unwritten-entries.ts";

/** The log of an ended run had to make space. */
export class JournalEvicted extends JournalRemoved {}

export interface JournalsOptions {
  /** Created with the first file; its parent exists. */
  readonly folder: string;
  readonly logger: Logger;
  readonly limits?: Partial<JournalLimits>;
}

export interface JournalLimits {
  /** Part of the disk that the journals of ended runs may need. */
  readonly diskShare: number;
  /** Memory that they may need when they cannot be written. */
  readonly memoryBytes: number;
  /** How long those may continue that read a journal when its run is acknowledged. */
  readonly readOnMs: number;
}

const DEFAULT_LIMITS: JournalLimits = {
  diskShare: 0.1,
  memoryBytes: 32 * 1024 * 1024,
  readOnMs: 5000,
};

export class Journals {
  readonly #options: JournalsOptions;
  readonly #limits: JournalLimits;
  readonly #memory: MemoryUse = { bytes: 0 };
  /** All whose disk space is not free yet. */
  readonly #all = new Set<Journal>();
  /** The oldest first. */
  readonly #ended = new Set<Journal>();

  constructor(options: JournalsOptions) {
    this.#options = options;
    this.#limits = { ...DEFAULT_LIMITS, ...options.limits };
  }

  create(run: RunRef): Journal {
    const { folder, logger } = this.#options;
    const path = join(folder, `${runName(run)}.jsonl`);
    const { jobId: job_id, attempt } = run;
    const journal = new Journal({
      file: new JournalFile(path),
      memory: this.#memory,
      onWriteError: (error) =>
        logger.warn({ err: error, job_id, attempt }, "failed to write the log of a run"),
    });
    this.#all.add(journal);
    return journal;
  }

  /** The run has ended: its journal may be removed to free space. */
  ended(journal: Journal): void {
    this.#ended.add(journal);
    void this.#shrink("memoryBytes", this.#limits.memoryBytes);
    void this.#limitDiskUse();
  }

  /** The run's outcome is no longer kept. */
  forget(journal: Journal): void {
    const gone = new JournalRemoved("the run was acknowledged, or forgotten, before all of its log was read");
    this.#ended.delete(journal);
    void this.#settled(journal, journal.retire(gone, this.#limits.readOnMs));
  }

  /** Removes journals of ended runs, the oldest first, until they need at most this much of the disk. */
  shrinkTo(keepBytes: number): Promise<void> {
    return this.#shrink("fileBytes", keepBytes);
  }

  /** Resolves when no file is left. */
  async close(): Promise<void> {
    const gone = new JournalRemoved("the worker stops");
    await Promise.all([...this.#all].map((journal) => this.#settled(journal, journal.remove(gone))));
  }

  async #limitDiskUse(): Promise<void> {
    if (this.#endedBytes("fileBytes") === 0) return;
    const { folder, logger } = this.#options;
    try {
      const { blocks, bsize } = await statfs(dirname(folder));
      await this.shrinkTo(blocks * bsize * this.#limits.diskShare);
    } catch (error) {
      logger.warn({ err: error }, "failed to find the disk space for logs of ended runs");
    }
  }

  async #shrink(resource: "fileBytes" | "memoryBytes", keepBytes: number): Promise<void> {
    for (const journal of this.#ended) {
      if (this.#endedBytes(resource) <= keepBytes) return;
      if (journal[resource] > 0) await this.#evict(journal);
    }
  }

  #endedBytes(resource: "fileBytes" | "memoryBytes"): number {
    let bytes = 0;
    for (const journal of this.#ended) bytes += journal[resource];
    return bytes;
  }

  async #evict(journal: Journal): Promise<void> {
    this.#ended.delete(journal);
    this.#options.logger.info({ bytes: journal.sizeBytes }, "removed the log of an ended run to free space");
    const gone = new JournalEvicted("the worker has removed the log of this run to free space");
    await this.#settled(journal, journal.remove(gone));
  }

  async #settled(journal: Journal, removal: Promise<void>): Promise<void> {
    try {
      await removal;
    } catch (error) {
      this.#options.logger.warn({ err: error }, "failed to remove the log of a run");
    }
    this.#all.delete(journal);
  }
}
