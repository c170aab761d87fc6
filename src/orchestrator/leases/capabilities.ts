/**
 * Capabilities of workers and needs of jobs, under the same names: platforms such as `linux/arm64`, and those of
 * `EXTRAS`. A worker can build a job when it has every capability that the job needs; a job without needs fits every
 * worker.
 */
import type { Job } from "../../shared/job.ts";
import type { Capabilities } from "../../shared/rpc/generated/blacktree/v1/orchestrator.ts";

const EXTRAS = { multiPlatform: "multi-platform", provenance: "provenance", secrets: "secrets" } as const;

/** A worker that declares nothing has a version that builds only for its own platform. */
export function capabilitiesOf(declared: Capabilities | undefined): readonly string[] {
  return declared ? namesOf(declared) : [];
}

export function neededBy(job: Pick<Job, "platforms" | "provenance" | "secrets">): readonly string[] {
  const { platforms, provenance } = job;
  const secrets = Object.keys(job.secrets).length > 0;
  return namesOf({ platforms, multiPlatform: platforms.length > 1, provenance, secrets });
}

export function neededWithoutPlatforms(job: Parameters<typeof neededBy>[0]): readonly string[] {
  return neededBy(job).filter((need) => !job.platforms.includes(need));
}

export function covers(capabilities: readonly string[], needs: readonly string[]): boolean {
  return needs.every((need) => capabilities.includes(need));
}

function namesOf(flags: Readonly<Omit<Capabilities, "platforms">> & { platforms: readonly string[] }) {
  const extras = (["multiPlatform", "provenance", "secrets"] as const).filter((extra) => flags[extra]);
  return [...flags.platforms, ...extras.map((extra) => EXTRAS[extra])];
}
