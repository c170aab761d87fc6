/**
 * The folder BLACKTREE_LOG_DIR of one orchestrator: its stable id, and journals that are still being copied. Log stores
 * keep complete journals in other folders of it.
 */
import { Database, SQLiteError } from "bun:sqlite";
import { randomUUID } from "node:crypto";
import { chmodSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";

export interface LogFolder {
  readonly path: string;
  /** Names this folder to other orchestrators, also after a restart. */
  readonly id: string;
  /** A path for a journal that is not complete yet; such files are removed at the next start. */
  unfinished(): string;
  /** Another process may use the folder from now on. */
  close(): void;
}

const ID_FILE = "id";
const UNFINISHED = "unfinished";
const LOCK_FILE = "lock";

/** @throws Error with the path when the folder cannot be created or written to, or another process uses it. */
export function openLogFolder(path: string): LogFolder {
  try {
    const unfinished = join(path, UNFINISHED);
    makePrivateFolder(path);
    const lock = lockFile(join(path, LOCK_FILE));
    rmSync(unfinished, { recursive: true, force: true });
    makePrivateFolder(unfinished);
    return {
      path,
      id: storedId(path),
      unfinished: () => join(unfinished, randomUUID()),
      close: () => lock.close(),
    };
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw new Error(`cannot use BLACKTREE_LOG_DIR ${path}: ${reason}`, { cause: error });
  }
}

/** The kernel holds SQLite's lock for the lifetime of the process: it does not remain after a kill. */
function lockFile(path: string): Database {
  const database = new Database(path, { readwrite: true, create: true });
  try {
    chmodSync(path, 0o600);
    database.run("PRAGMA locking_mode = EXCLUSIVE");
    database.run("BEGIN EXCLUSIVE");
    database.run("COMMIT");
    return database;
  } catch (error) {
    database.close();
    if (!(error instanceof SQLiteError && error.code === "SQLITE_BUSY")) throw error;
    throw new Error("another process uses it; each orchestrator needs a dedicated folder", { cause: error });
  }
}

/** Logs show the source code of users. */
export function makePrivateFolder(path: string): void {
  mkdirSync(path, { recursive: true, mode: 0o700 });
  chmodSync(path, 0o700);
}

function storedId(folder: string): string {
  const path = join(folder, ID_FILE);
  const known = readIfPresent(path)?.trim();
  if (known) return known;
  const id = randomUUID();
  // By rename: a start that is killed leaves no empty file.
  writeFileSync(`${path}.new`, `${id}\n`, { mode: 0o600, flush: true });
  renameSync(`${path}.new`, path);
  return id;
}

function readIfPresent(path: string): string | undefined {
  try {
    return readFileSync(path, "utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw error;
  }
}
