/** The watch on real disks, which are small; caches are folders of files here, the engine's own is in full-disk.test.ts. */
import { afterEach, describe, expect, setDefaultTimeout, test } from "bun:test";
import { mkdir, readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import pino from "pino";
import { DiskWatch } from "../../../../src/worker/disk/disk-watch.ts";
import type { Pruner } from "../../../../src/worker/disk/pruner.ts";
import {
  type DiskSize,
  makeSmallDisk,
  missingSmallDisks,
  type SmallDisk,
} from "../../../support/machine/small-disk.ts";
import { makeTempDir } from "../../../support/machine/temp-dir.ts";
import { waitFor } from "../../../support/machine/wait-for.ts";

setDefaultTimeout(120_000);

const MB = 1e6;
const RESERVE = { bytes: 16 * MB, inodes: 20 };
const neverAborted = new AbortController().signal;
const missing = await missingSmallDisks();

/** Files of 1 MB each; the first of them was not used for longest. */
async function makeCache(folder: string, files: number): Promise<Pruner & { names(): Promise<string[]> }> {
  await mkdir(folder, { recursive: true });
  for (let index = 0; index < files; index++) {
    await Bun.write(join(folder, String(index).padStart(3, "0")), new Uint8Array(MB));
  }
  const names = async () => (await readdir(folder)).toSorted();
  return {
    what: "a cache of files",
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
    const watch = new DiskWatch({ reserve: RESERVE, logger, lookIntervalMs: 10 });
    watch.addDisk({ role: "the work folder", path: disk.path });
    for (const pruner of pruners) watch.addPruner(pruner);
    return watch;
  }

  test("with room is left alone", async () => {
    const disk = await smallDisk();
    const cache = await makeCache(join(disk.path, "cache"), 10);
    const watch = watchOf(disk, cache);
    await watch.look(neverAborted);
    expect(watch.refusal).toBeUndefined();
    expect(await cache.names()).toHaveLength(10);
  });

  test("below its reserve is pruned, the oldest first, and only as far as that takes", async () => {
    const disk = await smallDisk();
    const cache = await makeCache(join(disk.path, "cache"), 30);
    await disk.fill(10 * MB);
    const watch = watchOf(disk, cache);
    await watch.look(neverAborted);
    expect(watch.refusal).toBeUndefined();
    expect(await disk.freeBytes()).toBeGreaterThanOrEqual(RESERVE.bytes);
    const left = await cache.names();
    expect(left.length).toBeWithin(1, 30);
    expect(left.at(-1)).toBe("029");
  });

  test("that pruning does not help is a refusal that names it, until there is room again", async () => {
    const disk = await smallDisk();
    const cache = await makeCache(join(disk.path, "cache"), 3);
    await disk.fill(5 * MB);
    const watch = watchOf(disk, cache);
    await watch.look(neverAborted);
    expect(await cache.names()).toEqual([]);
    expect(watch.refusal).toContain("the work folder");
    expect(watch.refusal).toContain(disk.path);
    expect(watch.refusal).toMatch(/ [78] MB free; 16 MB have to stay free/);
    const stop = new AbortController();
    const kept = watch.keep(stop.signal);
    await disk.removeFillers();
    await waitFor(() => watch.refusal === undefined, { timeoutMs: 30_000, what: "the refusal to end" });
    await disk.fill(5 * MB);
    await waitFor(() => watch.refusal !== undefined, { timeoutMs: 30_000, what: "another refusal" });
    stop.abort();
    await kept;
  });

  test("without room for files is short as well, however much space it has", async () => {
    const disk = await smallDisk({ sizeMiB: 32, inodes: 128 });
    for (let index = 0; index < 105; index++) await Bun.write(join(disk.path, `file-${index}`), "");
    const watch = watchOf(disk);
    await watch.look(neverAborted);
    expect(watch.refusal).toMatch(/room for \d+ files; 20 have to stay free/);
  });

  test("is not helped by what lies on another one", async () => {
    const disk = await smallDisk();
    const elsewhere = await makeTempDir("cache");
    try {
      const cache = await makeCache(join(elsewhere.path, "cache"), 5);
      await disk.fill(5 * MB);
      const watch = watchOf(disk, cache);
      await watch.look(neverAborted);
      expect(watch.refusal).toBeDefined();
      expect(await cache.names()).toHaveLength(5);
    } finally {
      await elsewhere.remove();
    }
  });

  test("whose first pruner fails is pruned by the next", async () => {
    const disk = await smallDisk();
    const cache = await makeCache(join(disk.path, "cache"), 30);
    await disk.fill(10 * MB);
    const broken = { ...cache, shrinkTo: () => Promise.reject(new Error("the engine is away")) };
    const watch = watchOf(disk, broken, cache);
    await watch.look(neverAborted);
    expect(watch.refusal).toBeUndefined();
  });

  test("that was full for a moment is remembered by the run of that time, and by no other", async () => {
    const disk = await smallDisk();
    const watch = watchOf(disk);
    const during = watch.beginRun();
    await disk.fill(1.1 * MB);
    await waitFor(async () => (await during.full()) !== undefined, { timeoutMs: 30_000, what: "the look" });
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
