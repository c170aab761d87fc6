import { chmod } from "node:fs/promises";
import { join } from "node:path";

/** Writes a tree of files; those below a folder named bin are executable. */
export async function writeFiles(dir: string, files: Record<string, string | Uint8Array>): Promise<void> {
  for (const [name, content] of Object.entries(files)) {
    const path = join(dir, name);
    await Bun.write(path, content);
    if (/(^|\/)bin\//.test(name)) await chmod(path, 0o755);
  }
}
