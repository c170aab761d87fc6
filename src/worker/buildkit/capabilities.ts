/** Compares the features that a builder supports with those that a job needs. */
import { StepFailure } from "../job/failure.ts";
import type { PipelineJob } from "../job/job.ts";

export interface BuilderCapabilities {
  /**
   * Platforms whose programs it runs, as in shared/platforms.ts. Jobs that name none get the first, its own. It builds
   * for every platform as long as no step has to run on it.
   */
  readonly platforms: readonly string[];
  /** One image for several platforms: an index. */
  readonly multiPlatform: boolean;
  readonly provenance: boolean;
  readonly secrets: boolean;
  readonly registryCache: boolean;
}

interface Builder {
  readonly description: string;
  readonly capabilities: BuilderCapabilities;
}

type Needs = Pick<PipelineJob, "platforms" | "provenance" | "secrets">;

/** Building without a requested feature would push an image that looks right and is not. @throws StepFailure */
export function refuseUnsupported(builder: Builder, job: Needs): void {
  const missing = unsupportedBy(builder.capabilities, job);
  if (missing.length === 0) return;
  const message = `this worker cannot build ${missing.join(" and ")}: it has ${builder.description}`;
  throw new StepFailure({ code: "UNSUPPORTED", step: "build", message });
}

/** The job's platforms whose programs the builder cannot run. */
export function notRunBy(
  { capabilities }: Pick<Builder, "capabilities">,
  job: Pick<Needs, "platforms">,
): string[] {
  return job.platforms.filter((platform) => !capabilities.platforms.includes(platform));
}

/** Phrases that complete "cannot build". */
export function unsupportedBy(can: BuilderCapabilities, job: Needs): string[] {
  return [
    ...(job.platforms.length > 1 && !can.multiPlatform ? ["for several platforms at once"] : []),
    ...(job.provenance && !can.provenance ? ["with provenance"] : []),
    ...(Object.keys(job.secrets).length > 0 && !can.secrets ? ["with secrets"] : []),
  ];
}
