/**
 * The parts of a cached checkout that git itself has not written: submodules and Git LFS files. Git would overwrite the
 * LFS files and leave the submodules behind, so all parts are moved out of the checkout before git updates it. A part
 * is restored at its old path only, after its server has offered it to this job too: at another path it could have the
 * size and time of another file, and BuildKit compares files by these. Parts that are not restored are removed with the
 * run's folder.
 */
import { randomUUID } from "node:crypto";
import { mkdir, rename } from "node:fs/promises";
import { join } from "node:path";
import { declaredSubmodules } from "./gitmodules.ts";
import { fileIn, type GitName } from "./names.ts";
import type { WorkingCopy } from "./working-copy.ts";

export interface CachedSubmodule {
  /** Its current path. */
  readonly path: string;
  /** The URL in its parent's .gitmodules. */
  readonly declaredUrl: string;
}

/** By their paths in the checkout. */
export interface CachedParts {
  readonly submodules: ReadonlyMap<GitName, CachedSubmodule>;
  /** Their current paths. The contents are not verified yet. */
  readonly lfsFiles: ReadonlyMap<GitName, string>;
}

export const NO_CACHED_PARTS: CachedParts = { submodules: new Map(), lfsFiles: new Map() };

/** Moves the parts to `aside`, a folder of the run. @throws any error that a damaged checkout causes. */
export async function moveAsideCachedParts(copy: WorkingCopy, aside: string): Promise<CachedParts> {
  await mkdir(aside, { recursive: true, mode: 0o700 });
  const moveAside = async (path: GitName) => {
    const newPath = join(aside, randomUUID());
    await rename(fileIn(copy.path, path), newPath);
    return newPath;
  };
  return { lfsFiles: await moveLfsFiles(copy, moveAside), submodules: await moveSubmodules(copy, moveAside) };
}

type MoveAside = (path: GitName) => Promise<string>;

async function moveLfsFiles(copy: WorkingCopy, moveAside: MoveAside): Promise<Map<GitName, string>> {
  const files = new Map<GitName, string>();
  for (const path of await copy.modifiedLfsFiles()) files.set(path, await moveAside(path));
  return files;
}

async function moveSubmodules(
  copy: WorkingCopy,
  moveAside: MoveAside,
): Promise<Map<GitName, CachedSubmodule>> {
  const submodules = new Map<GitName, CachedSubmodule>();
  const paths = await copy.gitlinkPaths();
  if (paths.length === 0) return submodules;
  const declared = await declaredSubmodules(copy);
  for (const path of paths) {
    const newPath = await moveAside(path);
    // Git leaves an empty folder for a submodule.
    await mkdir(fileIn(copy.path, path));
    const declaredUrl = declared.get(path)?.url;
    const isFilled = await Bun.file(join(newPath, ".git", "HEAD")).exists();
    if (declaredUrl !== undefined && isFilled) submodules.set(path, { path: newPath, declaredUrl });
  }
  return submodules;
}
