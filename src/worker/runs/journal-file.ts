/** The file of one journal, created with its first bytes. All bytes before `sizeBytes` are known to be written. */
import { constants } from "node:fs";
import { type FileHandle, mkdir, open, rm } from "node:fs/promises";
import { dirname } from "node:path";

const READ_BYTES = 64 * 1024;
const NEWLINE = 10;

export class JournalFile {
  readonly #pathOf: () => string;
  #handle: FileHandle | undefined;
  #sizeBytes = 0;
  #removal: Promise<void> | undefined;
  /** The handle is closed after these: its number may belong to another file from then on. */
  readonly #operations = new Set<Promise<unknown>>();

  constructor(pathOf: () => string) {
    this.#pathOf = pathOf;
  }

  get isCreated(): boolean {
    return this.#handle !== undefined;
  }

  get sizeBytes(): number {
    return this.#sizeBytes;
  }

  /** To be called again only after it has ended. @throws Error when not all bytes are written; none counts then. */
  append(entries: Uint8Array): Promise<void> {
    return this.#during(async () => {
      this.#handle ??= await create(this.#pathOf());
      for (let done = 0; done < entries.length; ) {
        const { bytesWritten } = await this.#handle.write(
          entries,
          done,
          entries.length - done,
          this.#sizeBytes + done,
        );
        done += bytesWritten;
      }
      this.#sizeBytes += entries.length;
    });
  }

  /** Whole entries, about 64 KiB or a single larger one. `offset` is the beginning of an entry that is written. */
  read(offset: number): Promise<Buffer> {
    return this.#during(async () => {
      for (let length = READ_BYTES; ; length *= 2) {
        const leftBytes = this.#sizeBytes - offset;
        const bytes = await this.#readFully(offset, Math.min(length, leftBytes));
        const end = bytes.lastIndexOf(NEWLINE) + 1;
        if (end > 0) return bytes.subarray(0, end);
        if (length >= leftBytes) throw new Error(`${this.#pathOf()} was changed by another program`);
      }
    });
  }

  /** The disk space is free once reads and writes that have begun have ended. No others may follow. */
  remove(): Promise<void> {
    this.#removal ??= this.#remove();
    return this.#removal;
  }

  /** Only the name goes; readers can continue. */
  async unlink(): Promise<void> {
    if (this.#handle || this.#operations.size > 0) await rm(this.#pathOf(), { force: true });
  }

  async #remove(): Promise<void> {
    await Promise.allSettled([...this.#operations]);
    // Before anything that can fail: Bun ends the process when it collects a handle that is not closed.
    await this.#handle?.close();
    await this.unlink();
  }

  async #readFully(offset: number, length: number): Promise<Buffer> {
    const bytes = Buffer.allocUnsafe(length);
    for (let done = 0; done < length; ) {
      const answer = await this.#handle?.read(bytes, done, length - done, offset + done);
      if (!answer || answer.bytesRead === 0) throw new Error(`${this.#pathOf()} was cut by another program`);
      done += answer.bytesRead;
    }
    return bytes;
  }

  async #during<Result>(operation: () => Promise<Result>): Promise<Result> {
    if (this.#removal) throw new Error(`${this.#pathOf()} is removed`);
    const running = operation();
    this.#operations.add(running);
    try {
      return await running;
    } finally {
      this.#operations.delete(running);
    }
  }
}

/** Does not create the folder's parent again after the worker has removed it. */
async function create(path: string): Promise<FileHandle> {
  await mkdir(dirname(path), { mode: 0o700 }).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== "EEXIST") throw error;
  });
  return open(path, constants.O_RDWR | constants.O_CREAT | constants.O_EXCL, 0o600);
}
