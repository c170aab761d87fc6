/** The log of one run: its lines arrive redacted; the tail is kept for the result, the whole is described. */
import type { LogSummary } from "../shared/job.ts";

/** Bounds of what a result carries. */
export interface LogLimits {
  readonly lines: number;
  readonly bytes: number;
}

/** A single line longer than this is cut: a build that prints megabytes without a newline must not fill memory. */
const LONGEST_LINE_BYTES = 16 * 1024;

export class RunLog {
  readonly #limits: LogLimits;
  readonly #hash = new Bun.CryptoHasher("sha256");
  readonly #tail: string[] = [];
  #tailBytes = 0;
  #bytes = 0;
  #lines = 0;
  #isTruncated = false;

  constructor(limits: LogLimits) {
    this.#limits = limits;
  }

  /** Returns the line as it was kept. */
  add(raw: string): string {
    const line = this.#bounded(raw);
    this.#hash.update(`${line}\n`);
    this.#lines += 1;
    const sizeBytes = Buffer.byteLength(line) + 1;
    this.#bytes += sizeBytes;
    this.#tail.push(line);
    this.#tailBytes += sizeBytes;
    while (this.#tail.length > this.#limits.lines || this.#tailBytes > this.#limits.bytes) this.#dropOldest();
    return line;
  }

  tail(): readonly string[] {
    return [...this.#tail];
  }

  summary(): LogSummary {
    return {
      bytes: this.#bytes,
      lines: this.#lines,
      sha256: this.#hash.copy().digest("hex"),
      truncated: this.#isTruncated,
    };
  }

  #bounded(line: string): string {
    if (Buffer.byteLength(line) <= LONGEST_LINE_BYTES) return line;
    this.#isTruncated = true;
    return `${Buffer.from(line).subarray(0, LONGEST_LINE_BYTES).toString()} [line cut]`;
  }

  #dropOldest(): void {
    const oldest = this.#tail.shift();
    if (oldest !== undefined) this.#tailBytes -= Buffer.byteLength(oldest) + 1;
  }
}
