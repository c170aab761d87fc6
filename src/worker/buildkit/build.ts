/** Runs one `docker build` or `buildx build` command. */

import { StepFailure } from "../job/failure.ts";
import { runInGroup } from "../process/process-group.ts";
import { buildEnvironment } from "./arguments.ts";
import type { BuildRequest } from "./builder.ts";
import { delayedAbort } from "./delayed-abort.ts";
import { blamingDockerfile } from "./dockerfile-faults.ts";
import { BuilderLost, buildFailure } from "./failure.ts";
import { hostPathRemover } from "./host-paths.ts";
import type { BuildProgress } from "./progress/progress.ts";
import { MAX_STATUS_CHARS } from "./progress/solve-status.ts";

export interface DockerBuild {
  readonly request: BuildRequest;
  /** The program and its arguments, without the one for its progress. */
  readonly argv: readonly [string, ...string[]];
  readonly environment?: Readonly<Record<string, string>>;
  readonly progress: BuildProgress;
}

/** @throws StepFailure */
export async function dockerBuild({ request, argv, environment, progress }: DockerBuild): Promise<void> {
  const [program, ...args] = argv;
  const withoutHostPaths = await hostPathRemover(request.workspace);
  let exitCode: number | undefined;
  try {
    ({ exitCode } = await runInGroup({
      argv: [program, ...args, progress.argument],
      cwd: request.workspace.path,
      environment: { ...buildEnvironment(request), ...environment },
      controlGroup: request.controlGroup,
      signal: delayedAbort(request.signal, () => progress.lastStepAtMs),
      onLine: (line) => progress.line(withoutHostPaths(line)),
      maxLineChars: MAX_STATUS_CHARS,
    }));
  } catch (error) {
    rejected(error, program);
  } finally {
    progress.end(exitCode);
  }
  if (exitCode === 0) return;
  const { isExportFailed } = progress;
  const failure = buildFailure({ stderr: progress.stderrTail(), exitCode, isExportFailed });
  throw await blamingDockerfile(failure, request.paths.dockerfile);
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
