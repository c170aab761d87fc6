import { mkdtemp, rm } from "node:fs/promises";
import { join } from "node:path";
import type { Pruner } from "../disk/disk-watch.ts";
import { runInGroup } from "../process/process-group.ts";
import type { EngineAccess, ImageBuilder } from "./builder.ts";
import type { BuildxInstance } from "./buildx-instance.ts";

/** @throws Error with docker's error output. */
export async function pruneCache(
  program: readonly [string, ...string[]],
  instance: BuildxInstance,
  keepBytes: number,
  { cwd, environment, signal }: EngineAccess,
): Promise<void> {
  const dockerConfig = await mkdtemp(join(cwd, "prune-"));
  try {
    const access = await instance.configure(dockerConfig);
    const { exitCode, stderrTail } = await runInGroup({
      // Newer versions call this option --reserved-space and still accept the old name, which older ones need.
      argv: [...program, "--force", "--all", `--keep-storage=${keepBytes}`],
      cwd,
      environment: { ...environment, ...access },
      signal,
    });
    if (exitCode !== 0) throw new Error(`failed to prune the build cache: ${stderrTail.join(" ")}`);
  } finally {
    await rm(dockerConfig, { recursive: true, force: true });
  }
}

export function buildCachePruner(
  builder: () => Promise<Pick<ImageBuilder, "prune">>,
  paths: readonly string[],
  at: Omit<EngineAccess, "signal">,
): Pruner {
  return {
    name: "the build cache",
    paths,
    shrinkTo: async (keepBytes, signal) => (await builder()).prune(keepBytes, { ...at, signal }),
  };
}
