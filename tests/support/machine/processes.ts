import { signalGroup } from "../../../src/worker/process/process-group.ts";
import { awaitStop } from "./process-group.ts";
import { ownerMark, recordProcessGroup } from "./process-records.ts";
import { openProgramLog, type ProgramLog } from "./program-logs.ts";
import { type WaitForOptions, waitFor } from "./wait-for.ts";

export interface ProcessOptions {
  cwd?: string;
  /** Added to this process's environment; `undefined` removes a variable. */
  env?: Record<string, string | undefined>;
  stdin?: string | Uint8Array;
  /** Words before the command's: a program that runs it in another environment, and becomes it. */
  launcher?: readonly string[];
}

export interface TestProcess {
  readonly pid: number;
  /** Both streams, line by line, in the order in which they arrived. */
  readonly lines: readonly string[];
  readonly stdoutLines: readonly string[];
  readonly stderrLines: readonly string[];
  readonly exitCode: number | null;
  /**
   * The exit status; for a process ended by a signal, 128 plus the signal's number. Resolves when the output has been
   * read too, unless a child of the process keeps it open.
   */
  readonly exited: Promise<number>;
  waitForLine(pattern: RegExp | string, options?: Partial<WaitForOptions>): Promise<string>;
  /** Sent to the program alone, as systemd does with KillMode=mixed. The methods below signal the whole group. */
  signal(signal: NodeJS.Signals): void;
  /** SIGTERM, then SIGKILL after `graceMs`. */
  stop(graceMs?: number): Promise<void>;
  kill(signal?: NodeJS.Signals): Promise<void>;
  pause(): void;
  resume(): void;
}

export interface FinishedProcess {
  exitCode: number;
  stdout: string;
  stderr: string;
}

export class CommandFailed extends Error {
  override readonly name = "CommandFailed";

  constructor(
    command: readonly string[],
    readonly result: FinishedProcess,
  ) {
    const output = `${result.stdout}${result.stderr}`.trimEnd().split("\n").slice(-30).join("\n");
    super(`${command.join(" ")} exited with status ${result.exitCode}\n${output}`);
  }
}

/** How long the output of an ended process is read on: one of its children may keep it open for ever. */
const OUTPUT_GRACE_MS = 5_000;

// A killed test run cannot stop its servers. The kernel stops those that were started through setpriv.
const setpriv = Bun.which("setpriv");
const dieWithParent = setpriv ? [setpriv, "--pdeathsig", "TERM", "--"] : [];

function environment(overrides: ProcessOptions["env"] = {}): Record<string, string> {
  const merged = { ...process.env, ...ownerMark(), ...overrides };
  return Object.fromEntries(
    Object.entries(merged).filter((entry): entry is [string, string] => entry[1] !== undefined),
  );
}

async function collectLines(
  stream: ReadableStream<Uint8Array>,
  log: ProgramLog,
  ...sinks: string[][]
): Promise<void> {
  const decoder = new TextDecoder();
  let rest = "";
  for await (const chunk of stream) {
    log.write(chunk);
    const lines = (rest + decoder.decode(chunk, { stream: true })).split("\n");
    rest = lines.pop() ?? "";
    for (const sink of sinks) sink.push(...lines);
  }
  if (rest !== "") for (const sink of sinks) sink.push(rest);
}

/** Starts a program in a separate process group. The caller has to stop it. */
export function startProcess(command: readonly string[], options: ProcessOptions = {}): TestProcess {
  const child = Bun.spawn([...dieWithParent, ...(options.launcher ?? []), ...command], {
    cwd: options.cwd,
    env: environment(options.env),
    stdin: options.stdin === undefined ? "ignore" : new Blob([options.stdin]),
    stdout: "pipe",
    stderr: "pipe",
    detached: true,
  });
  const lines: string[] = [];
  const stdoutLines: string[] = [];
  const stderrLines: string[] = [];
  const log = openProgramLog(command);
  const collected = [
    collectLines(child.stdout, log, lines, stdoutLines),
    collectLines(child.stderr, log, lines, stderrLines),
  ];
  // Resolves when the last process that holds the pipes has ended.
  const isRead = Promise.allSettled(collected);
  void isRead.then(log.close);
  void child.exited.then(recordProcessGroup(child.pid));
  const exited = child.exited.then(async (status) => {
    const grace = Promise.withResolvers<void>();
    const timer = setTimeout(grace.resolve, OUTPUT_GRACE_MS);
    await Promise.race([isRead, grace.promise]);
    clearTimeout(timer);
    return status;
  });

  const signalAll = (name: NodeJS.Signals) => signalGroup(child.pid, name);

  async function kill(name: NodeJS.Signals = "SIGKILL"): Promise<void> {
    signalAll(name);
    // A stopped process does not handle a signal before it continues.
    signalAll("SIGCONT");
    await child.exited;
  }

  return {
    pid: child.pid,
    lines,
    stdoutLines,
    stderrLines,
    get exitCode() {
      return child.exitCode;
    },
    exited,
    signal: (name) => void child.kill(name),
    kill,
    pause() {
      signalAll("SIGSTOP");
      awaitStop(child.pid);
    },
    resume: () => signalAll("SIGCONT"),

    async waitForLine(pattern, { timeoutMs = 60_000, what, intervalMs } = {}) {
      const matches = (line: string) =>
        typeof pattern === "string" ? line.includes(pattern) : pattern.test(line);
      let ended = false;
      void exited.then(() => {
        ended = true;
      });
      const found = await waitFor(
        () => {
          const line = lines.find(matches);
          return line !== undefined || ended ? { line } : undefined;
        },
        { timeoutMs, what: what ?? `a line matching ${pattern} of ${command[0]}`, intervalMs },
      ).catch((error: Error) => {
        throw new Error(`${error.message}; it printed:\n${lines.slice(-20).join("\n")}`, { cause: error });
      });
      if (found.line === undefined) {
        throw new Error(
          `${command[0]} ended without a line matching ${pattern}:\n${lines.slice(-20).join("\n")}`,
        );
      }
      return found.line;
    },

    async stop(graceMs = 10_000) {
      signalAll("SIGTERM");
      signalAll("SIGCONT");
      const timer = setTimeout(() => signalAll("SIGKILL"), graceMs);
      await child.exited;
      clearTimeout(timer);
      // Processes that the leader has left in its group.
      signalAll("SIGKILL");
    },
  };
}

export interface RunOptions extends ProcessOptions {
  timeoutMs?: number;
  /** Returns the result of a failing command instead of throwing an error. */
  mayFail?: boolean;
}

/** Runs a program to its end. */
export async function run(command: readonly string[], options: RunOptions = {}): Promise<FinishedProcess> {
  const { timeoutMs = 60_000 } = options;
  const child = Bun.spawn([...dieWithParent, ...(options.launcher ?? []), ...command], {
    cwd: options.cwd,
    env: environment(options.env),
    stdin: options.stdin === undefined ? "ignore" : new Blob([options.stdin]),
    stdout: "pipe",
    stderr: "pipe",
    detached: true,
  });
  let timedOut = false;
  const timer = setTimeout(() => {
    timedOut = true;
    signalGroup(child.pid, "SIGKILL");
  }, timeoutMs);
  const [stdout, stderr, exitCode] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
    child.exited,
  ]);
  clearTimeout(timer);
  const result = { exitCode, stdout, stderr };
  if (timedOut) throw new Error(`${command.join(" ")} was ended after ${timeoutMs} ms\n${stdout}${stderr}`);
  if (exitCode !== 0 && !options.mayFail) throw new CommandFailed(command, result);
  return result;
}
