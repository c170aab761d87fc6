import type { BuildProgress, ProgressListener } from "./progress.ts";

/** BuildKit's own progress lines; the output of RUN steps has a time before it. */
const PUSH_BEGINS = /^#\d+ pushing (layers|manifest)\b/;
const STEP_BEGINS = /^#\d+ \[(?!internal\]|auth\])/;
const MOST_WORDS = 200;

/** For clients that print nothing else: lines for people, passed on as they are, without steps. */
export class PlainProgress implements BuildProgress {
  readonly argument = "--progress=plain";
  readonly #listener: ProgressListener;
  readonly #words: string[] = [];
  lastStepAtMs = Number.NEGATIVE_INFINITY;

  constructor(listener: ProgressListener) {
    this.#listener = listener;
  }

  line(line: string): void {
    if (PUSH_BEGINS.test(line)) this.#listener.onPushing();
    if (STEP_BEGINS.test(line)) this.lastStepAtMs = performance.now();
    this.#words.push(line);
    if (this.#words.length > MOST_WORDS) this.#words.shift();
    this.#listener.log(line);
  }

  end(): void {
    // Nothing is kept back.
  }

  words(): readonly string[] {
    return this.#words;
  }
}
