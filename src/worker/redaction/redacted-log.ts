/**
 * The one way of a run's words to its log. BuildKit's steps speak at the same time, so each is a stream of its own,
 * known by how its lines begin; a line without such a beginning goes on with what was said last.
 */
import type { RedactedLines } from "./redacted-lines.ts";
import type { Redactor } from "./redactor.ts";

/** `#12 ` and `#12 3.456 `. */
const STEP_PREFIX = /^(#\d+) (?:\d+\.\d+ )?/;

export class RedactedLog {
  readonly #redactor: Redactor;
  readonly #onLine: (line: string) => void;
  /** Only those that keep something back. */
  readonly #unclear = new Map<string, RedactedLines>();
  #lastStep = "";

  constructor(redactor: Redactor, onLine: (line: string) => void) {
    this.#redactor = redactor;
    this.#onLine = onLine;
  }

  /** Blacktree's own words may be several lines. */
  add(text: string): void {
    if (text.includes("\n")) for (const line of text.split("\n")) this.#addLine(line);
    else this.#addLine(text);
  }

  /** Nothing more is said: tells what was kept back. */
  end(): void {
    for (const lines of this.#unclear.values()) lines.end();
    this.#unclear.clear();
  }

  #addLine(line: string): void {
    const [prefix = "", step = this.#lastStep] = STEP_PREFIX.exec(line) ?? [];
    this.#lastStep = step;
    const lines = this.#unclear.get(step) ?? this.#redactor.lines(this.#onLine);
    lines.add(line.slice(prefix.length), prefix);
    if (lines.isClear) this.#unclear.delete(step);
    else this.#unclear.set(step, lines);
  }
}
