import { writeFile } from "node:fs/promises";

/** A file that only the worker's user can read. `Bun.write` ignores a mode. */
export function writePrivateFile(path: string, content: string): Promise<void> {
  return writeFile(path, content, { mode: 0o600 });
}
