/** Shows a job that is followed: as plain lines, or on a terminal with the running steps below them. */
import type { JournalStep } from "../shared/log-journal.ts";
import { withVisibleCharacters } from "../shared/visible-text.ts";
import type { FollowSink } from "./follow-job.ts";
import { LiveRegion, type Terminal } from "./terminal/live-region.ts";

export interface JobProgress extends FollowSink {
  note(text: string): void;
  /** Nothing follows. */
  close(): void;
}

/** The log has the steps as lines, too. */
export function plainProgress(print: (text: string) => void): JobProgress {
  return {
    note: print,
    line: print,
    state: (name) => print(`--- ${name}`),
    step: () => undefined,
    close: () => undefined,
  };
}

const REDRAW_INTERVAL_MS = 1000;
const MAX_RUNNING_SHOWN = 8;
/** In the log, of a step that has its own line here. */
const STEP_END = /^#(\d+) (?:DONE|CACHED)\b/;

const [DIM, GREEN, RED, RESET] = ["\u001b[2m", "\u001b[32m", "\u001b[31m", "\u001b[0m"];

interface Timed {
  readonly name: string;
  /** By this machine's clock. */
  readonly sinceMs: number;
}

export class LiveProgress implements JobProgress {
  readonly #region: LiveRegion;
  readonly #running = new Map<number, Timed>();
  readonly #ended = new Set<number>();
  #state: Timed | undefined;
  readonly #timer: NodeJS.Timeout;

  constructor(
    terminal: Terminal,
    private readonly hasColors: boolean,
    private readonly now: () => number = () => performance.now(),
  ) {
    this.#region = new LiveRegion(terminal, (line) => this.#coloured(DIM, line));
    this.#timer = setInterval(() => this.#draw(), REDRAW_INTERVAL_MS);
  }

  note(text: string): void {
    this.#draw(text);
  }

  line(text: string): void {
    const number = Number(STEP_END.exec(text)?.[1]);
    if (!this.#ended.has(number)) this.#draw(text);
  }

  state(name: string): void {
    this.#state = { name, sinceMs: this.now() };
    // Steps of an earlier attempt have no end, and those of the next one have the same numbers.
    if (name === "CLONING") for (const steps of [this.#running, this.#ended]) steps.clear();
    this.#draw(`--- ${name}`);
  }

  step({ number, name, ended_at, duration_ms = 0, cached = false, error = "" }: JournalStep): void {
    if (ended_at === undefined) {
      this.#running.set(number, { name, sinceMs: this.now() });
      this.#draw();
      return;
    }
    this.#running.delete(number);
    this.#ended.add(number);
    const mark = error === "" ? this.#coloured(GREEN, "✓") : this.#coloured(RED, "✗");
    const duration = cached ? "cached" : `${(duration_ms / 1000).toFixed(1)} s`;
    this.#draw(`#${number} ${withVisibleCharacters(name)}  ${duration}`, `${mark} `);
  }

  close(): void {
    clearInterval(this.#timer);
    this.#state = undefined;
    this.#running.clear();
    this.#region.draw([]);
  }

  /** @param text stays above the region; a repository chooses parts of it */
  #draw(text?: string, prefix = ""): void {
    this.#region.draw(this.#lines(), text === undefined ? [] : [`${prefix}${withVisibleCharacters(text)}`]);
  }

  #lines(): readonly string[] {
    const running = [...this.#running].sort(([one], [other]) => one - other);
    const steps = running
      .slice(0, MAX_RUNNING_SHOWN)
      .map(([number, step]) => `  #${number} ${this.#described(step)}`);
    const more = running.length - steps.length;
    const rest = more > 0 ? [`  and ${more} more steps`] : [];
    return [...steps, ...rest, ...(this.#state ? [this.#described(this.#state)] : [])];
  }

  /** The duration comes first, so that a narrow terminal shows it. */
  #described({ name, sinceMs }: Timed): string {
    const seconds = Math.floor((this.now() - sinceMs) / 1000);
    return `${seconds} s  ${withVisibleCharacters(name).replaceAll(/\s+/g, " ")}`;
  }

  #coloured(colour: string | undefined, text: string): string {
    return this.hasColors ? `${colour}${text}${RESET}` : text;
  }
}
