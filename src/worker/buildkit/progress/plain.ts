import type { OutputLine } from "../../job/output-line.ts";
import type { BuildProgress, ProgressListener } from "./progress.ts";

/** Progress lines of BuildKit. Output of RUN steps has a time stamp after the step number, so it cannot match. */
const PUSH_BEGINS = /^#\d+ pushing (layers|manifest)\b/;
const STEP_BEGINS = /^#\d+ \[(?!internal\]|auth\])/;
/** `#12 ` and `#12 3.456 `. */
const STEP_PREFIX = /^(#\d+) (?:\d+\.\d+ )?/;
const MAX_TAIL_LINES = 200;

/** For clients without rawjson: passes the human-readable lines on unchanged and reports no steps. */
export class PlainProgress implements BuildProgress {
  readonly argument = "--progress=plain";
  readonly #listener: ProgressListener;
  readonly #tail: string[] = [];
  /** The stream of the last line with a step prefix. A line without one continues it. */
  #stream = "";
  readonly isExportFailed = false;
  lastStepAtMs = Number.NEGATIVE_INFINITY;

  constructor(listener: ProgressListener) {
    this.#listener = listener;
  }

  line(line: string): void {
    if (PUSH_BEGINS.test(line)) this.#listener.onPushing();
    if (STEP_BEGINS.test(line)) {
      this.lastStepAtMs = performance.now();
      this.#listener.onInstruction?.();
    }
    this.#tail.push(line);
    if (this.#tail.length > MAX_TAIL_LINES) this.#tail.shift();
    this.#listener.output(this.#outputLine(line));
  }

  end(): void {
    // Every line was passed on at once.
  }

  stderrTail(): readonly string[] {
    return this.#tail;
  }

  #outputLine(line: string): OutputLine {
    const [prefix = "", stream = this.#stream] = STEP_PREFIX.exec(line) ?? [];
    this.#stream = stream;
    return { stream, prefix, text: line.slice(prefix.length) };
  }
}
