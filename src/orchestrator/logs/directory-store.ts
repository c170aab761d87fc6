/**
 * Keeps journals in a folder of this machine, one file each, in a folder per tenant. The oldest are removed when they
 * are too old, or when all of them are too large together.
 */
import {
  copyFile,
  type FileHandle,
  link,
  mkdir,
  open,
  opendir,
  rename,
  rm,
  writeFile,
} from "node:fs/promises";
import { dirname, join } from "node:path";
import type { Logger } from "../../shared/logging.ts";
import { type LogFolder, makePrivateFolder } from "./log-folder.ts";
import { type LogKey, type LogStore, LogStoreUnavailable } from "./log-store.ts";
import { Retention, type RetentionLimits } from "./retention.ts";
import type { PendingUpload, PendingUploads } from "./uploads.ts";

export interface DirectoryStoreOptions {
  readonly folder: LogFolder;
  readonly limits: RetentionLimits;
  readonly logger: Logger;
  /** A journal is stored, and is pending until `uploaded`. Undefined: journals are not uploaded. */
  readonly onPending?: (upload: PendingUpload) => void;
}

/** Of a followed log, several times as much is in memory at a time: as bytes, entries and text. */
const READ_BYTES = 64 * 1024;
/** Of file systems without hard links, or of another file system. */
const CANNOT_LINK: ReadonlySet<string | undefined> = new Set([
  "EXDEV",
  "EPERM",
  "ENOTSUP",
  "EOPNOTSUPP",
  "EMLINK",
]);

export class DirectoryStore implements LogStore, PendingUploads {
  readonly #options: DirectoryStoreOptions;
  readonly #kept: string;
  /** Has an empty file for each pending journal, with the same name. */
  readonly #pending: string;
  readonly #retention: Retention;

  constructor(options: DirectoryStoreOptions) {
    this.#options = options;
    this.#kept = join(options.folder.path, "kept");
    this.#pending = join(options.folder.path, "pending");
    for (const path of [this.#kept, this.#pending]) makePrivateFolder(path);
    this.#retention = new Retention(this.#kept, options.limits, options.logger);
  }

  /** Finds the files of earlier starts in the background, and removes old files from now on. */
  start(): void {
    this.#retention.start();
  }

  stop(): void {
    this.#retention.stop();
  }

  /** By a hard link where the file system has them, so that a log is written once. */
  async put(key: LogKey, journal: string, signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    const { folder, onPending } = this.#options;
    const temporary = folder.unfinished();
    const path = join(this.#kept, nameOf(key));
    try {
      await linkOrCopy(journal, temporary);
      const bytes = await flush(temporary);
      await makeFolderOf(path);
      // Before the journal, which else would not be uploaded after a crash.
      if (onPending) await this.#mark(key);
      await rename(temporary, path);
      this.#retention.added(nameOf(key), bytes);
    } finally {
      await rm(temporary, { force: true });
    }
    onPending?.({ key, path });
  }

  async read(key: LogKey, signal: AbortSignal): Promise<AsyncIterable<Uint8Array> | undefined> {
    signal.throwIfAborted();
    let file: FileHandle;
    try {
      file = await open(join(this.#kept, nameOf(key)), "r");
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
      throw new LogStoreUnavailable(`cannot open a log: ${(error as Error).message}`, { cause: error });
    }
    return chunksOf(file, signal);
  }

  async *pending(): AsyncGenerator<PendingUpload> {
    for await (const folder of await opendir(this.#pending)) {
      for await (const { name } of await opendir(join(this.#pending, folder.name))) {
        const key = keyOf(folder.name, name);
        if (key) yield { key, path: join(this.#kept, nameOf(key)) };
      }
    }
  }

  async uploaded(key: LogKey): Promise<void> {
    await rm(join(this.#pending, nameOf(key)), { force: true });
  }

  async #mark(key: LogKey): Promise<void> {
    const path = join(this.#pending, nameOf(key));
    await makeFolderOf(path);
    await writeFile(path, "", { mode: 0o600 });
  }
}

/** A tenant, and a job's id, may be `.` or `..`. The last part has at most 255 bytes: a job's id has at most 200. */
function nameOf(key: LogKey): string {
  return join(`tenant-${key.tenant}`, `${key.jobId}.${key.attempt}.jsonl`);
}

function keyOf(folder: string, name: string): LogKey | undefined {
  const [, jobId, attempt] = /^(.+)\.(\d+)\.jsonl$/.exec(name) ?? [];
  const tenant = /^tenant-(.+)$/.exec(folder)?.[1];
  if (tenant === undefined || jobId === undefined) return undefined;
  return { tenant, jobId, attempt: Number(attempt) };
}

async function makeFolderOf(path: string): Promise<void> {
  await mkdir(dirname(path), { recursive: true, mode: 0o700 });
}

async function linkOrCopy(from: string, to: string): Promise<void> {
  try {
    await link(from, to);
  } catch (error) {
    if (!CANNOT_LINK.has((error as NodeJS.ErrnoException).code)) throw error;
    await copyFile(from, to);
  }
}

/** Only the owner may read the file; a name never stands for a part of a log. Returns its size in bytes. */
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
    for (;;) {
      signal.throwIfAborted();
      const { buffer, bytesRead } = await file.read(Buffer.allocUnsafe(READ_BYTES), 0, READ_BYTES);
      if (bytesRead === 0) return;
      yield buffer.subarray(0, bytesRead);
    }
  } catch (error) {
    signal.throwIfAborted();
    throw new LogStoreUnavailable(`cannot read a log: ${(error as Error).message}`, { cause: error });
  } finally {
    await file.close();
  }
}
