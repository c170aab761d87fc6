import { mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

export interface TempDir {
  path: string;
  remove(): Promise<void>;
}

const prefix = "blacktree-test";

/** A fresh folder whose name says which process made it, so that a later run can tell an abandoned one. */
export async function makeTempDir(label: string): Promise<TempDir> {
  // Unix sockets live in these folders, and their paths must stay below 108 characters: labels are short.
  const path = await mkdtemp(join(tmpdir(), `${prefix}-${process.pid}-${label}-`));
  return { path, remove: () => rm(path, { recursive: true, force: true }) };
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return error instanceof Error && "code" in error && error.code === "EPERM";
  }
}

/** Folders with this label whose maker was killed before it could remove them. */
export async function abandonedTempDirs(label: string): Promise<string[]> {
  const pattern = new RegExp(`^${prefix}-(\\d+)-${label}-[^-]+$`);
  const names = await readdir(tmpdir());
  return names
    .filter((name) => {
      const pid = pattern.exec(name)?.[1];
      return pid !== undefined && !isAlive(Number(pid));
    })
    .map((name) => join(tmpdir(), name));
}
