/**
 * The log of one run. Keeps redacted lines up to a limit, and beyond the limit only the last ones. Each kept line is
 * added to the journal; the summary describes all of them, and the result carries the tail.
 */
import type { LogSummary } from "../../shared/job.ts";
import { saysOutputIsMissing } from "../buildkit/progress/missing-output.ts";

/** Limits of the log tail in a result. */
export interface LogTailLimits {
  readonly lines: number;
  readonly bytes: number;
}

export interface LogLimits {
  /** Limit of the kept log, without its last lines. */
  readonly keptBytes: number;
  readonly tail: LogTailLimits;
}

/** Where the kept lines are stored: in a journal. */
export interface LogStorage {
  readonly sizeBytes: number;
  append(entry: { readonly line: string }): void;
  /** Why only the last lines should still be added; undefined when all should. */
  refusal(): string | undefined;
}

/** An entry is larger than its line: the disk must not be filled by empty lines. */
const STORED_PER_KEPT = 8;
const MIN_STORED_BYTES = 1024 * 1024;

/** Long lines of programs arrive in parts; this limits other lines, such as error messages. */
const MAX_LINE_BYTES = 64 * 1024;

interface Beyond {
  readonly last: LogTail;
  bytes: number;
  lines: number;
}

export class RunLog {
  readonly #limits: LogLimits;
  readonly #storage: LogStorage;
  readonly #hash = new Bun.CryptoHasher("sha256");
  readonly #tail: LogTail;
  /** The lines beyond the limit; undefined until it is reached. */
  #beyond: Beyond | undefined;
  #bytes = 0;
  #lines = 0;
  #isTruncated = false;

  constructor(limits: LogLimits, storage: LogStorage) {
    this.#limits = limits;
    this.#storage = storage;
    this.#tail = new LogTail(limits.tail);
  }

  add(raw: string): void {
    const line = this.#bounded(raw);
    if (saysOutputIsMissing(line)) this.#isTruncated = true;
    const sizeBytes = sizeOf(line);
    const refusal = this.#beyond ? undefined : this.#refusal(sizeBytes);
    if (refusal !== undefined) this.#beginCut(refusal);
    if (this.#beyond) this.#count(line, sizeBytes, this.#beyond);
    else this.#keep(line, sizeBytes);
  }

  /** The log is complete: adds the last lines beyond the limit and a note on how much was left out. */
  end(): void {
    const beyond = this.#beyond;
    if (!beyond) return;
    this.#beyond = undefined;
    const { lines: last, bytes: lastBytes } = beyond.last;
    const leftOut = { bytes: beyond.bytes - lastBytes, lines: beyond.lines - last.length };
    if (leftOut.lines > 0) {
      this.#isTruncated = true;
      this.#say(`[${leftOut.bytes} bytes in ${leftOut.lines} lines are left out here]`);
    }
    for (const line of last) this.#keep(line, sizeOf(line));
  }

  tail(): readonly string[] {
    return this.#tail.lines;
  }

  summary(): LogSummary {
    return {
      bytes: this.#bytes,
      lines: this.#lines,
      sha256: this.#hash.copy().digest("hex"),
      truncated: this.#isTruncated,
    };
  }

  #refusal(sizeBytes: number): string | undefined {
    const { keptBytes } = this.#limits;
    if (this.#bytes + sizeBytes > keptBytes) return `the log is longer than ${keptBytes} bytes`;
    const storedBytes = Math.max(MIN_STORED_BYTES, keptBytes * STORED_PER_KEPT);
    if (this.#storage.sizeBytes > storedBytes)
      return `the log takes more than ${storedBytes} bytes with the times of its lines`;
    return this.#storage.refusal();
  }

  #beginCut(reason: string): void {
    this.#say(`[${reason}: of the rest, only the last lines are kept]`);
    this.#beyond = { last: new LogTail(this.#limits.tail), bytes: 0, lines: 0 };
  }

  #count(line: string, sizeBytes: number, beyond: Beyond): void {
    beyond.last.add(line, sizeBytes);
    beyond.bytes += sizeBytes;
    beyond.lines += 1;
  }

  #say(line: string): void {
    this.#keep(line, sizeOf(line));
  }

  #keep(line: string, sizeBytes: number): void {
    this.#hash.update(`${line}\n`);
    this.#lines += 1;
    this.#bytes += sizeBytes;
    this.#tail.add(line, sizeBytes);
    this.#storage.append({ line });
  }

  #bounded(line: string): string {
    // A UTF-16 code unit takes at most three bytes in UTF-8.
    if (line.length * 3 <= MAX_LINE_BYTES || Buffer.byteLength(line) <= MAX_LINE_BYTES) return line;
    this.#isTruncated = true;
    return `${Buffer.from(line).subarray(0, MAX_LINE_BYTES).toString()} [line cut]`;
  }
}

/** The last lines of a log, within limits. */
class LogTail {
  #lines: string[] = [];
  /** Index of the first line that counts. Lines before it are removed in batches: removing each alone would copy the array. */
  #first = 0;
  #bytes = 0;

  constructor(readonly limits: LogTailLimits) {}

  get bytes(): number {
    return this.#bytes;
  }

  get lines(): readonly string[] {
    return this.#lines.slice(this.#first);
  }

  add(line: string, sizeBytes: number): void {
    this.#lines.push(line);
    this.#bytes += sizeBytes;
    while (this.#lines.length - this.#first > this.limits.lines || this.#bytes > this.limits.bytes) {
      this.#bytes -= sizeOf(this.#lines[this.#first] ?? "");
      this.#lines[this.#first] = "";
      this.#first += 1;
    }
    if (this.#first > this.#lines.length / 2 + 100) {
      this.#lines = this.#lines.slice(this.#first);
      this.#first = 0;
    }
  }
}

/** In bytes, including the line break. */
function sizeOf(line: string): number {
  return Buffer.byteLength(line) + 1;
}
