/**
 * What workers can build and what jobs need, in the same words: platforms such as `linux/arm64`, and those of `EXTRAS`.
 * A worker can build a job when it has all that the job needs; a job that needs nothing special fits every worker.
 */
import type { Job } from "../../shared/job.ts";
import type { Capabilities } from "../../shared/rpc/generated/blacktree/v1/orchestrator.ts";

const EXTRAS = { multiPlatform: "multi-platform", provenance: "provenance", secrets: "secrets" } as const;

/** A worker that declares nothing is of a version that builds for its own platform alone. */
export function capabilitiesOf(declared: Capabilities | undefined): readonly string[] {
  return declared ? wordsFor(declared) : [];
}

export function neededBy(job: Pick<Job, "platforms" | "provenance" | "secrets">): readonly string[] {
  const { platforms, provenance } = job;
  const secrets = Object.keys(job.secrets).length > 0;
  return wordsFor({ platforms, multiPlatform: platforms.length > 1, provenance, secrets });
}

export function covers(capabilities: readonly string[], needs: readonly string[]): boolean {
  return needs.every((need) => capabilities.includes(need));
}

function wordsFor(named: Readonly<Omit<Capabilities, "platforms">> & { platforms: readonly string[] }) {
  const extras = (["multiPlatform", "provenance", "secrets"] as const).filter((extra) => named[extra]);
  return [...named.platforms, ...extras.map((extra) => EXTRAS[extra])];
}
