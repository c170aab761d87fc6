/** States, build steps and log lines of one run, in order. A watcher gets past events first, then new ones. */
import type { RunState } from "../../shared/rpc/generated/blacktree/v1/run.ts";
import type { BuildStep, JobEvent } from "../../shared/rpc/generated/blacktree/v1/worker.ts";

interface Body {
  readonly state?: RunState;
  readonly logLine?: string;
  readonly buildStep?: BuildStep;
}

/**
 * Limits of the lines and steps kept for watchers that are late or slow; gaps show in the sequence numbers. The tail in
 * the result has a separate limit. States are few, and all are kept.
 */
const KEPT_LINES = 10_000;
const KEPT_CHARS = 8 * 1024 * 1024;

/** Lines sent at a time: a slow watcher then references few events that the stream has dropped. */
const BATCH_LINES = 256;

function sizeOf({ logLine = "", buildStep }: Pick<Body, "logLine" | "buildStep">): number {
  return logLine.length + (buildStep ? buildStep.name.length + buildStep.error.length : 0);
}

export interface WatchOptions {
  /** Only events with a sequence number above this one. */
  readonly afterSeq: number;
  /** Omit build steps and log lines. */
  readonly statesOnly: boolean;
}

export class EventStream {
  readonly #states: JobEvent[] = [];
  #lines: JobEvent[] = [];
  #lineChars = 0;
  #lastSeq = 0;
  #isClosed = false;
  readonly #waitingForLines = new Set<() => void>();
  readonly #waitingForStates = new Set<() => void>();

  add(body: Body): void {
    this.#lastSeq += 1;
    const event = { seq: this.#lastSeq, at: new Date().toISOString(), ...body };
    if (event.state === undefined) this.#addLine(event);
    else this.#addState(event);
    wake(this.#waitingForLines);
  }

  close(): void {
    this.#isClosed = true;
    wake(this.#waitingForLines);
    wake(this.#waitingForStates);
  }

  forgetLines(): void {
    this.#lines = [];
    this.#lineChars = 0;
  }

  /** Ends with the run, or when `signal` aborts. */
  async *watch({ afterSeq, statesOnly }: WatchOptions, signal: AbortSignal): AsyncGenerator<JobEvent> {
    let lastSent = afterSeq;
    while (!signal.aborted) {
      const events = statesOnly ? this.#statesAfter(lastSent) : this.#eventsAfter(lastSent);
      for (const event of events) {
        yield event;
        lastSent = event.seq;
      }
      if (events.length > 0) continue;
      if (this.#isClosed) return;
      await nextOf(statesOnly ? this.#waitingForStates : this.#waitingForLines, signal);
    }
  }

  #addState(event: JobEvent): void {
    this.#states.push(event);
    wake(this.#waitingForStates);
  }

  #addLine(event: JobEvent): void {
    this.#lines.push(event);
    this.#lineChars += sizeOf(event);
    // Dropped in large batches: removing each line alone would copy the array every time.
    if (this.#lines.length > 2 * KEPT_LINES || this.#lineChars > KEPT_CHARS) this.#cutToHalf();
  }

  #cutToHalf(): void {
    this.#lines = this.#lines.slice(Math.ceil(this.#lines.length / 2));
    this.#lineChars = this.#lines.reduce((chars, event) => chars + sizeOf(event), 0);
  }

  #statesAfter(seq: number): readonly JobEvent[] {
    return this.#states.filter((event) => event.seq > seq);
  }

  #eventsAfter(seq: number): readonly JobEvent[] {
    const first = firstAfter(this.#lines, seq);
    const lines = this.#lines.slice(first, first + BATCH_LINES);
    const lastSeq = lines.length === BATCH_LINES ? lines.at(-1)?.seq : undefined;
    const states = this.#statesAfter(seq).filter(
      (event) => event.seq < (lastSeq ?? Number.POSITIVE_INFINITY),
    );
    if (states.length === 0) return lines;
    return [...states, ...lines].sort((one, other) => one.seq - other.seq);
  }
}

/** Binary search: sequence numbers increase. */
function firstAfter(events: readonly JobEvent[], seq: number): number {
  let low = 0;
  let high = events.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((events[middle]?.seq ?? 0) <= seq) low = middle + 1;
    else high = middle;
  }
  return low;
}

function nextOf(waiting: Set<() => void>, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const done = () => {
      waiting.delete(done);
      signal.removeEventListener("abort", done);
      resolve();
    };
    waiting.add(done);
    signal.addEventListener("abort", done, { once: true });
  });
}

function wake(waiting: Set<() => void>): void {
  if (waiting.size > 0) for (const done of [...waiting]) done();
}
