/** The files of a checkout that .gitattributes assigns to Git LFS. */
import { lstat, open, readFile } from "node:fs/promises";
import { decodePointer, encodePointer, MAX_POINTER_BYTES, type Pointer } from "./lfs-pointer.ts";
import { fileIn, type GitName } from "./names.ts";
import type { Superproject } from "./submodules.ts";

export interface PointerFile extends Pointer {
  readonly path: GitName;
  /** It is what git-lfs writes. */
  readonly isCanonical: boolean;
}

export interface AssignedFiles {
  readonly pointers: readonly PointerFile[];
  /** Files with other contents. */
  readonly others: readonly GitName[];
}

const FILES_AT_ONCE = 64;

export async function filesAssignedToLfs(filled: Superproject): Promise<AssignedFiles> {
  const pointers: PointerFile[] = [];
  const others: GitName[] = [];
  if (!(await mentionsLfs(filled))) return { pointers, others };
  const { path: checkout, budget } = filled.copy;
  const paths = await filled.copy.lfsFiles();
  for (let from = 0; from < paths.length; from += FILES_AT_ONCE) {
    budget.signal.throwIfAborted();
    const some = paths.slice(from, from + FILES_AT_ONCE);
    const contents = await Promise.all(some.map((path) => beginningOf(fileIn(checkout, path))));
    for (const [index, path] of some.entries()) {
      const content = contents[index];
      if (content === undefined || content.length === 0) continue;
      const pointer = decodePointer(content);
      if (pointer) pointers.push({ ...pointer, path, isCanonical: isCanonical(pointer, content) });
      else others.push(path);
    }
  }
  return { pointers, others };
}

function isCanonical(pointer: Pointer, content: Uint8Array): boolean {
  return Buffer.from(encodePointer(pointer)).equals(content);
}

/** Most repositories do not use Git LFS, which this finds out without git. */
async function mentionsLfs({ copy, listing }: Superproject): Promise<boolean> {
  for (const path of listing.attributeFiles) {
    copy.budget.signal.throwIfAborted();
    const file = fileIn(copy.path, path);
    const isFile = (await lstat(file).catch(() => undefined))?.isFile();
    if (isFile && /\bfilter=lfs\b/.test(await readFile(file, "latin1"))) return true;
  }
  return false;
}

/** Undefined for a symlink or a submodule. */
async function beginningOf(path: Buffer): Promise<Uint8Array | undefined> {
  if (!(await lstat(path)).isFile()) return undefined;
  const file = await open(path);
  try {
    const { buffer, bytesRead } = await file.read(Buffer.alloc(MAX_POINTER_BYTES), 0, MAX_POINTER_BYTES, 0);
    return buffer.subarray(0, bytesRead);
  } finally {
    await file.close();
  }
}
