import { lstat, readFile } from "node:fs/promises";
import { fileIn, type GitName } from "./names.ts";
import type { Superproject } from "./submodules.ts";

export interface Pointer {
  readonly path: GitName;
  readonly oid: string;
  readonly size: number;
}

const POINTER =
  /^version https:\/\/git-lfs\.github\.com\/spec\/v1\n(?:ext-.*\n)*oid sha256:([0-9a-f]{64})\nsize (\d+)\n$/;

const MAX_POINTER_BYTES = 1024;
const FILES_AT_ONCE = 64;

export async function mentionsLfs({ copy, listing }: Superproject): Promise<boolean> {
  for (const path of listing.attributeFiles) {
    copy.budget.signal.throwIfAborted();
    const file = fileIn(copy.path, path);
    const isFile = (await lstat(file).catch(() => undefined))?.isFile();
    if (isFile && /\bfilter=lfs\b/.test(await readFile(file, "utf8"))) return true;
  }
  return false;
}

export async function pointersIn({ copy }: Superproject): Promise<Pointer[]> {
  const paths = await copy.lfsFiles();
  const pointers: Pointer[] = [];
  for (let from = 0; from < paths.length; from += FILES_AT_ONCE) {
    copy.budget.signal.throwIfAborted();
    const some = paths.slice(from, from + FILES_AT_ONCE).map((path) => pointerAt(copy.path, path));
    for (const pointer of await Promise.all(some)) if (pointer !== undefined) pointers.push(pointer);
  }
  return pointers;
}

async function pointerAt(checkout: string, path: GitName): Promise<Pointer | undefined> {
  const file = fileIn(checkout, path);
  const entry = await lstat(file);
  if (!entry.isFile() || entry.size > MAX_POINTER_BYTES) return undefined;
  const [, oid, size] = POINTER.exec(await readFile(file, "utf8")) ?? [];
  return oid === undefined ? undefined : { path, oid, size: Number(size) };
}
