/**
 * Child processes of a run. Each is started from an argument vector in its own process group, and a run that is
 * aborted ends the whole group: git and docker have helpers (git-remote-http, CLI plugins) that outlive them.
 */
import { eventLoopTurn } from "../../shared/event-loop.ts";
import type { ChildEnvironment } from "./child-environment.ts";
import { startedInControlGroup } from "./control-group.ts";
import { LineSplitter } from "./line-splitter.ts";
import { type RecordEnd, RecordSplitter } from "./record-splitter.ts";

export interface GroupCommand {
  readonly argv: readonly [string, ...string[]];
  readonly cwd: string;
  readonly environment: ChildEnvironment;
  /** Standard input; empty by default. */
  readonly input?: string;
  /** See control-group.ts. */
  readonly controlGroup?: string;
  /** Ends the group; runInGroup then throws the signal's reason. */
  readonly signal: AbortSignal;
  /** Called with the id of the process group once it has started. */
  readonly onStart?: (group: number) => void;
  /** Called for every line of both streams, without its line end; a carriage return also ends a line. */
  readonly onLine?: (line: string) => void;
  /** A longer line is split into parts. */
  readonly maxLineChars?: number;
  /** Called for every record of stdout instead of `onLine` (record-splitter.ts). */
  readonly onRecord?: (record: string) => void;
  readonly recordEnd?: RecordEnd;
  /** Time between SIGTERM and SIGKILL. */
  readonly stopGraceMs?: number;
}

export interface GroupEnd {
  readonly exitCode: number;
  /** The last lines of each stream; no records. */
  readonly stdoutTail: readonly string[];
  readonly stderrTail: readonly string[];
}

const DEFAULT_STOP_GRACE_MS = 5000;
/** How long a stream may stay open after its process has ended: a grandchild can keep it open for ever. */
export const STREAM_GRACE_MS = 2000;
const TAIL_LINES = 200;
const TAIL_CHARS = 1024 * 1024;

/** Runs the command to its end, whatever its exit status. */
export async function runInGroup(command: GroupCommand): Promise<GroupEnd> {
  command.signal.throwIfAborted();
  const child = Bun.spawn([...argvOf(command)], {
    cwd: command.cwd,
    env: command.environment,
    stdin: command.input === undefined ? "ignore" : Buffer.from(command.input),
    stdout: "pipe",
    stderr: "pipe",
    detached: true,
  });
  command.onStart?.(child.pid);
  const stop = new GroupStop(child.pid, command.stopGraceMs ?? DEFAULT_STOP_GRACE_MS);
  const onAbort = () => stop.begin();
  command.signal.addEventListener("abort", onAbort);
  try {
    const stdout = new OutputReader(child.stdout, command);
    const stderr = new OutputReader(child.stderr, { ...command, onRecord: undefined });
    const exitCode = await child.exited;
    await Promise.all([stdout.finish(STREAM_GRACE_MS), stderr.finish(STREAM_GRACE_MS)]);
    command.signal.throwIfAborted();
    return { exitCode, stdoutTail: stdout.tail, stderrTail: stderr.tail };
  } finally {
    command.signal.removeEventListener("abort", onAbort);
    stop.finish();
  }
}

function argvOf({ argv, controlGroup, environment }: GroupCommand): GroupCommand["argv"] {
  // A missing program is an error of Bun.spawn. The shell would end with a status that a program can have too.
  const isFound = Bun.which(argv[0], { PATH: environment.PATH ?? "" }) !== null;
  return controlGroup !== undefined && isFound ? startedInControlGroup(argv, controlGroup) : argv;
}

export function signalGroup(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(-pid, signal);
  } catch (error) {
    // The group has ended already.
    if (!(error instanceof Error && "code" in error && error.code === "ESRCH")) throw error;
  }
}

class GroupStop {
  #timer: Timer | undefined;

  constructor(
    readonly pid: number,
    readonly graceMs: number,
  ) {}

  begin(): void {
    signalGroup(this.pid, "SIGTERM");
    // A suspended process would handle SIGTERM only after it continues.
    signalGroup(this.pid, "SIGCONT");
    this.#timer = setTimeout(() => signalGroup(this.pid, "SIGKILL"), this.graceMs);
  }

  /** The leader has ended: kills what it left in its group. */
  finish(): void {
    clearTimeout(this.#timer);
    signalGroup(this.pid, "SIGKILL");
  }
}

class OutputReader {
  readonly tail: string[] = [];
  #tailChars = 0;
  readonly #reader: ReadableStreamDefaultReader<Uint8Array>;
  readonly #done: Promise<void>;

  constructor(
    stream: ReadableStream<Uint8Array>,
    {
      onLine,
      maxLineChars,
      onRecord,
      recordEnd,
    }: Pick<GroupCommand, "onLine" | "maxLineChars" | "onRecord" | "recordEnd">,
  ) {
    this.#reader = stream.getReader() as ReadableStreamDefaultReader<Uint8Array>;
    const splitIntoLines = () =>
      new LineSplitter((line) => {
        this.#keep(line);
        onLine?.(line);
      }, maxLineChars);
    this.#done = this.#read(onRecord ? new RecordSplitter(onRecord, recordEnd) : splitIntoLines());
  }

  async finish(graceMs: number): Promise<void> {
    const timer = setTimeout(() => void this.#reader.cancel(), graceMs);
    try {
      await this.#done;
    } finally {
      clearTimeout(timer);
    }
  }

  async #read(splitter: LineSplitter | RecordSplitter): Promise<void> {
    for (;;) {
      const { done, value } = await this.#reader.read();
      if (done) break;
      splitter.push(value);
      // A read resolves at once while there is data: endless output would otherwise block pings and timers.
      await eventLoopTurn();
    }
    splitter.end();
  }

  /** Keeps the last line, however long it is. */
  #keep(line: string): void {
    this.tail.push(line);
    this.#tailChars += line.length;
    while (this.tail.length > TAIL_LINES || (this.#tailChars > TAIL_CHARS && this.tail.length > 1)) {
      this.#tailChars -= this.tail.shift()?.length ?? 0;
    }
  }
}
