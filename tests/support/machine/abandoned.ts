/** Removes what killed test runs have left on the machine: programs, mounts, bridges, control groups and folders. */
import { rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { buildKitLabel } from "../servers/buildkit.ts";
import { removeEngineFolder } from "../servers/docker-cleanup.ts";
import { dockerEngineLabel } from "../servers/docker-engines.ts";
import { controlGroupLabel, removeControlGroup } from "./control-groups.ts";
import { unmountBelow } from "./mounts.ts";
import { endRecordedProcesses, processRecordsLabel } from "./process-records.ts";
import { type AbandonedDir, abandonedTempDirs } from "./temp-dir.ts";

/**
 * Ends and removes all of it, by its folders in the parent folder. Safe while other runs, or other calls of this
 * function, are active.
 */
export async function removeAbandoned(parent = tmpdir()): Promise<void> {
  const dirs = await abandonedTempDirs(parent);
  // Programs first: they use the folders.
  for (const { label, path } of dirs) if (label === processRecordsLabel) await endRecordedProcesses(path);
  for (const dir of dirs) await removeDir(dir);
}

async function removeDir({ label, path }: AbandonedDir): Promise<void> {
  if (label === controlGroupLabel) return removeControlGroup(path);
  if (label === dockerEngineLabel || label === buildKitLabel) return removeEngineFolder(path);
  await unmountBelow(path);
  await rm(path, { recursive: true, force: true });
}
