/**
 * A control group for each run's processes. A process stays in the group of its parent, whatever session, environment or
 * folder it chooses. Needs version 2 of control groups, and a worker that may create groups below its own: as root, or
 * as a service with Delegate=yes.
 */
import { createHash } from "node:crypto";
import { constants } from "node:fs";
import { access, mkdir, readdir, readFile, rmdir, writeFile } from "node:fs/promises";
import { join, relative } from "node:path";
import { sleep } from "../../shared/abort.ts";

const CHECK_INTERVAL_MS = 20;

type Argv = readonly [string, ...string[]];

/** Returns the group's folder; undefined when the worker cannot create groups. */
export async function createControlGroup(runFolder: string): Promise<string | undefined> {
  const own = await ownControlGroup();
  if (own === undefined) return undefined;
  const group = groupOf(runFolder, own);
  try {
    // Moving a process needs write access to the group that it leaves.
    await access(join(own, "cgroup.procs"), constants.W_OK);
    await mkdir(group, { recursive: true });
    return group;
  } catch (error) {
    if (hasCode(error, "EACCES", "EPERM", "EROFS")) return undefined;
    throw error;
  }
}

/**
 * The command, started in the group by a shell that enters it first. A process that is moved there after its start may
 * have started others before, which stay outside: a move can take longer than the start of a program.
 */
export function startedInControlGroup(argv: Argv, group: string): Argv {
  return ["/bin/sh", "-c", 'echo 0 >"$0" && exec "$@"', join(group, "cgroup.procs"), ...argv];
}

/** Kills the processes of a run's group and removes the group. Does nothing for a run without a group. */
export async function endControlGroup(runFolder: string, signal: AbortSignal): Promise<void> {
  const own = await ownControlGroup();
  if (own === undefined) return;
  const group = groupOf(runFolder, own);
  for (;;) {
    const events = await readFile(join(group, "cgroup.events"), "utf8").catch(() => undefined);
    if (events === undefined) return;
    if (events.includes("populated 0")) return removeGroup(group);
    await killAll(group);
    await sleep(CHECK_INTERVAL_MS, signal);
  }
}

function groupOf(runFolder: string, own: string): string {
  return join(own, `blacktree-run-${createHash("sha256").update(runFolder).digest("hex").slice(0, 16)}`);
}

async function killAll(group: string): Promise<void> {
  try {
    // Only root may open this file for reading.
    await writeFile(join(group, "cgroup.kill"), "1", { flag: constants.O_WRONLY });
  } catch (error) {
    // Kernels before 5.14 do not have this file.
    if (!hasCode(error, "ENOENT")) throw error;
    const pids = await readFile(join(group, "cgroup.procs"), "utf8");
    for (const pid of pids.split("\n").filter((line) => line !== "")) killProcess(Number(pid));
  }
}

export function killProcess(pid: number): void {
  try {
    process.kill(pid, "SIGKILL");
  } catch (error) {
    // The process has ended in the meantime.
    if (!hasCode(error, "ESRCH")) throw error;
  }
}

/** A process of the run may have created groups below. */
async function removeGroup(group: string): Promise<void> {
  for (const entry of await readdir(group, { withFileTypes: true }))
    if (entry.isDirectory()) await removeGroup(join(group, entry.name));
  await rmdir(group);
}

/** The folder of this process's group; undefined without version 2 of control groups. */
async function ownControlGroup(): Promise<string | undefined> {
  const [groups, mounts] = await Promise.all(
    ["/proc/self/cgroup", "/proc/self/mountinfo"].map((path) => readFile(path, "utf8").catch(() => "")),
  );
  const path = /^0::(.*)$/m.exec(groups ?? "")?.[1];
  // proc(5): root within the file system, then the mount point.
  const [, root, mountPoint] = /^\d+ \d+ \S+ (\S+) (\S+) .* - cgroup2 /m.exec(mounts ?? "") ?? [];
  if (path === undefined || root === undefined || mountPoint === undefined) return undefined;
  const below = relative(root, path);
  return below.startsWith("..") ? undefined : join(mountPoint, below);
}

function hasCode(error: unknown, ...codes: readonly string[]): boolean {
  return error instanceof Error && "code" in error && codes.includes(String(error.code));
}
