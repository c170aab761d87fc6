import { sleep } from "../../shared/abort.ts";
import type { Logger } from "../../shared/logging.ts";
import {
  areOnSameDisk,
  describeSize,
  type FreeSpace,
  freeSpaceAt,
  meetsReserve,
  type Reserve,
  scaledReserve,
  type WatchedDisk,
} from "./free-space.ts";
import { RunDisks } from "./run-disks.ts";

export interface DiskWatchOptions {
  readonly reserve: Reserve;
  readonly logger: Logger;
  readonly checkIntervalMs?: number;
}

/** A cache that makes jobs faster and can be pruned to free disk space. */
export interface Pruner {
  /** For the log, such as "the build cache". */
  readonly name: string;
  /** Folders that contain the cache: pruning it frees space on their disks. */
  readonly paths: readonly string[];
  /** Removes entries, least recently used first, until at most `keepBytes` are left; entries in use stay. */
  shrinkTo(keepBytes: number, signal: AbortSignal): Promise<void>;
}

interface ShortDisk extends WatchedDisk {
  readonly space: FreeSpace;
}

const CHECK_INTERVAL_MS = 2000;
/** Entries that were in use at the last pruning may be unused by then. */
const PRUNE_INTERVAL_MS = 30_000;
const PRUNE_TIMEOUT_MS = 120_000;
/** A little more than the reserve, or the next job would fall below it again. */
const PRUNE_TARGET = 1.25;
/** A cache smaller than this is removed as a whole. */
const MIN_CACHE_BYTES = 32e6;
/** Below this part of the reserve a disk counts as full: a program that ran out of space may have freed a little. */
const FULL_THRESHOLD = 0.1;

export class DiskWatch {
  readonly #options: DiskWatchOptions;
  #disks: readonly WatchedDisk[] = [];
  #pruners: readonly Pruner[] = [];
  #prunedAtMs = Number.NEGATIVE_INFINITY;
  #refusal: string | undefined;
  #freeBytes: number | undefined;

  constructor(options: DiskWatchOptions) {
    this.#options = options;
  }

  addDisk(disk: WatchedDisk): void {
    this.#disks = [...this.#disks, disk];
  }

  addPruner(pruner: Pruner): void {
    this.#pruners = [...this.#pruners, pruner];
  }

  /** Why no job can be accepted now; undefined when one can. */
  get refusal(): string | undefined {
    return this.#refusal;
  }

  /** Of the disk with the least free space, at the last check. */
  get freeBytes(): number | undefined {
    return this.#freeBytes;
  }

  /** Checks the disks until `signal` aborts; then returns. */
  async monitor(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      await sleep(this.#options.checkIntervalMs ?? CHECK_INTERVAL_MS, signal).catch(() => undefined);
      if (!signal.aborted) await this.check(signal);
    }
  }

  /** Checks all disks once, prunes those that are short of space, and decides whether jobs can be accepted. */
  async check(signal: AbortSignal): Promise<void> {
    try {
      const short = await this.#shortDisks();
      if (short.length > 0 && this.#mayPrune()) {
        for (const disk of short) await this.#freeUp(disk, signal);
        this.#prunedAtMs = performance.now();
      }
      this.#decide((await this.#shortDisks())[0]);
    } catch (error) {
      if (!signal.aborted) this.#options.logger.error({ err: error }, "failed to check the disks");
    }
  }

  /** Records for one run whether a disk is, or was, full during the run. */
  beginRun(): RunDisks {
    return new RunDisks(this.#disks, scaledReserve(this.#options.reserve, FULL_THRESHOLD));
  }

  #mayPrune(): boolean {
    return performance.now() - this.#prunedAtMs >= PRUNE_INTERVAL_MS;
  }

  async #shortDisks(): Promise<ShortDisk[]> {
    const disks = await Promise.all(
      this.#disks.map(async (disk) => ({ ...disk, space: await freeSpaceAt(disk.path) })),
    );
    this.#freeBytes = Math.min(...disks.map(({ space }) => space.freeBytes));
    return disks.filter(({ space }) => !meetsReserve(space, this.#options.reserve));
  }

  async #freeUp(disk: ShortDisk, signal: AbortSignal): Promise<void> {
    const { role, path, space } = disk;
    for (const pruner of this.#pruners) {
      if (await this.#hasEnoughSpace(path)) return;
      const isOnDisk = await Promise.all(pruner.paths.map((folder) => areOnSameDisk(folder, path)));
      if (!isOnDisk.includes(true)) continue;
      try {
        await this.#prune(pruner, disk, AbortSignal.any([signal, AbortSignal.timeout(PRUNE_TIMEOUT_MS)]));
      } catch (error) {
        signal.throwIfAborted();
        this.#options.logger.warn({ err: error, pruned: pruner.name }, "failed to free disk space");
      }
      const freed = (await freeSpaceAt(path)).freeBytes - space.freeBytes;
      const fields = { disk: role, path, pruned: pruner.name, freed_bytes: freed };
      if (freed > 0) this.#options.logger.info(fields, "freed disk space");
    }
  }

  /** The size of the cache is not known here, so the cache is halved until there is enough space. */
  async #prune(pruner: Pruner, { path, space }: ShortDisk, signal: AbortSignal): Promise<void> {
    const missing = Math.max(0, this.#options.reserve.bytes * PRUNE_TARGET - space.freeBytes);
    let keepBytes = Math.max(0, Math.floor(space.usedBytes - missing));
    for (;;) {
      await pruner.shrinkTo(keepBytes, signal);
      if (keepBytes === 0 || (await this.#hasEnoughSpace(path))) return;
      keepBytes = keepBytes > MIN_CACHE_BYTES ? Math.floor(keepBytes / 2) : 0;
    }
  }

  async #hasEnoughSpace(path: string): Promise<boolean> {
    return meetsReserve(await freeSpaceAt(path), scaledReserve(this.#options.reserve, PRUNE_TARGET));
  }

  #decide(short: ShortDisk | undefined): void {
    const { logger, reserve } = this.#options;
    const before = this.#refusal;
    this.#refusal = short && refusalOf(short, reserve);
    if (short && before === undefined) {
      const { freeBytes: free_bytes, freeInodes: free_inodes } = short.space;
      logger.warn(
        { reason: this.#refusal, path: short.path, free_bytes, free_inodes },
        "not accepting jobs: low disk space",
      );
    } else if (!short && before !== undefined) {
      logger.info("enough disk space again; accepting jobs");
    }
  }
}

function refusalOf({ role, path, space }: ShortDisk, { bytes, inodes }: Reserve): string {
  const isShortOfBytes = space.freeBytes < bytes;
  const left = isShortOfBytes ? `${describeSize(space.freeBytes)} free` : `${space.freeInodes} free inodes`;
  const required = isShortOfBytes ? describeSize(bytes) : inodes;
  return `disk below its reserve: ${role}, ${path}, has ${left}; ${required} must stay free`;
}
