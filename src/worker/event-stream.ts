/** The states and log lines of one run, in order, for whoever watches: first what was, then what comes. */
import type { RunState } from "../shared/rpc/generated/blacktree/v1/run.ts";
import type { JobEvent } from "../shared/rpc/generated/blacktree/v1/worker.ts";

interface Body {
  readonly state?: RunState;
  readonly logLine?: string;
}

/** What is kept for a watcher that comes late; older events are gone from here. The result's tail has its own bound. */
const KEPT_EVENTS = 10_000;
const KEPT_BYTES = 16 * 1024 * 1024;

function sizeOf(body: { readonly logLine?: string }): number {
  return body.logLine?.length ?? 0;
}

export interface WatchOptions {
  /** Only events with a sequence number above this one. */
  readonly afterSeq: number;
  /** Without the log's lines. */
  readonly statesOnly: boolean;
}

export class EventStream {
  #events: JobEvent[] = [];
  #bytes = 0;
  #lastSeq = 0;
  #isClosed = false;
  readonly #waiting = new Set<() => void>();

  add(body: Body): void {
    this.#lastSeq += 1;
    this.#events.push({ seq: this.#lastSeq, at: new Date().toISOString(), ...body });
    this.#bytes += sizeOf(body);
    // Cut in large steps: a shift for every line would copy the whole array each time.
    if (this.#events.length > 2 * KEPT_EVENTS || this.#bytes > KEPT_BYTES) this.#cutToHalf();
    this.#wake();
  }

  #cutToHalf(): void {
    this.#events = this.#events.slice(Math.ceil(this.#events.length / 2));
    this.#bytes = this.#events.reduce((bytes, event) => bytes + sizeOf(event), 0);
  }

  close(): void {
    this.#isClosed = true;
    this.#wake();
  }

  /** Ends with the run, or when `signal` aborts. */
  async *watch(options: WatchOptions, signal: AbortSignal): AsyncGenerator<JobEvent> {
    let lastSent = options.afterSeq;
    while (!signal.aborted) {
      for (const event of this.#since(lastSent)) {
        if (!options.statesOnly || event.state !== undefined) yield event;
        lastSent = event.seq;
      }
      if (this.#lastSeq > lastSent) continue;
      if (this.#isClosed) return;
      await this.#next(signal);
    }
  }

  #since(seq: number): readonly JobEvent[] {
    const firstKept = this.#lastSeq - this.#events.length;
    return this.#events.slice(Math.max(0, seq - firstKept));
  }

  #next(signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      const done = () => {
        this.#waiting.delete(done);
        signal.removeEventListener("abort", done);
        resolve();
      };
      this.#waiting.add(done);
      signal.addEventListener("abort", done, { once: true });
    });
  }

  #wake(): void {
    for (const done of [...this.#waiting]) done();
  }
}
