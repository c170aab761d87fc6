/** A disk that a test can fill: an ext4 file system in a file, loop-mounted. Its folder's name identifies the owner. */
import { mkdir, rm, statfs, truncate } from "node:fs/promises";
import { join } from "node:path";
import { unmountBelow } from "./mounts.ts";
import { run } from "./processes.ts";
import { makeTempDir } from "./temp-dir.ts";

export interface DiskSize {
  readonly sizeMiB: number;
  /** Files and folders that fit; by default far more than any test needs. */
  readonly inodes?: number;
}

export interface SmallDisk {
  readonly path: string;
  freeBytes(): Promise<number>;
  /** Writes one file so that no more than this stays free, until `removeFillers`. */
  fill(leaveBytes: number): Promise<void>;
  /** Creates files until no more than this number of inodes stays free. */
  fillInodes(leave: number): Promise<void>;
  removeFillers(): Promise<void>;
  remove(): Promise<void>;
}

const folderLabel = "disk";

/** Why such a disk cannot be created here; undefined when it can. */
export async function missingSmallDisks(): Promise<string | undefined> {
  if (process.getuid?.() !== 0) return "file systems can only be mounted by root";
  try {
    await (await makeSmallDisk({ sizeMiB: 8 })).remove();
    return undefined;
  } catch (error) {
    const [reason] = String(error).split("\n").slice(-1);
    return `file systems cannot be loop-mounted here: ${reason}`;
  }
}

/** Mounts a new file system of this size at the existing folder `at`. Unmounting it also releases its loop device. */
export async function mountSmallDisk(
  imagePath: string,
  at: string,
  { sizeMiB, inodes }: DiskSize,
): Promise<void> {
  await Bun.write(imagePath, "");
  await truncate(imagePath, sizeMiB * 1024 * 1024);
  // Nothing is kept back for root, which is what tests and engines run as.
  const options = ["-q", "-F", "-m", "0", ...(inodes === undefined ? [] : ["-N", String(inodes)])];
  await run(["mkfs.ext4", ...options, imagePath], { env: { PATH: systemPath } });
  await run(["mount", "-o", "loop", imagePath, at], { env: { PATH: systemPath } });
}

const systemPath = `${process.env.PATH}:/usr/sbin:/sbin`;

export async function makeSmallDisk(size: DiskSize): Promise<SmallDisk> {
  const dir = await makeTempDir(folderLabel);
  const path = join(dir.path, "mounted");
  try {
    await mkdir(path);
    await mountSmallDisk(join(dir.path, "image"), path, size);
  } catch (error) {
    await removeDisk(dir.path);
    throw error;
  }
  return { ...smallDiskAt(path), remove: () => removeDisk(dir.path) };
}

export function smallDiskAt(path: string): Omit<SmallDisk, "remove"> {
  const freeBytes = async () => {
    const { bavail, bsize } = await statfs(path);
    return bavail * bsize;
  };
  const ballast = join(path, "ballast");
  const filler = join(path, "filler");
  return {
    path,
    freeBytes,
    async fill(leaveBytes) {
      const sizeBytes = Math.max(0, (await freeBytes()) - leaveBytes);
      await run(["fallocate", "--length", String(sizeBytes), ballast]);
    },
    async fillInodes(leave) {
      await mkdir(filler);
      const { ffree } = await statfs(path);
      for (let made = 1; made < ffree - leave; made++) await Bun.write(join(filler, String(made)), "");
    },
    async removeFillers() {
      for (const left of [ballast, filler]) await rm(left, { recursive: true, force: true });
    },
  };
}

async function removeDisk(dir: string): Promise<void> {
  await unmountBelow(dir);
  await rm(dir, { recursive: true, force: true });
}
