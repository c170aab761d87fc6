/** A control group with limits of its own, as whoever administers a machine makes it: of version 2, or of 1 in every tree. */
import { existsSync } from "node:fs";
import { mkdir, readdir, readFile, rm, rmdir, writeFile } from "node:fs/promises";
import { basename, join } from "node:path";
import { makeTempDir } from "./temp-dir.ts";
import { waitFor } from "./wait-for.ts";

export interface GroupLimits {
  readonly memoryBytes: number;
  readonly cpus: number;
  readonly processes: number;
}

export interface TestControlGroup {
  /** Below the root of control groups. */
  readonly path: string;
  /** Of the group and of those below it. */
  processes(): Promise<string[]>;
  /** How often it had to wait because it had used up its processors' time. */
  throttledPeriods(): Promise<number>;
  /** Once nothing runs in it any more. */
  remove(): Promise<void>;
}

const root = "/sys/fs/cgroup";
export const controlGroupLabel = "limits";
const periodMicros = 100_000;
const isVersion2 = existsSync(join(root, "cgroup.controllers"));

/** Why there can be no such group here; undefined when there can. */
export async function missingControlGroups(): Promise<string | undefined> {
  if (process.getuid?.() !== 0) return "control groups can only be made by root";
  try {
    await (await makeControlGroup({ memoryBytes: 2 ** 26, cpus: 1, processes: 64 })).remove();
    return undefined;
  } catch (error) {
    return `control groups cannot be made here: ${error instanceof Error ? error.message : error}`;
  }
}

export async function makeControlGroup(limits: GroupLimits): Promise<TestControlGroup> {
  // Empty, but its name says whose the group is, like those of all that tests leave when they are killed.
  const { path: dir } = await makeTempDir(controlGroupLabel);
  const name = basename(dir);
  const cpuFolder = join(root, isVersion2 ? "" : "cpu", name);
  try {
    for (const [file, value] of isVersion2 ? version2Files(limits) : version1Files(limits)) {
      const folder = join(root, isVersion2 ? "" : (file.split(".")[0] ?? ""), name);
      await mkdir(folder, { recursive: true });
      // Not every kernel counts swap; where it does, what does not fit is to end, and not to go on slowly.
      if (file.includes("sw") && !existsSync(join(folder, file))) continue;
      await writeFile(join(folder, file), value);
    }
  } catch (error) {
    await removeControlGroup(dir);
    throw error;
  }
  return {
    path: `/${name}`,
    async processes() {
      const folders = await foldersOf(cpuFolder);
      const lists = folders.map((folder) => readFile(join(folder, "cgroup.procs"), "utf8").catch(() => ""));
      return (await Promise.all(lists)).flatMap((list) => list.split("\n").filter((pid) => pid !== ""));
    },
    async throttledPeriods() {
      const stat = await readFile(join(cpuFolder, "cpu.stat"), "utf8");
      return Number(/^nr_throttled (\d+)$/m.exec(stat)?.[1]);
    },
    remove: () => removeControlGroup(dir),
  };
}

function version2Files({ memoryBytes, cpus, processes }: GroupLimits): [file: string, value: string][] {
  return [
    ["memory.max", `${memoryBytes}`],
    ["cpu.max", `${cpus * periodMicros} ${periodMicros}`],
    ["pids.max", `${processes}`],
    ["memory.swap.max", "0"],
  ];
}

function version1Files({ memoryBytes, cpus, processes }: GroupLimits): [file: string, value: string][] {
  return [
    ["memory.limit_in_bytes", `${memoryBytes}`],
    ["memory.memsw.limit_in_bytes", `${memoryBytes}`],
    ["cpu.cfs_period_us", `${periodMicros}`],
    ["cpu.cfs_quota_us", `${cpus * periodMicros}`],
    ["pids.max", `${processes}`],
  ];
}

/** The group that belongs to this folder, and the folder. */
export async function removeControlGroup(dir: string): Promise<void> {
  const trees = isVersion2 ? [""] : await readdir(root);
  for (const tree of trees) await removeTree(join(root, tree, basename(dir)));
  await rm(dir, { recursive: true, force: true });
}

/** A group can be removed once its processes have ended in full, and after all groups below it. */
async function removeTree(folder: string): Promise<void> {
  await waitFor(
    async () => {
      for (const inner of await foldersOf(folder)) await rmdir(inner).catch(() => undefined);
      return !existsSync(folder);
    },
    { timeoutMs: 10_000, what: `the control group ${folder} to be empty` },
  );
}

/** It and all below it, the innermost first; none when it is not there. */
async function foldersOf(folder: string): Promise<string[]> {
  const entries = await readdir(folder, { withFileTypes: true }).catch(() => undefined);
  if (entries === undefined) return [];
  const inner = entries
    .filter((entry) => entry.isDirectory())
    .map(({ name }) => foldersOf(join(folder, name)));
  return [...(await Promise.all(inner)).flat(), folder];
}
