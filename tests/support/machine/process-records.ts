/** Id files of the programs that this process starts. If it is killed, the next run uses them to end those programs. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { signalGroup } from "../../../src/worker/process/process-group.ts";
import { isGroupRunning } from "./process-group.ts";
import { groupOf, identityOf, isRunning } from "./process-identity.ts";
import { tempDirPrefix } from "./temp-dir.ts";

export const processRecordsLabel = "pids";

/** In the environment of every program that tests start, with the identity of the process that started it. */
const ownerVariable = "BLACKTREE_TEST_OWNER";

let folder: string | undefined;

export function ownerMark(): Record<string, string> {
  return { [ownerVariable]: `${identityOf(process.pid)}` };
}

/** Records the leader of a process group. Call the returned function once the leader has ended. */
export function recordProcessGroup(pid: number): () => void {
  folder ??= mkdtempSync(tempDirPrefix(processRecordsLabel));
  // On a busy machine a short program may have ended by now, while its children still run in the group.
  const record = join(folder, identityOf(pid) ?? `${pid}-ended`);
  writeFileSync(record, "");
  return () => {
    if (!isGroupRunning(pid)) rmSync(record, { force: true });
  };
}

/** Removes the records when all recorded groups have ended. */
export async function closeProcessRecords(): Promise<void> {
  if (folder === undefined) return;
  const groups = (await readdir(folder)).map((identity) => Number.parseInt(identity, 10));
  if (groups.some(isGroupRunning)) return;
  rmSync(folder, { recursive: true, force: true });
  folder = undefined;
}

/** Ends the recorded groups of an owner that has ended. */
export async function endRecordedProcesses(records: string): Promise<void> {
  for (const identity of await readdir(records).catch(() => [])) {
    const leader = Number.parseInt(identity, 10);
    if (isRunning(identity)) signalGroup(leader, "SIGKILL");
    // The leader has ended. Its number still names the rest of its group, unless the kernel has reused the number.
    else if (await isOurs(leader)) signalGroup(leader, "SIGKILL");
  }
}

async function isOurs(group: number): Promise<boolean> {
  const pids = (await readdir("/proc")).filter((name) => /^\d+$/.test(name));
  const members = pids.filter((pid) => groupOf(Number(pid)) === group);
  const marks = members.map(async (pid) => {
    const environment = await readFile(`/proc/${pid}/environ`, "utf8").catch(() => "");
    const owner = environment.split("\0").find((entry) => entry.startsWith(`${ownerVariable}=`));
    return owner !== undefined && !isRunning(owner.slice(ownerVariable.length + 1));
  });
  return members.length > 0 && !(await Promise.all(marks)).includes(false);
}
