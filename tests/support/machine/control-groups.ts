/** A control group with limits, as a machine's administrator creates it: of version 2, or of version 1 in each tree. */
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
  /** Relative to the root of the control groups. */
  readonly path: string;
  /** Process ids in the group and in the groups below it. */
  processes(): Promise<string[]>;
  /** How often the group had to wait because its processor time was used up. */
  throttledPeriods(): Promise<number>;
  /** Call it once no process runs in the group. */
  remove(): Promise<void>;
}

const root = "/sys/fs/cgroup";
export const controlGroupLabel = "limits";
const periodMicros = 100_000;
const isVersion2 = existsSync(join(root, "cgroup.controllers"));

/** Why such a group cannot be created here; undefined when it can. */
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
  // The folder stays empty. Its name identifies the owner, as for everything that killed tests leave behind.
  const { path: dir } = await makeTempDir(controlGroupLabel);
  const name = basename(dir);
  const cpuFolder = join(root, isVersion2 ? "" : "cpu", name);
  try {
    for (const [file, value] of isVersion2 ? version2Files(limits) : version1Files(limits)) {
      const folder = join(root, isVersion2 ? "" : (file.split(".")[0] ?? ""), name);
      await mkdir(folder, { recursive: true });
      // Not every kernel counts swap; where it does, a process above the limit has to end instead of swapping.
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

/** Removes the group that belongs to this folder, and the folder. */
export async function removeControlGroup(dir: string): Promise<void> {
  const trees = isVersion2 ? [""] : await readdir(root);
  for (const tree of trees) await removeTree(join(root, tree, basename(dir)));
  await rm(dir, { recursive: true, force: true });
}

/** A group can be removed once its processes have ended completely, and after all groups below it. */
async function removeTree(folder: string): Promise<void> {
  await waitFor(
    async () => {
      for (const inner of await foldersOf(folder)) await rmdir(inner).catch(() => undefined);
      return !existsSync(folder);
    },
    { timeoutMs: 60_000, what: `the control group ${folder} to be empty` },
  );
}

/** The folder and all folders below it, the innermost first; empty when it does not exist. */
async function foldersOf(folder: string): Promise<string[]> {
  const entries = await readdir(folder, { withFileTypes: true }).catch(() => undefined);
  if (entries === undefined) return [];
  const inner = entries
    .filter((entry) => entry.isDirectory())
    .map(({ name }) => foldersOf(join(folder, name)));
  return [...(await Promise.all(inner)).flat(), folder];
}
