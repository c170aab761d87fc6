import type { EngineAccess, ImageBuilder } from "../buildkit/builder.ts";

/** Something that makes jobs faster, but can be given up for room. */
export interface Pruner {
  /** For the log, such as "the build cache". */
  readonly what: string;
  /** Where it lies: giving it up makes room on the disks of these folders. */
  readonly paths: readonly string[];
  /** Takes away what was not used for longest, until no more than this is left; what is in use stays. */
  shrinkTo(keepBytes: number, signal: AbortSignal): Promise<void>;
}

export function buildCachePruner(
  builder: Pick<ImageBuilder, "prune">,
  paths: readonly string[],
  at: Omit<EngineAccess, "signal">,
): Pruner {
  return {
    what: "the build cache",
    paths,
    shrinkTo: (keepBytes, signal) => builder.prune(keepBytes, { ...at, signal }),
  };
}
