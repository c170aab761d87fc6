import { readdir } from "node:fs/promises";
import { join } from "node:path";

/** Beside them there are the worker's own files. */
const RUN = /^[0-9a-f]{16}-\d+$/;

/** The folders of runs on a worker's disk, as `<incarnation>/<run>`, and the files of their logs. */
export async function runFolders(workDir: string): Promise<string[]> {
  const found: string[] = [];
  for (const incarnation of await readdir(join(workDir, "runs"))) {
    // Folders in which the worker probes docker come and go.
    const names = await readdir(join(workDir, "runs", incarnation)).catch(() => []);
    found.push(...names.filter((name) => RUN.test(name)).map((name) => `${incarnation}/${name}`));
    // Only created for the first long log.
    const logs = await readdir(join(workDir, "runs", incarnation, "logs")).catch(() => []);
    found.push(...logs.map((name) => `${incarnation}/logs/${name}`));
  }
  return found;
}
