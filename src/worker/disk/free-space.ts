import { stat, statfs } from "node:fs/promises";

/** What is left on the file system that a folder is on. */
export interface FreeSpace {
  readonly freeBytes: number;
  /** Files and folders that can still be made; Infinity where the file system keeps no count. */
  readonly freeInodes: number;
  readonly usedBytes: number;
}

/** @throws Error when there is no such folder. */
export async function freeSpaceAt(path: string): Promise<FreeSpace> {
  const { bsize, blocks, bfree, bavail, files, ffree } = await statfs(path);
  return {
    // What is kept back for root is not there for builds, though an engine that is root could use it.
    freeBytes: bavail * bsize,
    freeInodes: files === 0 ? Number.POSITIVE_INFINITY : ffree,
    usedBytes: (blocks - bfree) * bsize,
  };
}

/** False also when one of them is not there. */
export async function areOnSameDisk(one: string, other: string): Promise<boolean> {
  try {
    return (await stat(one)).dev === (await stat(other)).dev;
  } catch {
    return false;
  }
}

/** FreeSpace that is to stay free, in bytes and in files. */
export interface Reserve {
  readonly bytes: number;
  readonly inodes: number;
}

export function meetsReserve({ freeBytes, freeInodes }: FreeSpace, { bytes, inodes }: Reserve): boolean {
  return freeBytes >= bytes && freeInodes >= inodes;
}

export function scaledReserve({ bytes, inodes }: Reserve, factor: number): Reserve {
  return { bytes: bytes * factor, inodes: inodes * factor };
}

export function describeSize(bytes: number): string {
  if (bytes < 1e6) return `${Math.round(bytes / 1e3)} kB`;
  return bytes < 1e9 ? `${Math.round(bytes / 1e6)} MB` : `${(bytes / 1e9).toFixed(1)} GB`;
}

export interface WatchedDisk {
  /** For the log, such as "the work folder". */
  readonly role: string;
  readonly path: string;
}
