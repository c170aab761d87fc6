/**
 * Keeps journals in a folder of this machine, one file each, in a folder per tenant. The oldest are removed when they
 * are too old, or when all of them are too large together.
 */
import { copyFile, type FileHandle, mkdir, open, rename, rm } from "node:fs/promises";
import { join } from "node:path";
import type { Logger } from "../../shared/logging.ts";
import { type LogFolder, makePrivateFolder } from "./log-folder.ts";
import { type LogKey, type LogStore, LogStoreUnavailable } from "./log-store.ts";
import { Retention, type RetentionLimits } from "./retention.ts";

export interface DirectoryStoreOptions {
  readonly folder: LogFolder;
  readonly limits: RetentionLimits;
  readonly logger: Logger;
}

const READ_BYTES = 256 * 1024;

export class DirectoryStore implements LogStore {
  readonly #root: string;
  readonly #folder: LogFolder;
  readonly #retention: Retention;

  constructor({ folder, limits, logger }: DirectoryStoreOptions) {
    this.#folder = folder;
    this.#root = join(folder.path, "kept");
    makePrivateFolder(this.#root);
    this.#retention = new Retention(this.#root, limits, logger);
  }

  /** Finds the files of earlier starts in the background, and removes old files from now on. */
  start(): void {
    this.#retention.start();
  }

  stop(): void {
    this.#retention.stop();
  }

  /** A file on the same file system is moved, so that a log is written once. */
  async put(key: LogKey, journal: string): Promise<void> {
    const name = nameOf(key);
    const path = join(this.#root, name);
    await mkdir(join(this.#root, folderOf(key)), { recursive: true, mode: 0o700 });
    const bytes = await flush(journal);
    await rename(journal, path).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== "EXDEV") throw error;
      return this.#copyTo(path, journal);
    });
    this.#retention.added(name, bytes);
  }

  async read(key: LogKey, signal: AbortSignal): Promise<AsyncIterable<Uint8Array> | undefined> {
    let file: FileHandle;
    try {
      file = await open(join(this.#root, nameOf(key)), "r");
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
      throw new LogStoreUnavailable(`cannot open a log: ${(error as Error).message}`, { cause: error });
    }
    return chunksOf(file, signal);
  }

  async #copyTo(path: string, journal: string): Promise<void> {
    const temporary = this.#folder.unfinished();
    try {
      await copyFile(journal, temporary);
      await flush(temporary);
      await rename(temporary, path);
    } finally {
      await rm(temporary, { force: true });
    }
  }
}

/** A tenant, and a job's id, may be `.` or `..`. */
function folderOf({ tenant }: LogKey): string {
  return `tenant-${tenant}`;
}

/** The file's name has at most 255 bytes: a job's id has at most 200. */
function nameOf(key: LogKey): string {
  return join(folderOf(key), `${key.jobId}.${key.attempt}.jsonl`);
}

/** Only the owner may read the file, and it survives a crash of the machine. Returns its size in bytes. */
async function flush(path: string): Promise<number> {
  const file = await open(path, "r+");
  try {
    await file.chmod(0o600);
    await file.sync();
    return (await file.stat()).size;
  } finally {
    await file.close();
  }
}

async function* chunksOf(file: FileHandle, signal: AbortSignal): AsyncGenerator<Uint8Array> {
  try {
    while (!signal.aborted) {
      const { buffer, bytesRead } = await file.read(Buffer.allocUnsafe(READ_BYTES), 0, READ_BYTES);
      if (bytesRead === 0) return;
      yield buffer.subarray(0, bytesRead);
    }
  } catch (error) {
    throw new LogStoreUnavailable(`cannot read a log: ${(error as Error).message}`, { cause: error });
  } finally {
    await file.close();
  }
}
