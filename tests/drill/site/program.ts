/** One program of the drilled deployment over all its starts, with the output of each. */
import { startProcess, type TestProcess } from "../../support/machine/processes.ts";

/** One process of a program. */
export interface Launch {
  readonly program: string;
  /** From 1. */
  readonly number: number;
  readonly process: TestProcess;
  /** How far the program's clock is ahead of the true time, in ms; negative: behind it. */
  readonly clockOffsetMs: number;
  readonly startedAt: number;
  /** When it was killed or ended, in ms since 1970. */
  endedAt: number | undefined;
}

export interface ProgramOptions {
  readonly name: string;
  readonly command: readonly string[];
  readonly cwd: string;
  readonly env: Readonly<Record<string, string>>;
  readonly clockOffsetMs?: number;
  /** The line that shows that the program is ready. */
  readonly readyLine: string;
}

/** Maximum time for a program to be ready: its servers may be starting at the same time. */
const READY_MS = 90_000;

export class Program {
  readonly name: string;
  readonly #options: ProgramOptions;
  readonly #launches: Launch[] = [];

  constructor(options: ProgramOptions) {
    this.name = options.name;
    this.#options = options;
  }

  get launches(): readonly Launch[] {
    return this.#launches;
  }

  /** The current process, or the last one. */
  get current(): Launch {
    const launch = this.#launches.at(-1);
    if (!launch) throw new Error(`${this.name} was not started`);
    return launch;
  }

  get pid(): number {
    return this.current.process.pid;
  }

  start(): void {
    const { command, cwd, env, clockOffsetMs = 0 } = this.#options;
    const launch: Launch = {
      program: this.name,
      number: this.#launches.length + 1,
      clockOffsetMs,
      startedAt: Date.now(),
      process: startProcess(command, { cwd, env }),
      endedAt: undefined,
    };
    void launch.process.exited.then(() => {
      launch.endedAt ??= Date.now();
    });
    this.#launches.push(launch);
  }

  async ready(): Promise<void> {
    const what = `${this.name} to be ready`;
    await this.current.process.waitForLine(this.#options.readyLine, { timeoutMs: READY_MS, what });
  }

  async kill(): Promise<void> {
    const launch = this.current;
    launch.process.signal("SIGKILL");
    launch.endedAt ??= Date.now();
    await launch.process.kill();
  }

  /** Resolves when it has ended by itself. @throws Error when it takes longer, or ends with a status other than 0. */
  async exitsCleanly(withinMs: number): Promise<void> {
    const { process } = this.current;
    const timeout = Promise.withResolvers<"late">();
    const timer = setTimeout(() => timeout.resolve("late"), withinMs);
    const status = await Promise.race([process.exited, timeout.promise]);
    clearTimeout(timer);
    if (status === 0) return;
    const last = process.lines.slice(-15).join("\n");
    if (status !== "late")
      throw new Error(`${this.name} ended with status ${status}; its last output:\n${last}`);
    throw new Error(
      `${this.name} still runs ${withinMs} ms after the signal to stop; its last output:\n${last}`,
    );
  }
}
