/**
 * Removes the oldest files of the log folder. Their sizes and ages are read once, at the start; after that each new file
 * costs a step that does not depend on the number of files.
 */
import { statSync } from "node:fs";
import { readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import type { Logger } from "../../shared/logging.ts";

export interface RetentionLimits {
  readonly sizeBytes: number;
  readonly ageMs: number;
}

interface KeptFile {
  readonly bytes: number;
  readonly atMs: number;
}

const AGE_CHECK_INTERVAL_MS = 60_000;
/** Files whose size is read between two turns of the event loop. */
const STAT_BATCH = 200;

export class Retention {
  /** By path below the root, the oldest first. */
  #files = new Map<string, KeptFile>();
  #totalBytes = 0;
  #timer: NodeJS.Timeout | undefined;
  #removing: Promise<void> | undefined;
  #isStopped = false;

  constructor(
    private readonly root: string,
    private readonly limits: RetentionLimits,
    private readonly logger: Logger,
  ) {}

  start(): void {
    this.#timer = setInterval(() => this.#enforce(), AGE_CHECK_INTERVAL_MS);
    this.#addEarlier().then(
      () => this.#enforce(),
      (error: unknown) => this.logger.error({ err: error }, "failed to list the log folder"),
    );
  }

  stop(): void {
    this.#isStopped = true;
    clearInterval(this.#timer);
  }

  added(path: string, bytes: number): void {
    this.#forget(path);
    this.#files.set(path, { bytes, atMs: Date.now() });
    this.#totalBytes += bytes;
    this.#enforce();
  }

  async #addEarlier(): Promise<void> {
    const earlier: [path: string, file: KeptFile][] = [];
    for (const folder of await readdir(this.root)) {
      for (const [index, name] of (await readdir(join(this.root, folder))).entries()) {
        if (index % STAT_BATCH === 0) await new Promise(setImmediate);
        const path = join(folder, name);
        const stats = statSync(join(this.root, path), { throwIfNoEntry: false });
        if (stats) earlier.push([path, { bytes: stats.size, atMs: stats.mtimeMs }]);
      }
    }
    const ofThisStart = this.#files;
    const added = earlier.filter(([path]) => !ofThisStart.has(path));
    added.sort(([, one], [, other]) => one.atMs - other.atMs);
    this.#files = new Map([...added, ...ofThisStart]);
    this.#totalBytes += added.reduce((bytes, [, file]) => bytes + file.bytes, 0);
  }

  #enforce(): void {
    this.#removing ??= this.#removeOld()
      .catch((error: unknown) => this.logger.error({ err: error }, "failed to remove old logs"))
      .finally(() => {
        this.#removing = undefined;
      });
  }

  /** The latest log stays, however large it is. */
  async #removeOld(): Promise<void> {
    while (!this.#isStopped) {
      const [oldest] = this.#files;
      if (!oldest) return;
      const [path, { atMs }] = oldest;
      const isTooLarge = this.#totalBytes > this.limits.sizeBytes && this.#files.size > 1;
      if (!isTooLarge && Date.now() - atMs < this.limits.ageMs) return;
      this.#forget(path);
      await rm(join(this.root, path), { force: true });
    }
  }

  #forget(path: string): void {
    this.#totalBytes -= this.#files.get(path)?.bytes ?? 0;
    this.#files.delete(path);
  }
}
