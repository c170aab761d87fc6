/**
 * Writes log lines to a file descriptor without ever waiting for its reader and without ever throwing: a log that
 * cannot be written must not change what the program does. Lines that the reader does not take wait in a bounded
 * buffer; lines that are lost are counted, and reported as soon as a line can be written again.
 *
 * Lines are written at once, so none is lost when the process exits or crashes. Only the kernel knows whether a write
 * would wait: the descriptor may be shared with other processes, so it is not made non-blocking, but polled.
 */
import { writeSync } from "node:fs";
import { waitUntilWritable } from "./poll.ts";

export interface LogOutputOptions {
  readonly fd: number;
  /** The line that reports how many lines were lost since the last one, and why. */
  describeLoss(count: number, reason: string): string;
  readonly bufferBytes?: number;
}

interface PendingLine {
  readonly bytes: Buffer;
  /** How many lines are lost if this one is: a report of a loss stands for those that it counts. */
  readonly worth: number;
}

/** Some thousand lines. */
const BUFFER_BYTES = 2 * 1024 * 1024;
const RETRY_INTERVAL_MS = 50;
/** A pipe that can be written to takes at least this much (PIPE_BUF) without waiting. */
const WRITE_BYTES = 4096;
const NEWLINE = Buffer.from("\n");

export class LogOutput {
  readonly #options: LogOutputOptions;
  readonly #pending: PendingLine[] = [];
  #pendingBytes = 0;
  /** How much of the first pending line is written. */
  #written = 0;
  #lost = 0;
  #reason = "";
  /** A line was cut off by a failed write. */
  #isCut = false;
  #retry: NodeJS.Timeout | undefined;

  constructor(options: LogOutputOptions) {
    this.#options = options;
  }

  /** `line` ends with a newline. */
  write(line: string): void {
    const bytes = Buffer.from(line);
    if (this.#pendingBytes + bytes.length > (this.#options.bufferBytes ?? BUFFER_BYTES)) {
      this.#lose(1, "their reader did not take them");
      return;
    }
    this.#reportLoss();
    this.#add({ bytes, worth: 1 });
    if (this.#retry === undefined) this.#drain();
  }

  /** For the end of the process: waits at most this long, without running anything else. */
  flush(timeoutMs: number): void {
    const untilMs = performance.now() + timeoutMs;
    clearTimeout(this.#retry);
    do this.#drain();
    while (this.#pending.length > 0 && waitUntilWritable(this.#options.fd, untilMs - performance.now()));
    clearTimeout(this.#retry);
  }

  #drain(): void {
    this.#retry = undefined;
    while (this.#pending.length > 0) {
      const end = this.#writeSome();
      if (end === "failed") return;
      if (end === "blocked") {
        this.#retry = setTimeout(() => this.#drain(), RETRY_INTERVAL_MS);
        // Else a reader that stops would keep the process from ending.
        this.#retry.unref();
        return;
      }
      if (this.#pending.length === 0) this.#reportLoss();
    }
  }

  #writeSome(): "written" | "blocked" | "failed" {
    const { fd } = this.#options;
    const [first] = this.#pending;
    if (!first || !waitUntilWritable(fd, 0)) return "blocked";
    const { bytes } = first;
    try {
      if (this.#isCut) {
        writeSync(fd, NEWLINE);
        this.#isCut = false;
        return "written";
      }
      this.#written += writeSync(
        fd,
        bytes,
        this.#written,
        Math.min(WRITE_BYTES, bytes.length - this.#written),
      );
      if (this.#written === bytes.length) this.#remove();
      return "written";
    } catch (error) {
      const { code = String(error) } = error as NodeJS.ErrnoException;
      if (code === "EAGAIN") return "blocked";
      this.#isCut ||= this.#written > 0;
      this.#losePending(`writing them failed: ${code}`);
      return "failed";
    }
  }

  /** A fault that one line meets, the others would meet too. */
  #losePending(reason: string): void {
    const worth = this.#pending.reduce((sum, line) => sum + line.worth, 0);
    this.#pending.length = 0;
    this.#pendingBytes = 0;
    this.#written = 0;
    this.#lose(worth, reason);
  }

  #reportLoss(): void {
    if (this.#lost === 0) return;
    const worth = this.#lost;
    this.#lost = 0;
    this.#add({ bytes: Buffer.from(this.#options.describeLoss(worth, this.#reason)), worth });
  }

  #lose(count: number, reason: string): void {
    this.#lost += count;
    this.#reason = reason;
  }

  #add(line: PendingLine): void {
    this.#pending.push(line);
    this.#pendingBytes += line.bytes.length;
  }

  #remove(): void {
    this.#pendingBytes -= this.#pending.shift()?.bytes.length ?? 0;
    this.#written = 0;
  }
}
