import { describeSize, freeSpaceAt, meetsReserve, type Reserve, type WatchedDisk } from "./free-space.ts";

/** A step that runs out of space ends at once, and its files may be removed a moment later. */
const CHECK_INTERVAL_MS = 100;

/** Records, from its creation until end(), whether a disk was full. A check is a single, cheap system call. */
export class RunDisks {
  readonly #disks: readonly WatchedDisk[];
  readonly #floor: Reserve;
  readonly #timer: NodeJS.Timeout;
  #full: string | undefined;

  constructor(disks: readonly WatchedDisk[], floor: Reserve) {
    this.#disks = disks;
    this.#floor = floor;
    this.#timer = setInterval(() => void this.#check(), CHECK_INTERVAL_MS);
  }

  /** Describes the disk that is or was full; undefined when none was. */
  async full(): Promise<string | undefined> {
    await this.#check();
    return this.#full;
  }

  end(): void {
    clearInterval(this.#timer);
  }

  async #check(): Promise<void> {
    for (const { role, path } of this.#disks) {
      const space = await freeSpaceAt(path).catch(() => undefined);
      if (space === undefined || meetsReserve(space, this.#floor)) continue;
      const { freeBytes, freeInodes } = space;
      const left = freeBytes < this.#floor.bytes ? `${describeSize(freeBytes)}` : `${freeInodes} inodes`;
      this.#full ??= `the disk of ${role}, ${path}, had ${left} left`;
    }
  }
}
