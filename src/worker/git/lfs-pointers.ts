import { lstat } from "node:fs/promises";
import { join } from "node:path";
import type { Superproject } from "./submodules.ts";

export interface Pointer {
  readonly path: string;
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
    const file = join(copy.path, path);
    const isFile = (await lstat(file).catch(() => undefined))?.isFile();
    if (isFile && /\bfilter=lfs\b/.test(await Bun.file(file).text())) return true;
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

async function pointerAt(checkout: string, path: string): Promise<Pointer | undefined> {
  const entry = await lstat(join(checkout, path));
  if (!entry.isFile() || entry.size > MAX_POINTER_BYTES) return undefined;
  const [, oid, size] = POINTER.exec(await Bun.file(join(checkout, path)).text()) ?? [];
  return oid === undefined ? undefined : { path, oid, size: Number(size) };
}
