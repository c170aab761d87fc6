import { readdir } from "node:fs/promises";
import { join } from "node:path";

/** Beside them there are the worker's own files. */
const RUN = /^[0-9a-f]{16}-\d+$/;

/** The run folders on a worker's disk, each as `<incarnation>/<run>`. */
export async function runFolders(workDir: string): Promise<string[]> {
  const folders: string[] = [];
  for (const incarnation of await readdir(join(workDir, "runs"))) {
    const names = await readdir(join(workDir, "runs", incarnation));
    folders.push(...names.filter((name) => RUN.test(name)).map((name) => `${incarnation}/${name}`));
  }
  return folders;
}
