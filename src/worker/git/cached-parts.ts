/**
 * What an earlier run has put into a checkout beyond what git put there: submodules, and the files of Git LFS. Git would
 * overwrite the ones and leave the others lying, so it is all taken out of the checkout before git goes on with that.
 * A part comes back to its own place, and to no other, once its server has offered it to this job too; a file
 * that came to another's place could have that one's size and time, by which BuildKit tells files. What does not come
 * back goes with the run's folder.
 */
import { randomUUID } from "node:crypto";
import { mkdir, rename } from "node:fs/promises";
import { join } from "node:path";
import { declaredSubmodules } from "./gitmodules.ts";
import type { WorkingCopy } from "./working-copy.ts";

export interface CachedSubmodule {
  /** Where it lies now. */
  readonly place: string;
  /** As its parent declared it. */
  readonly declaredUrl: string;
}

/** By the paths that they had in the checkout. */
export interface CachedParts {
  readonly submodules: ReadonlyMap<string, CachedSubmodule>;
  /** Where each lies now. What is in it nobody has looked at. */
  readonly lfsFiles: ReadonlyMap<string, string>;
}

export const NO_CACHED_PARTS: CachedParts = { submodules: new Map(), lfsFiles: new Map() };

/** Moves them to `aside`, a folder of the run. @throws whatever a damaged checkout brings about. */
export async function moveAsideCachedParts(copy: WorkingCopy, aside: string): Promise<CachedParts> {
  await mkdir(aside, { recursive: true, mode: 0o700 });
  const take = async (path: string) => {
    const place = join(aside, randomUUID());
    await rename(join(copy.path, path), place);
    return place;
  };
  return { lfsFiles: await takeLfsFiles(copy, take), submodules: await takeSubmodules(copy, take) };
}

type Take = (path: string) => Promise<string>;

async function takeLfsFiles(copy: WorkingCopy, take: Take): Promise<Map<string, string>> {
  const files = new Map<string, string>();
  for (const path of await copy.replacedLfsFiles()) files.set(path, await take(path));
  return files;
}

async function takeSubmodules(copy: WorkingCopy, take: Take): Promise<Map<string, CachedSubmodule>> {
  const submodules = new Map<string, CachedSubmodule>();
  const paths = await copy.gitlinkPaths();
  if (paths.length === 0) return submodules;
  const declared = await declaredSubmodules(copy, await copy.head());
  for (const path of paths) {
    const place = await take(path);
    // As git leaves it.
    await mkdir(join(copy.path, path));
    const declaredUrl = declared.find((declaration) => declaration.path === path)?.url;
    const isFilled = await Bun.file(join(place, ".git", "HEAD")).exists();
    if (declaredUrl !== undefined && isFilled) submodules.set(path, { place, declaredUrl });
  }
  return submodules;
}
