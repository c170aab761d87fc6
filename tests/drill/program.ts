/** One program of the drilled deployment over all its starts, with what each of them printed. */
import { startProcess, type TestProcess } from "../support/machine/processes.ts";

/** One process of a program. */
export interface Launch {
  readonly program: string;
  /** From 1 on. */
  readonly number: number;
  readonly process: TestProcess;
  readonly startedAt: number;
  /** When it was killed or had ended, in ms since 1970. */
  endedAt: number | undefined;
}

export interface ProgramOptions {
  readonly name: string;
  readonly command: readonly string[];
  readonly cwd: string;
  readonly env: Readonly<Record<string, string>>;
  /** Printed once it can do its work. */
  readonly readyLine: string;
}

/** How long a program may take to be ready: the servers behind it may be just coming back, too. */
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

  /** The process of now, or the last one. */
  get current(): Launch {
    const launch = this.#launches.at(-1);
    if (!launch) throw new Error(`${this.name} was not started`);
    return launch;
  }

  get pid(): number {
    return this.current.process.pid;
  }

  start(): void {
    const { command, cwd, env } = this.#options;
    const launch: Launch = {
      program: this.name,
      number: this.#launches.length + 1,
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

  /** Resolves when it has ended by itself. @throws Error when that takes too long, or has another status than 0. */
  async endsWell(withinMs: number): Promise<void> {
    const { process } = this.current;
    const timeout = Promise.withResolvers<"late">();
    const timer = setTimeout(() => timeout.resolve("late"), withinMs);
    const status = await Promise.race([process.exited, timeout.promise]);
    clearTimeout(timer);
    if (status === 0) return;
    const last = process.lines.slice(-15).join("\n");
    if (status !== "late")
      throw new Error(`${this.name} ended with status ${status}; it printed last:\n${last}`);
    throw new Error(
      `${this.name} was told to stop, and still runs after ${withinMs} ms; it printed last:\n${last}`,
    );
  }
}
