/** Runs one `docker build` or `buildx build` command. */

import { StepFailure } from "../job/failure.ts";
import { runInGroup } from "../process/process-group.ts";
import { buildEnvironment } from "./arguments.ts";
import type { BuildRequest } from "./builder.ts";
import { delayedAbort } from "./delayed-abort.ts";
import { BuilderLost, buildFailure } from "./failure.ts";
import type { BuildProgress } from "./progress/progress.ts";
import { MAX_STATUS_CHARS } from "./progress/solve-status.ts";

export interface DockerBuild {
  readonly request: BuildRequest;
  /** The program and the builder's arguments; the arguments that all builders share follow. */
  readonly argv: readonly [string, ...string[]];
  readonly environment?: Readonly<Record<string, string>>;
  readonly progress: BuildProgress;
}

/** @throws StepFailure */
export async function dockerBuild({ request, argv, environment, progress }: DockerBuild): Promise<void> {
  const [program, ...args] = argv;
  const { exitCode } = await runInGroup({
    argv: [program, ...args, progress.argument, request.paths.context],
    cwd: request.workspace.path,
    environment: { ...buildEnvironment(request), ...environment },
    controlGroup: request.controlGroup,
    signal: delayedAbort(request.signal, () => progress.lastStepAtMs),
    onLine: (line) => progress.line(line),
    maxLineChars: MAX_STATUS_CHARS,
  })
    .catch((error: unknown) => rejected(error, program))
    .finally(() => progress.end());
  if (exitCode !== 0) throw buildFailure(progress.stderrTail(), exitCode);
}

/** The program did not start. Linux limits one argument or variable to 128 KiB, and all of them together to some MiB. */
function rejected(error: unknown, program: string): never {
  if (!(error instanceof Error) || !("code" in error)) throw error;
  if (error.code === "ENOENT") throw new BuilderLost("build", `${program} is no longer installed`);
  if (error.code !== "E2BIG") throw error;
  const message =
    "the build arguments or labels are too long: each may have at most 128 KiB, its name included";
  throw new StepFailure({ code: "UNSUPPORTED", step: "build", message, cause: error });
}
