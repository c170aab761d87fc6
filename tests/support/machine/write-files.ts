import { chmod } from "node:fs/promises";
import { join } from "node:path";

/** Whether tests make the file at this path executable: all files below a folder named bin are. */
export function isExecutable(path: string): boolean {
  return /(^|\/)bin\//.test(path);
}

/** Writes a tree of files. */
export async function writeFiles(dir: string, files: Record<string, string | Uint8Array>): Promise<void> {
  for (const [name, content] of Object.entries(files)) {
    const path = join(dir, name);
    await Bun.write(path, content);
    if (isExecutable(name)) await chmod(path, 0o755);
  }
}
