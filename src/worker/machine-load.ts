/** The load of the worker's machine, for operators. */
import { readFile, statfs } from "node:fs/promises";
import { availableParallelism, loadavg } from "node:os";
import type { Logger } from "../shared/logging.ts";
import type { MachineLoad } from "../shared/rpc/generated/blacktree/v1/worker.ts";

export interface MachineLoadParts {
  readonly workDir: string;
  readonly checkoutCache: { sizeBytes(): Promise<number> };
  readonly logger: Logger;
  readonly minIntervalMs?: number;
}

const MIN_INTERVAL_MS = 5000;

export class MachineLoadMeter {
  #latest: MachineLoad | undefined;
  #measuredAtMs = Number.NEGATIVE_INFINITY;
  #measuring: Promise<void> | undefined;

  constructor(private readonly parts: MachineLoadParts) {}

  /** The latest measurement, at once: a ping must not wait. Begins another one if it is a few seconds old. */
  latest(): MachineLoad | undefined {
    const isDue = performance.now() - this.#measuredAtMs >= (this.parts.minIntervalMs ?? MIN_INTERVAL_MS);
    if (isDue)
      this.#measuring ??= this.#measure().finally(() => {
        this.#measuring = undefined;
      });
    return this.#latest;
  }

  async #measure(): Promise<void> {
    this.#measuredAtMs = performance.now();
    const { workDir, checkoutCache, logger } = this.parts;
    try {
      const [memory, disk, cacheBytes] = await Promise.all([
        readMemory(),
        statfs(workDir),
        checkoutCache.sizeBytes(),
      ]);
      this.#latest = {
        loadAverage: loadavg()[0] ?? 0,
        processors: availableParallelism(),
        ...memory,
        diskBytes: disk.blocks * disk.bsize,
        diskFreeBytes: disk.bavail * disk.bsize,
        cacheBytes,
      };
    } catch (error) {
      this.#latest = undefined;
      logger.debug({ err: error }, "failed to measure the load of this machine");
    }
  }
}

/** `freemem` does not count memory that the kernel uses as a cache as available. */
async function readMemory(): Promise<Pick<MachineLoad, "memoryBytes" | "memoryAvailableBytes">> {
  const info = await readFile("/proc/meminfo", "utf8");
  const bytesOf = (name: string) =>
    Number(new RegExp(`^${name}: +(\\d+) kB$`, "m").exec(info)?.[1] ?? 0) * 1024;
  return { memoryBytes: bytesOf("MemTotal"), memoryAvailableBytes: bytesOf("MemAvailable") };
}
