/** Numbered steps on the terminal, and a list of what must be removed at the end, also after a failure. */

/** The user pressed Ctrl-C, or the process got another signal to stop. */
export class Interrupted extends Error {
  override readonly name = "Interrupted";
}

/** Its message is shown to the user unchanged. */
export class TrialFailed extends Error {
  override readonly name = "TrialFailed";
}

export class Steps {
  readonly #removals: { what: string; remove: () => Promise<unknown> }[] = [];
  readonly #startedMs = performance.now();
  readonly #interruption = new AbortController();
  #number = 0;

  constructor(readonly total: number) {}

  /** Aborts at the first signal to stop; long operations listen to it. */
  get interrupted(): AbortSignal {
    return this.#interruption.signal;
  }

  get elapsed(): string {
    return seconds(this.#startedMs);
  }

  /** The first signal interrupts the steps; the second ends the process without cleaning up. */
  listenForSignals(): void {
    for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
      process.on(signal, () => {
        // The kernel then ends the child processes too (PR_SET_PDEATHSIG).
        if (this.interrupted.aborted) process.exit(1);
        console.log("\nStopping and cleaning up. Once more to stop at once.");
        this.#interruption.abort(new Interrupted("interrupted"));
      });
    }
  }

  /** @throws Interrupted before or after the work, never within it: all that the work started can then be removed. */
  async run<T>(title: string, work: (say: (line: string) => void) => Promise<T>): Promise<T> {
    this.interrupted.throwIfAborted();
    this.#number += 1;
    console.log(`\n[${this.#number}/${this.total}] ${title}`);
    const startMs = performance.now();
    const result = await work(say);
    this.interrupted.throwIfAborted();
    say(`(${seconds(startMs)})`);
    return result;
  }

  /** Registers a removal for cleanUp(), which calls the last one first. */
  afterwards(what: string, remove: () => Promise<unknown>): void {
    this.#removals.push({ what, remove });
  }

  /** Continues when a removal fails. @returns what could not be removed, with the reasons. */
  async cleanUp(): Promise<string[]> {
    const failures: string[] = [];
    for (const { what, remove } of this.#removals.toReversed()) {
      try {
        await remove();
      } catch (error) {
        failures.push(`${what}: ${messageOf(error)}`);
      }
    }
    return failures;
  }
}

export function say(line: string): void {
  console.log(`      ${line}`);
}

export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

function seconds(sinceMs: number): string {
  return `${((performance.now() - sinceMs) / 1000).toFixed(1)} s`;
}
