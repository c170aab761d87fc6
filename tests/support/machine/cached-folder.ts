/** Folders that are expensive to fill: filled once, then used by all tests and checkouts. */
import { mkdir, rename, rm } from "node:fs/promises";
import { homedir } from "node:os";
import { join } from "node:path";

/** Shared by all checkouts: files that are expensive to download or build, and the same for all. */
export function testCacheFolder(): string {
  const base = process.env.XDG_CACHE_HOME ?? join(homedir(), ".cache");
  return join(base, "blacktree-tests");
}

/**
 * Calls `fill` with an empty folder unless `folder` has the file `proof`, which exists once it is complete.
 * Several callers may do so at once: each fills a separate folder, and the first rename wins.
 */
export async function cachedFolder(
  folder: string,
  proof: string,
  fill: (unfinished: string) => Promise<void>,
): Promise<string> {
  if (await isFilled(folder, proof)) return folder;
  const unfinished = `${folder}.${crypto.randomUUID()}.unfinished`;
  await mkdir(unfinished, { recursive: true });
  try {
    await fill(unfinished);
    await rename(unfinished, folder).catch(async (error) => {
      if (!(await isFilled(folder, proof))) throw error;
    });
  } finally {
    await rm(unfinished, { recursive: true, force: true });
  }
  return folder;
}

export function isFilled(folder: string, proof: string): Promise<boolean> {
  return Bun.file(join(folder, proof)).exists();
}
