import { readdir, readFile, readlink, rm } from "node:fs/promises";
import { unmountBelow } from "../machine/mounts.ts";
import { waitFor } from "../machine/wait-for.ts";
import { removeBridge } from "./docker-bridge.ts";

async function belongsTo(pid: string, dir: string): Promise<boolean> {
  const commandLine = await readFile(`/proc/${pid}/cmdline`, "utf8");
  // Both daemons, shims and runc have these in their command lines. A client has the socket there, and is not ended.
  const owned = [`${dir}/data/`, `${dir}/exec/`, `${dir}/daemon.json`];
  if (owned.some((path) => commandLine.includes(path))) return true;
  // Processes in a container do not; but their root file system is an overlay of folders in the engine's folder.
  if ((await readlink(`/proc/${pid}/ns/mnt`)) === (await readlink("/proc/self/ns/mnt"))) return false;
  const table = await readFile(`/proc/${pid}/mountinfo`, "utf8");
  const root = table.split("\n").find((line) => line.split(" ")[4] === "/");
  return root?.includes(`${dir}/`) ?? false;
}

async function processesOf(dir: string): Promise<number[]> {
  const pids = (await readdir("/proc")).filter((name) => /^\d+$/.test(name) && name !== String(process.pid));
  const owned = await Promise.all(
    // A process that ends during the check does not count.
    pids.map(async (pid) => ((await belongsTo(pid, dir).catch(() => false)) ? [Number(pid)] : [])),
  );
  return owned.flat();
}

function killQuietly(pid: number): void {
  try {
    process.kill(pid, "SIGKILL");
  } catch {
    // It has ended since.
  }
}

/** Ends the child processes of a killed daemon, found by its unique folder and never by a name. */
export async function killProcessesOf(dir: string): Promise<void> {
  await waitFor(
    async () => {
      const pids = await processesOf(dir);
      for (const pid of pids) killQuietly(pid);
      return pids.length === 0;
    },
    { timeoutMs: 60_000, what: `the processes of ${dir} to end` },
  );
}

/** Removes everything of an engine: processes, mounts, bridge, folder. For running and for abandoned engines. */
export async function removeEngineFolder(dir: string): Promise<void> {
  await killProcessesOf(dir);
  await unmountBelow(dir);
  await removeBridge(dir);
  await rm(dir, { recursive: true, force: true });
}
