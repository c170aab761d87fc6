import { statSync } from "node:fs";
import { mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { identityOf, isRunning } from "./process-identity.ts";

export interface TempDir {
  path: string;
  remove(): Promise<void>;
}

/** A folder of a test run that was killed before it could remove it. */
export interface AbandonedDir {
  readonly path: string;
  readonly label: string;
}

const prefix = "blacktree-test";
const pattern = new RegExp(`^${prefix}-(\\d+-\\d+)-([a-z0-9]+)-[^-]+$`);

/** Prefix for mkdtemp(3). The name identifies the owning process, so that a later run finds an abandoned folder. */
export function tempDirPrefix(label: string, owner = process.pid): string {
  // These folders contain Unix sockets, whose paths must stay below 108 characters: labels are short.
  return join(tmpdir(), `${prefix}-${identityOf(owner)}-${label}-`);
}

export async function makeTempDir(label: string): Promise<TempDir> {
  const path = await mkdtemp(tempDirPrefix(label));
  return { path, remove: () => rm(path, { recursive: true, force: true }) };
}

/** Abandoned folders that this user may remove. */
export async function abandonedTempDirs(parent: string): Promise<AbandonedDir[]> {
  const names = await readdir(parent);
  const uid = process.getuid?.() ?? 0;
  return names.flatMap((name) => {
    const [, owner, label] = pattern.exec(name) ?? [];
    if (owner === undefined || label === undefined || isRunning(owner)) return [];
    const path = join(parent, name);
    const isOurs = uid === 0 || statSync(path, { throwIfNoEntry: false })?.uid === uid;
    return isOurs ? [{ path, label }] : [];
  });
}
