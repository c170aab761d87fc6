/** Numbered steps on the terminal, and a list of what has to be taken away afterwards, whatever happens. */

/** Somebody pressed Ctrl-C, or the machine wants us gone. */
export class Interrupted extends Error {
  override readonly name = "Interrupted";
}

export class Steps {
  readonly #removals: { what: string; remove: () => Promise<unknown> }[] = [];
  readonly #startedMs = performance.now();
  readonly #interruption = new AbortController();
  #number = 0;

  constructor(readonly total: number) {}

  /** Aborts when the user has had enough; what takes long listens to it. */
  get interrupted(): AbortSignal {
    return this.#interruption.signal;
  }

  get elapsed(): string {
    return seconds(this.#startedMs);
  }

  interrupt(reason: Interrupted): void {
    this.#interruption.abort(reason);
  }

  /** @throws Interrupted before or after the work: what it began is then whole, and can be taken away. */
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

  /** Last in, first out. */
  afterwards(what: string, remove: () => Promise<unknown>): void {
    this.#removals.push({ what, remove });
  }

  /** Goes on when something cannot be removed. @returns what is left. */
  async cleanUp(): Promise<string[]> {
    const left: string[] = [];
    for (const { what, remove } of this.#removals.toReversed()) {
      try {
        await remove();
      } catch (error) {
        left.push(`${what}: ${error instanceof Error ? error.message : String(error)}`);
      }
    }
    return left;
  }
}

export function say(line: string): void {
  console.log(`      ${line}`);
}

function seconds(sinceMs: number): string {
  return `${((performance.now() - sinceMs) / 1000).toFixed(1)} s`;
}
