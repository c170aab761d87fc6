/**
 * Local git commands that print a few lines, run by simple-git. It keeps all output in memory, starts git in the
 * worker's own process group, and sends SIGINT to git alone when aborted. Commands with long output or with helper
 * processes need a process group: `localInGroup` in command.ts.
 */
import { GitError, GitPluginError, simpleGit } from "simple-git";
import { StepFailure } from "../job/failure.ts";
import type { ChildEnvironment } from "../process/child-environment.ts";
import { type GroupEnd, STREAM_GRACE_MS } from "../process/process-group.ts";
import { localEnvironment } from "./environment.ts";

export interface LocalCommand {
  readonly args: readonly string[];
  readonly cwd: string;
  readonly environment: ChildEnvironment;
  readonly signal: AbortSignal;
}

/** Bounds the memory for values that a repository chooses. */
const MAX_OUTPUT_BYTES = 1024 * 1024;
const FATAL = 128;
/** As shells report a program that SIGINT has ended. simple-git does not report which signal it was. */
const INTERRUPTED = 130;

/** simple-git refuses these settings unless they are allowed. The worker alone sets them, in environment.ts. */
const ALLOWED = {
  allowUnsafeConfigEnvCount: true,
  allowUnsafeConfigPaths: true,
  allowUnsafeFsMonitor: true,
  allowUnsafeHooksPath: true,
  allowUnsafeProtocolOverride: true,
  allowUnsafeTemplateDir: true,
};

/** Returns the command's end, whatever its exit status. @throws the signal's reason. */
export async function runLocalGit(command: LocalCommand): Promise<GroupEnd> {
  const end = await runOnce(command);
  // Ctrl-C on the worker's terminal ends git too, while the worker finishes its jobs.
  return end.exitCode === INTERRUPTED ? runOnce(command) : end;
}

async function runOnce({ args, cwd, environment, signal }: LocalCommand): Promise<GroupEnd> {
  signal.throwIfAborted();
  const tooLong = new AbortController();
  let outputBytes = 0;
  const count = (chunk: Buffer) => {
    outputBytes += chunk.length;
    if (outputBytes > MAX_OUTPUT_BYTES) tooLong.abort();
  };
  const variables = localEnvironment(environment, cwd);
  const git = simpleGit({
    baseDir: cwd,
    abort: AbortSignal.any([signal, tooLong.signal]),
    allowEnvironment: Object.keys(variables),
    unsafe: ALLOWED,
    // By default simple-git drops output that arrives later than 50 ms after git's exit.
    completion: { onExit: STREAM_GRACE_MS },
    // By default simple-git takes a failure without an error message for success.
    errors: (error, { exitCode, stdOut, stdErr }) =>
      error instanceof GitPluginError || exitCode === 0
        ? error
        : new ExitFailure(exitCode ?? INTERRUPTED, linesOf(stdOut), linesOf(stdErr)),
  });
  try {
    const answer = await git
      .env(variables)
      .outputHandler((_, stdout, stderr) => {
        stdout.on("data", count);
        stderr.on("data", count);
      })
      .raw([...args]);
    return { exitCode: 0, stdoutTail: linesOf([Buffer.from(answer)]), stderrTail: [] };
  } catch (error) {
    signal.throwIfAborted();
    if (tooLong.signal.aborted)
      return {
        exitCode: FATAL,
        stdoutTail: [],
        stderrTail: [`more than ${MAX_OUTPUT_BYTES} bytes of output`],
      };
    if (error instanceof ExitFailure) return error;
    // Git has not run, such as without a free process.
    const message = `git ${args[0]} failed to start: ${error instanceof Error ? error.message : error}`;
    throw new StepFailure({ code: "CLONE_FAILED", step: "clone", message, retryable: true, cause: error });
  }
}

/** simple-git passes on no other error than its own class. */
class ExitFailure extends GitError implements GroupEnd {
  override readonly name = "ExitFailure";

  constructor(
    readonly exitCode: number,
    readonly stdoutTail: readonly string[],
    readonly stderrTail: readonly string[],
  ) {
    super(undefined, `exit status ${exitCode}`);
  }
}

function linesOf(chunks: readonly Buffer[]): string[] {
  const lines = Buffer.concat(chunks)
    .toString("utf8")
    .split(/\r\n|\n|\r/);
  return lines.at(-1) === "" ? lines.slice(0, -1) : lines;
}
