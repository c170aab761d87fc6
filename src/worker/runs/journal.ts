/**
 * The journal of one run. An entry is in memory until the file has it, so a failed write loses none: the journal then
 * keeps what it has, and asks for fewer lines. Every reader reads from the file, at its own pace.
 */
import type { JobState } from "../../shared/job.ts";
import { encodeEntry, type JournalEntry, type JournalStep } from "../../shared/log-journal.ts";
import type { JournalFile } from "./journal-file.ts";
import { JournalIndex } from "./journal-index.ts";
import { UnwrittenEntries } from "./unwritten-entries.ts";
import { Waiters } from "./waiters.ts";

export type EntryBody =
  | { readonly state: JobState }
  | { readonly step: JournalStep }
  | { readonly line: string };

export type StateEntry = Extract<JournalEntry, { readonly state: JobState }>;

/** The journal is removed, and a reader has not read all of it. */
export class JournalRemoved extends Error {
  override readonly name = "JournalRemoved";
}

/** A shorter journal has no file. */
const IN_MEMORY_BYTES = 64 * 1024;

/** A hostile frontend of BuildKit can report any number of steps. */
const MAX_STEP_BYTES = 4 * 1024 * 1024;

const NEWLINE = 10;

export interface JournalParts {
  readonly file: JournalFile;
  /** Why no journal should get more than the last lines now. */
  readonly refusal: () => string | undefined;
  readonly onWritten: () => void;
  readonly onWriteError: (error: unknown) => void;
}

export class Journal {
  readonly #parts: JournalParts;
  readonly #unwritten = new UnwrittenEntries();
  readonly #index = new JournalIndex();
  /** Few: a run only moves forward. */
  readonly #states: StateEntry[] = [];
  readonly #forEntries = new Waiters();
  readonly #forStates = new Waiters();
  #lastSeq = 0;
  #sizeBytes = 0;
  #stepBytes = 0;
  #isWriting = false;
  #isClosed = false;
  #writeError: unknown;
  #readers = 0;
  #removed: JournalRemoved | undefined;
  /** Called when the last reader leaves. */
  #onUnread: (() => void) | undefined;

  constructor(parts: JournalParts) {
    this.#parts = parts;
  }

  get sizeBytes(): number {
    return this.#sizeBytes;
  }

  /** It has readers or a file. */
  get isUsed(): boolean {
    return this.#readers > 0 || this.#isWriting || this.#parts.file.isCreated;
  }

  get fileBytes(): number {
    return this.#parts.file.sizeBytes;
  }

  get memoryBytes(): number {
    return this.#unwritten.bytes;
  }

