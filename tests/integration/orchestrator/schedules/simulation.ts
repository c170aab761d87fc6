/**
 * Simulated time and processes. Everything that takes time (calls, timers, faults) is an event at a simulated time; the
 * events run one at a time, in the order of their times, and between two events all promises settle. So a schedule is
 * determined by its delays, and its timers cost no real time.
 *
 * Each process has its own timers: the global timer functions find the process in the asynchronous context.
 */
import { AsyncLocalStorage } from "node:async_hooks";

/** A running program. When it is killed, its timers and the calls that it waits for end without a trace. */
export class Process {
  isAlive = true;
  frozenUntilMs = 0;
  readonly #endListeners = new Set<() => void>();
  #planned: { steps: number; readonly act: () => void } | undefined;

  constructor(readonly name: string) {}

  kill(): void {
    this.isAlive = false;
    for (const listener of this.#endListeners) listener();
  }

  /** Returns a function that removes the listener. */
  onEnd(listener: () => void): () => void {
    this.#endListeners.add(listener);
    return () => this.#endListeners.delete(listener);
  }

  /** Acts before or after one of the next calls of this process, so that a fault hits each gap between two calls. */
  planFault(steps: number, act: () => void): void {
    this.#planned = { steps, act };
  }

  /** Called right before and right after each call is executed. */
  step(): void {
    if (!this.#planned || this.#planned.steps-- > 0) return;
    const { act } = this.#planned;
    this.#planned = undefined;
    act();
  }
}

export interface Event {
  atMs: number;
  order: number;
  readonly process: Process;
  readonly run: () => void;
  isCancelled: boolean;
}

/** What `setTimeout` and `setInterval` return. */
class Timer {
  constructor(public event: Event) {}

  ref(): this {
    return this;
  }

  unref(): this {
    return this;
  }
}

const real = {
  setTimeout: globalThis.setTimeout,
  clearTimeout: globalThis.clearTimeout,
  setInterval: globalThis.setInterval,
  clearInterval: globalThis.clearInterval,
  setImmediate: globalThis.setImmediate,
  Date: globalThis.Date,
  performanceNow: performance.now,
  abortTimeout: AbortSignal.timeout,
  random: Math.random,
};

const MAX_CALLS_OF_EVENT = 2000;
const MAX_EVENTS_AT_ONCE = 100_000;
const START_MS = Date.parse("2026-01-20T10:00:00Z");

export class Simulation {
  /** The latest first. */
  readonly #events: Event[] = [];
  readonly #context = new AsyncLocalStorage<Process>();
  #order = 0;
  #nowMs = 0;
  #callsOfEvent = 0;
  #eventsNow = 0;

  /** Since the start. */
  get nowMs(): number {
    return this.#nowMs;
  }

  /** The process whose code runs now; undefined in the code of the test. */
  get current(): Process | undefined {
    return this.#context.getStore();
  }

  run<T>(process: Process, action: () => T): T {
    return this.#context.run(process, action);
  }

  /** Runs the action in the process after the delay, or when the process is no longer frozen; never if it has ended. */
  after(delayMs: number, process: Process, run: () => void): Event {
    const event = {
      atMs: this.#nowMs + Math.max(0, delayMs),
      order: this.#order++,
      process,
      run,
      isCancelled: false,
    };
    this.#insert(event);
    return event;
  }

  /** As `after`, but without a delay and unless the process is frozen the action runs at once, within this call. */
  post(delayMs: number, process: Process, run: () => void): void {
    if (!process.isAlive) return;
    if (delayMs > 0 || process.frozenUntilMs > this.#nowMs) this.after(delayMs, process, run);
    else this.run(process, run);
  }

  freeze(process: Process, forMs: number): void {
    process.frozenUntilMs = Math.max(process.frozenUntilMs, this.#nowMs + forMs);
  }

  /** Counts a call. False: since the last event there were so many that the processes call each other for ever. */
  mayCall(): boolean {
    this.#callsOfEvent += 1;
    return this.#callsOfEvent < MAX_CALLS_OF_EVENT;
  }

  /** Runs events until `isOver` or `untilMs`. False: `isOver` has not become true. */
  async runUntil(isOver: () => boolean, untilMs: number): Promise<boolean> {
    await this.#settle();
    while (!isOver()) {
      const event = this.#events.pop();
      if (!event || event.atMs > untilMs) return false;
      if (event.isCancelled || !event.process.isAlive) continue;
      if (event.process.frozenUntilMs > event.atMs) {
        event.atMs = event.process.frozenUntilMs;
        event.order = this.#order++;
        this.#insert(event);
        continue;
      }
      this.#callsOfEvent = 0;
      this.#advance(event.atMs);
      this.run(event.process, event.run);
      await this.#settle();
    }
    return true;
  }

  #advance(atMs: number): void {
    if (atMs > this.#nowMs) this.#eventsNow = 0;
    this.#nowMs = Math.max(this.#nowMs, atMs);
    this.#eventsNow += 1;
    if (this.#eventsNow > MAX_EVENTS_AT_ONCE) throw new Error("simulated time does not advance any more");
  }

  /** All promises that can settle without an event have settled. */
  #settle(): Promise<void> {
    return new Promise((resolve) => real.setImmediate(resolve));
  }

  #insert(event: Event): void {
    let [low, high] = [0, this.#events.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      const other = this.#events[middle];
      const isLater = other && (other.atMs - event.atMs || other.order - event.order) > 0;
      if (isLater) low = middle + 1;
      else high = middle;
    }
    this.#events.splice(low, 0, event);
  }

  /** Replaces timers and clocks for the code of processes. Returns a function that restores the real ones. */
  install(): () => void {
    const setTimeout = (run: () => void, delayMs = 0) => {
      const process = this.current;
      return process ? new Timer(this.after(timerMs(delayMs), process, run)) : real.setTimeout(run, delayMs);
    };
    const setInterval = (run: () => void, delayMs: number) => {
      const process = this.current;
      if (!process) return real.setInterval(run, delayMs);
      const repeat = () => {
        timer.event = this.after(timerMs(delayMs), process, repeat);
        run();
      };
      const timer = new Timer(this.after(timerMs(delayMs), process, repeat));
      return timer;
    };
    const clear = (timer: unknown) => {
      if (timer instanceof Timer) timer.event.isCancelled = true;
      else real.clearTimeout(timer as NodeJS.Timeout);
    };
    const timeout = (delayMs: number) => {
      const controller = new AbortController();
      setTimeout(() => controller.abort(new DOMException("timed out", "TimeoutError")), delayMs);
      return controller.signal;
    };
    Object.assign(globalThis, {
      setTimeout,
      setInterval,
      clearTimeout: clear,
      clearInterval: clear,
      Date: this.#simulatedDate(),
    });
    performance.now = () => this.#nowMs;
    AbortSignal.timeout = timeout;
    // The jitter of delays: the order of events is decided by the delays of calls.
    Math.random = () => 0.5;
    return () => {
      const { performanceNow, abortTimeout, random, ...globals } = real;
      Object.assign(globalThis, globals);
      performance.now = performanceNow;
      AbortSignal.timeout = abortTimeout;
      Math.random = random;
    };
  }

  #simulatedDate(): DateConstructor {
    const now = () => START_MS + this.#nowMs;
    return new Proxy(real.Date, {
      construct: (target, args: [] | [number | string]) => new target(args[0] ?? now()),
      get: (target, name) => (name === "now" ? now : Reflect.get(target, name)),
    });
  }
}

/** As real timers do: otherwise one that waits again for what is left of its time may get no further. */
function timerMs(delayMs: number): number {
  return Math.max(1, Math.trunc(delayMs));
}
