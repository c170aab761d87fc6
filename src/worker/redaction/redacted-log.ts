/**
 * Masks the secrets in a run's output. All of a run's log lines pass through it. Build steps run in parallel, so each
 * stream is searched separately.
 */
import type { OutputLine } from "../job/output-line.ts";
import type { RedactedLines } from "./redacted-lines.ts";
import type { Redactor } from "./redactor.ts";

export class RedactedLog {
  readonly #redactor: Redactor;
  readonly #onLine: (line: string) => void;
  /** Streams whose last characters may be the beginning of a secret. */
  readonly #pending = new Map<string, RedactedLines>();

  constructor(redactor: Redactor, onLine: (line: string) => void) {
    this.#redactor = redactor;
    this.#onLine = onLine;
  }

  add({ stream, prefix, text }: OutputLine): void {
    const lines = this.#pending.get(stream) ?? this.#redactor.lines(this.#onLine);
    if (text.includes("\n")) addEach(lines, prefix, text.split("\n"));
    else lines.add(text, prefix);
    if (lines.isClear) this.#pending.delete(stream);
    else this.#pending.set(stream, lines);
  }

  /** The run's output is complete: passes on the lines held back. */
  end(): void {
    for (const lines of this.#pending.values()) lines.end();
    this.#pending.clear();
  }
}

function addEach(lines: RedactedLines, prefix: string, texts: readonly string[]): void {
  for (const [index, text] of texts.entries()) lines.add(text, index === 0 ? prefix : "");
}
