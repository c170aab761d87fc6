import { readdir } from "node:fs/promises";
import { join } from "node:path";

/** The run folders on a worker's disk, each as `<incarnation>/<run>`. */
export async function runFolders(workDir: string): Promise<string[]> {
  const folders: string[] = [];
  for (const incarnation of await readdir(join(workDir, "runs"))) {
    const entries = await readdir(join(workDir, "runs", incarnation), { withFileTypes: true });
    for (const entry of entries) if (entry.isDirectory()) folders.push(`${incarnation}/${entry.name}`);
  }
  return folders;
}