  /** Why only the last lines should still be added; undefined when all should. */
  refusal(): string | undefined {
    if (this.#writeError !== undefined)
      return `the worker cannot write the log to its disk (${codeOf(this.#writeError)})`;
    return this.#parts.refusal();
  }

  /** Output that arrives after the end of the run, and steps beyond the limit, are left out. */
  append(body: EntryBody): void {
    if (this.#isClosed || this.#removed) return;
    if ("step" in body && this.#stepBytes > MAX_STEP_BYTES) return;
    this.#lastSeq += 1;
    const entry: JournalEntry = { seq: this.#lastSeq, at: new Date().toISOString(), ...body };
    this.#index.add(entry.seq, this.#sizeBytes);
    const bytes = this.#unwritten.append(encodeEntry(entry), this.#sizeBytes);
    this.#sizeBytes += bytes;
    if ("step" in entry) this.#stepBytes += bytes;
    if ("state" in entry) {
      this.#states.push(entry);
      this.#forStates.wake();
    }
    this.#forEntries.wake();
    this.#write();
  }

  /** The last entry is added. */
  close(): void {
    this.#isClosed = true;
    this.#forEntries.wake();
    this.#forStates.wake();
    this.#write();
  }

  /** Ends with the run, or when `signal` aborts. */
  async *states(afterSeq: number, signal: AbortSignal): AsyncGenerator<StateEntry> {
    let lastSent = afterSeq;
    while (!signal.aborted) {
      const next = this.#states.find(({ seq }) => seq > lastSent);
      if (next) {
        yield next;
        lastSent = next.seq;
      } else if (this.#isClosed || this.#removed) return;
      else await this.#forStates.next(signal);
    }
  }

  /**
   * Whole entries with higher sequence numbers, encoded; ends with the run (with `pastOnly`, after the present entries), or
   * when `signal` aborts.
   * @throws JournalRemoved
   */
  async *entries(afterSeq: number, signal: AbortSignal, { pastOnly = false } = {}): AsyncGenerator<Buffer> {
    const presentBytes = this.#sizeBytes;
    const from = this.#index.before(afterSeq + 1);
    let { offset } = from;
    let surplus = afterSeq + 1 - from.seq;
    this.#readers += 1;
    try {
      while (!signal.aborted) {
        const isAtEnd = offset === this.#sizeBytes;
        if ((isAtEnd && this.#isClosed) || (pastOnly && offset >= presentBytes)) return;
        if (this.#removed) throw this.#removed;
        if (isAtEnd) {
          await this.#forEntries.next(signal);
          continue;
        }
        const entries = await this.#read(offset);
        offset += entries.length;
        const wanted = withoutFirst(entries, surplus);
        surplus = wanted.surplus;
        if (wanted.entries.length > 0) yield wanted.entries;
      }
    } finally {
      this.#readers -= 1;
      if (this.#readers === 0) this.#onUnread?.();
    }
  }

  /** Those who read now may continue for this long; the file's name goes at once. Resolves when its disk space is free. */
  async retire(reason: JournalRemoved, forReadersMs: number): Promise<void> {
    try {
      await this.#parts.file.unlink();
      if (this.#readers > 0) await this.#unread(forReadersMs);
    } finally {
      await this.remove(reason);
    }
  }

  /** Resolves when its disk space is free. */
  async remove(reason: JournalRemoved): Promise<void> {
    this.#removed ??= reason;
    this.#onUnread?.();
    this.#unwritten.clear();
    this.#forEntries.wake();
    this.#forStates.wake();
    await this.#parts.file.remove();
  }

  async #unread(timeoutMs: number): Promise<void> {
    const unread = Promise.withResolvers<void>();
    this.#onUnread = unread.resolve;
    const timer = setTimeout(unread.resolve, timeoutMs);
    await unread.promise;
    clearTimeout(timer);
  }

  async #read(offset: number): Promise<Buffer> {
    const { file } = this.#parts;
    if (offset >= file.sizeBytes) return this.#unwritten.at(offset);
    try {
      return await file.read(offset);
    } catch (error) {
      throw this.#removed ?? error;
    }
  }

  #write(): void {
    const { file } = this.#parts;
    const isWanted = file.sizeBytes > 0 || this.#unwritten.bytes > IN_MEMORY_BYTES;
    if (isWanted && !this.#isWriting && this.#writeError === undefined) void this.#writeAll();
  }

  async #writeAll(): Promise<void> {
    const { file, onWritten, onWriteError } = this.#parts;
    this.#isWriting = true;
    try {
      for (;;) {
        const entries = this.#unwritten.first({ isLastWanted: this.#isClosed });
        if (!entries || this.#removed) break;
        await file.append(entries);
        this.#unwritten.dropFirst();
        onWritten();
      }
    } catch (error) {
      this.#writeError = error;
      if (!this.#removed) onWriteError(error);
    } finally {
      this.#isWriting = false;
    }
  }
}

/** Sequence numbers grow by one, so counting the entries suffices. `surplus` is what is still to be left out. */
function withoutFirst(entries: Buffer, count: number): { entries: Buffer; surplus: number } {
  let surplus = count;
  let from = 0;
  for (; surplus > 0 && from < entries.length; surplus -= 1) from = entries.indexOf(NEWLINE, from) + 1;
  return { entries: entries.subarray(from), surplus };
}

function codeOf(error: unknown): string {
  return (error as NodeJS.ErrnoException).code ?? "unknown error";
}
