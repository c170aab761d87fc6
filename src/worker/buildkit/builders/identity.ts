/** What identifies a BuildKit or an engine that runs: it changes when another version or configuration is started. */
import { mkdtemp, rm } from "node:fs/promises";
import { join } from "node:path";
import { runInGroup } from "../../process/process-group.ts";
import type { EngineAccess } from "../builder.ts";
import type { BuildxInstance } from "../buildx-instance.ts";
import { readInspection } from "./buildx-inspect.ts";

/** Changes with every use. */
const LAST_ACTIVITY = /^Last Activity:/;

/** @throws Error when buildx is missing, or the BuildKit does not answer it. */
export async function buildKitIdentity(
  buildxPath: string,
  instance: BuildxInstance,
  { cwd, environment, signal }: EngineAccess,
): Promise<string> {
  const dockerConfig = await mkdtemp(join(cwd, "identity-"));
  try {
    const access = await instance.configure(dockerConfig);
    const lines = await outputOf([buildxPath, "inspect"], {
      cwd,
      environment: { ...environment, ...access },
      signal,
    });
    readInspection(lines);
    return lines.filter((line) => !LAST_ACTIVITY.test(line)).join("\n");
  } finally {
    await rm(dockerConfig, { recursive: true, force: true });
  }
}

/** @throws Error when docker is missing, or the engine does not answer it. */
export async function engineIdentity(dockerPath: string, at: EngineAccess): Promise<string> {
  return (await outputOf([dockerPath, "version", "--format={{.Server.Version}}"], at)).join("\n");
}

async function outputOf(argv: [string, ...string[]], at: EngineAccess): Promise<readonly string[]> {
  const { exitCode, stdoutTail, stderrTail } = await runInGroup({ argv, ...at });
  if (exitCode === 0) return stdoutTail;
  throw new Error(stderrTail.join(" ") || `${argv.join(" ")} exited with status ${exitCode}`);
}
