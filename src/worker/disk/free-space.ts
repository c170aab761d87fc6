import { stat, statfs } from "node:fs/promises";

/** Free space on the file system of a folder. */
export interface FreeSpace {
  readonly freeBytes: number;
  /** Files and folders that can still be created; Infinity where the file system does not count inodes. */
  readonly freeInodes: number;
  readonly usedBytes: number;
  readonly totalBytes: number;
}

/** @throws Error when the folder does not exist. */
export async function freeSpaceAt(path: string): Promise<FreeSpace> {
  const { bsize, blocks, bfree, bavail, files, ffree } = await statfs(path);
  return {
    // Space reserved for root does not count as free, though an engine that runs as root could use it.
    freeBytes: bavail * bsize,
    freeInodes: files === 0 ? Number.POSITIVE_INFINITY : ffree,
    usedBytes: (blocks - bfree) * bsize,
    totalBytes: blocks * bsize,
  };
}

/** Also false when one of them does not exist. */
export async function areOnSameDisk(one: string, other: string): Promise<boolean> {
  try {
    return (await stat(one)).dev === (await stat(other)).dev;
  } catch {
    return false;
  }
}

/** Space that has to stay free, in bytes and in inodes. */
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
