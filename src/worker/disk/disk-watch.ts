import { sleep } from "../../shared/abort.ts";
import type { Logger } from "../../shared/logging.ts";
import type { Pruner } from "./pruner.ts";
import {
  areOnOneDisk,
  describeSize,
  isWithin,
  type Reserve,
  type Room,
  roomAt,
  times,
  type WatchedDisk,
} from "./room.ts";
import { RunDisks } from "./run-disks.ts";

export interface DiskWatchOptions {
  readonly reserve: Reserve;
  readonly logger: Logger;
  readonly lookIntervalMs?: number;
}

const LOOK_INTERVAL_MS = 2000;
/** What was in use at the last time may not be any more. */
const PRUNE_AGAIN_AFTER_MS = 30_000;
const PRUNE_TIMEOUT_MS = 120_000;
/** A little more than the reserve, or the next job would end below it again. */
const PRUNE_TO = 1.25;
/** A cache smaller than this goes as a whole. */
const LEAST_KEPT_BYTES = 32e6;
/** Below this part of the reserve a disk counts as full: a program that found no room may have tidied up a little. */
const FULL_BELOW = 0.1;

export class DiskWatch {
  readonly #options: DiskWatchOptions;
  #disks: readonly WatchedDisk[] = [];
  #pruners: readonly Pruner[] = [];
  #prunedAtMs = Number.NEGATIVE_INFINITY;
  #refusal: string | undefined;

  constructor(options: DiskWatchOptions) {
    this.#options = options;
  }

  addDisk(disk: WatchedDisk): void {
    this.#disks = [...this.#disks, disk];
  }

  addPruner(pruner: Pruner): void {
    this.#pruners = [...this.#pruners, pruner];
  }

  /** Why nothing new can be taken now; undefined when it can. */
  get refusal(): string | undefined {
    return this.#refusal;
  }

  /** Goes on until `signal` aborts; then returns. */
  async keep(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      await sleep(this.#options.lookIntervalMs ?? LOOK_INTERVAL_MS, signal).catch(() => undefined);
      if (!signal.aborted) await this.look(signal);
    }
  }

  /** Looks at all disks once, prunes the ones that are short, and decides whether anything new can be taken. */
  async look(signal: AbortSignal): Promise<void> {
    try {
      const short = await this.#shortDisks();
      if (short.length > 0 && this.#mayPrune()) {
        for (const disk of short) await this.#makeRoomOn(disk, signal);
        this.#prunedAtMs = performance.now();
      }
      this.#decide((await this.#shortDisks())[0]);
    } catch (error) {
      if (!signal.aborted) this.#options.logger.error({ err: error }, "the disks cannot be looked at");
    }
  }

  /** For one run: whether a disk is, or was, full while it is under way. */
  beginRun(): RunDisks {
    return new RunDisks(this.#disks, times(this.#options.reserve, FULL_BELOW));
  }

  #mayPrune(): boolean {
    return performance.now() - this.#prunedAtMs >= PRUNE_AGAIN_AFTER_MS;
  }

  async #shortDisks(): Promise<ShortDisk[]> {
    const looked = await Promise.all(
      this.#disks.map(async (disk) => ({ ...disk, room: await roomAt(disk.path) })),
    );
    return looked.filter(({ room }) => !isWithin(room, this.#options.reserve));
  }

  async #makeRoomOn(disk: ShortDisk, signal: AbortSignal): Promise<void> {
    const { role, path, room } = disk;
    for (const pruner of this.#pruners) {
      if (await this.#hasRoomAgain(path)) return;
      const isThere = await Promise.all(pruner.paths.map((folder) => areOnOneDisk(folder, path)));
      if (!isThere.includes(true)) continue;
      try {
        await this.#prune(pruner, disk, AbortSignal.any([signal, AbortSignal.timeout(PRUNE_TIMEOUT_MS)]));
      } catch (error) {
        signal.throwIfAborted();
        this.#options.logger.warn({ err: error, pruned: pruner.what }, "no room could be made");
      }
      const freed = (await roomAt(path)).freeBytes - room.freeBytes;
      const fields = { disk: role, path, pruned: pruner.what, freed_bytes: freed };
      if (freed > 0) this.#options.logger.info(fields, "pruned a disk");
    }
  }

  /** How large the cache is can only be told by whoever keeps it; so it shrinks by halves until there is room. */
  async #prune(pruner: Pruner, { path, room }: ShortDisk, signal: AbortSignal): Promise<void> {
    const missing = Math.max(0, this.#options.reserve.bytes * PRUNE_TO - room.freeBytes);
    let keepBytes = Math.max(0, Math.floor(room.usedBytes - missing));
    for (;;) {
      await pruner.shrinkTo(keepBytes, signal);
      if (keepBytes === 0 || (await this.#hasRoomAgain(path))) return;
      keepBytes = keepBytes > LEAST_KEPT_BYTES ? Math.floor(keepBytes / 2) : 0;
    }
  }

  async #hasRoomAgain(path: string): Promise<boolean> {
    return isWithin(await roomAt(path), times(this.#options.reserve, PRUNE_TO));
  }

  #decide(short: ShortDisk | undefined): void {
    const { logger, reserve } = this.#options;
    const was = this.#refusal;
    this.#refusal = short && refusalOf(short, reserve);
    if (short && was === undefined) {
      const { freeBytes: free_bytes, freeInodes: free_inodes } = short.room;
      logger.warn({ reason: this.#refusal, path: short.path, free_bytes, free_inodes }, "takes nothing new");
    } else if (!short && was !== undefined) {
      logger.info("there is room on the disks again; takes jobs again");
    }
  }
}

interface ShortDisk extends WatchedDisk {
  readonly room: Room;
}

function refusalOf({ role, path, room }: ShortDisk, { bytes, inodes }: Reserve): string {
  const isShortOfBytes = room.freeBytes < bytes;
  const left = isShortOfBytes ? `${describeSize(room.freeBytes)} free` : `room for ${room.freeInodes} files`;
  const wanted = isShortOfBytes ? describeSize(bytes) : inodes;
  return `disk below its reserve: ${role}, ${path}, has ${left}; ${wanted} have to stay free`;
}
