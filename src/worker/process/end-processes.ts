/**
 * Ends all processes that the programs of a run have started. Ending a process group (process-group.ts) does not reach
 * a process that has started its own session. A run's control group does; where there is none, a run's processes are
 * found by their HOME, a folder of the run, unless a process has changed it.
 */
import { readdir, readFile } from "node:fs/promises";
import { sleep } from "../../shared/abort.ts";
import { endControlGroup, killProcess } from "./control-group.ts";

const RESCAN_INTERVAL_MS = 20;

/** Resolves when no process of these folders of runs is left. @throws the signal's reason. */
export async function endProcessesOf(runFolders: readonly string[], signal: AbortSignal): Promise<void> {
  for (const folder of runFolders) await endControlGroup(folder, signal);
  // A process may have started another one before it was killed.
  while (await killProcessesOf(runFolders)) await sleep(RESCAN_INTERVAL_MS, signal);
}

/** Returns false when there were none. */
async function killProcessesOf(runFolders: readonly string[]): Promise<boolean> {
  const pids = (await readdir("/proc"))
    .map(Number)
    .filter((pid) => Number.isInteger(pid) && pid !== process.pid);
  const homes = await Promise.all(pids.map(homeOf));
  const found = pids.filter((_, index) =>
    runFolders.some((folder) => homes[index]?.startsWith(`${folder}/`)),
  );
  for (const pid of found) killProcess(pid);
  return found.length > 0;
}

/** Undefined for a process that has ended or belongs to another user. */
async function homeOf(pid: number): Promise<string | undefined> {
  const environment = await readFile(`/proc/${pid}/environ`, "utf8").catch(() => "");
  return environment
    .split("\0")
    .find((entry) => entry.startsWith("HOME="))
    ?.slice("HOME=".length);
}
