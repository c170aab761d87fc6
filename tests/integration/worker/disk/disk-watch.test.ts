/** DiskWatch on real, small disks. Caches here are folders of files; full-disk.test.ts tests the engine's cache. */
import { afterEach, describe, expect, test } from "bun:test";
import { mkdir, readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import pino from "pino";
import { DiskWatch, type Pruner } from "../../../../src/worker/disk/disk-watch.ts";
import {
  type DiskSize,
  makeSmallDisk,
  missingSmallDisks,
  type SmallDisk,
} from "../../../support/machine/small-disk.ts";
import { makeTempDir } from "../../../support/machine/temp-dir.ts";
import { waitFor } from "../../../support/machine/wait-for.ts";

const MB = 1e6;
const RESERVE = { bytes: 16 * MB, inodes: 20 };
const neverAborted = new AbortController().signal;
const missing = await missingSmallDisks();

/** Files of 1 MB each; the first one is the least recently used. */
async function makeCache(folder: string, files: number): Promise<Pruner & { names(): Promise<string[]> }> {
  await mkdir(folder, { recursive: true });
  for (let index = 0; index < files; index++) {
    await Bun.write(join(folder, String(index).padStart(3, "0")), new Uint8Array(MB));
  }
  const names = async () => (await readdir(folder)).toSorted();
  return {
    name: "a cache of files",
    paths: [folder],
    names,
    async shrinkTo(keepBytes) {
      const kept = Math.floor(keepBytes / MB);
      const oldest = (await names()).slice(0, Math.max(0, (await names()).length - kept));
      for (const name of oldest) await rm(join(folder, name));
    },
  };
}

describe.skipIf(missing !== undefined)(`a disk${missing ? ` (${missing})` : ""}`, () => {
  const disks: SmallDisk[] = [];

  afterEach(async () => {
    for (const disk of disks.splice(0)) await disk.remove();
  });

  async function smallDisk(size: DiskSize = { sizeMiB: 64 }): Promise<SmallDisk> {
    const disk = await makeSmallDisk(size);
    disks.push(disk);
    return disk;
  }

  function watchOf(disk: SmallDisk, ...pruners: Pruner[]): DiskWatch {
    const logger = pino({ level: "silent" });
    const watch = new DiskWatch({ reserve: RESERVE, logger, checkIntervalMs: 10 });
    watch.addDisk({ role: "the work folder", path: disk.path });
    for (const pruner of pruners) watch.addPruner(pruner);
    return watch;
  }

  test("with enough free space is not pruned", async () => {
    const disk = await smallDisk();
    const cache = await makeCache(join(disk.path, "cache"), 10);
    const watch = watchOf(disk, cache);
    await watch.check(neverAborted);
    expect(watch.refusal).toBeUndefined();
    expect(await cache.names()).toHaveLength(10);
  });

  test("below its reserve is pruned, the oldest first, and only as far as necessary", async () => {
    const disk = await smallDisk();
    const cache = await makeCache(join(disk.path, "cache"), 30);
    await disk.fill(10 * MB);
    const watch = watchOf(disk, cache);
    await watch.check(neverAborted);
    expect(watch.refusal).toBeUndefined();
    expect(await disk.freeBytes()).toBeGreaterThanOrEqual(RESERVE.bytes);
    const left = await cache.names();
    expect(left.length).toBeWithin(1, 30);
    expect(left.at(-1)).toBe("029");
  });

  test("below its reserve after pruning is named in the refusal, until there is enough space again", async () => {
    const disk = await smallDisk();
    const cache = await makeCache(join(disk.path, "cache"), 3);
    await disk.fill(5 * MB);
    const watch = watchOf(disk, cache);
    await watch.check(neverAborted);
    expect(await cache.names()).toEqual([]);
    expect(watch.refusal).toContain("the work folder");
    expect(watch.refusal).toContain(disk.path);
    expect(watch.refusal).toMatch(/ [78] MB free; 16 MB must stay free/);
    const stop = new AbortController();
    const watching = watch.monitor(stop.signal);
    await disk.removeFillers();
    await waitFor(() => watch.refusal === undefined, { timeoutMs: 30_000, what: "the refusal to end" });
    await disk.fill(5 * MB);
    await waitFor(() => watch.refusal !== undefined, { timeoutMs: 30_000, what: "another refusal" });
    stop.abort();
    await watching;
  });

  test("with too few free inodes is below its reserve, however much space it has", async () => {
    const disk = await smallDisk({ sizeMiB: 32, inodes: 128 });
    for (let index = 0; index < 105; index++) await Bun.write(join(disk.path, `file-${index}`), "");
    const watch = watchOf(disk);
    await watch.check(neverAborted);
    expect(watch.refusal).toMatch(/ \d+ free inodes; 20 must stay free/);
  });

  test("is not freed by pruning a cache on another disk", async () => {
    const disk = await smallDisk();
    const elsewhere = await makeTempDir("cache");
    try {
      const cache = await makeCache(join(elsewhere.path, "cache"), 5);
      await disk.fill(5 * MB);
      const watch = watchOf(disk, cache);
      await watch.check(neverAborted);
      expect(watch.refusal).toBeDefined();
      expect(await cache.names()).toHaveLength(5);
    } finally {
      await elsewhere.remove();
    }
  });

  test("is pruned by the next pruner when the first one fails", async () => {
    const disk = await smallDisk();
    const cache = await makeCache(join(disk.path, "cache"), 30);
    await disk.fill(10 * MB);
    const broken = { ...cache, shrinkTo: () => Promise.reject(new Error("the engine does not answer")) };
    const watch = watchOf(disk, broken, cache);
    await watch.check(neverAborted);
    expect(watch.refusal).toBeUndefined();
  });

  test("that was full for a moment is reported to the run of that time, and to no other", async () => {
    const disk = await smallDisk();
    const watch = watchOf(disk);
    const during = watch.beginRun();
    await disk.fill(1.1 * MB);
    await waitFor(async () => (await during.full()) !== undefined, { timeoutMs: 30_000, what: "the check" });
    await disk.removeFillers();
    expect(await during.full()).toContain("the work folder");
    const after = watch.beginRun();
    expect(await after.full()).toBeUndefined();
    await disk.fill(10 * MB);
    expect(await after.full()).toBeUndefined();
    during.end();
    after.end();
  });
});
