/**
 * `reuse: same-commit`: an image that was built from the same commit and inputs gets the job's version tag as well. The
 * orchestrator's records only name candidates; the labels of the image decide. Without a match the image is built.
 */

import { StepFailure } from "../job/failure.ts";
import type { PipelineJob } from "../job/job.ts";
import type { Manifest, RegistryClient } from "../registry/client.ts";
import { hasInputs, type InputLabels, inputsHash } from "./image-labels.ts";

export interface ReuseContext {
  readonly job: Pick<PipelineJob, "ecrRepo" | "knownImages">;
  readonly registry: RegistryClient;
  readonly log: (line: string) => void;
  readonly signal: AbortSignal;
  /** Puts the version's tag on the image. */
  readonly tag: (manifest: Manifest) => Promise<void>;
}

/** If true, the registry should be asked before any file is checked out. */
export function isRemembered({ knownImages }: ReuseContext["job"], inputs: InputLabels): boolean {
  const hash = inputsHash(inputs);
  return knownImages?.some((known) => known.inputs === hash) ?? false;
}

/** Returns the image that now has the version's tag; undefined when no image can be reused. */
export async function reuse(context: ReuseContext, inputs: InputLabels): Promise<Manifest | undefined> {
  const { log, tag } = context;
  const manifest = await findReusable(context, inputs);
  if (!manifest) return undefined;
  log(`${manifest.digest} was made from this commit and these inputs before: nothing to build`);
  try {
    await tag(manifest);
  } catch (error) {
    if (!(error instanceof StepFailure) || error.failure.code !== "PUSH_FAILED") throw error;
    // For example, layers that the registry has lost: building and pushing again may repair that.
    log(`cannot tag it, building instead: ${error.message}`);
    return undefined;
  }
  return manifest;
}

async function findReusable(context: ReuseContext, inputs: InputLabels): Promise<Manifest | undefined> {
  const hash = inputsHash(inputs);
  for (const known of context.job.knownImages ?? []) {
    if (known.inputs !== hash) continue;
    const manifest = await verified(known.digest, context, inputs);
    if (manifest) return manifest;
  }
  return undefined;
}

async function verified(
  digest: string,
  { job, registry, log, signal }: ReuseContext,
  inputs: InputLabels,
): Promise<Manifest | undefined> {
  try {
    const manifest = await registry.getManifest(job.ecrRepo, digest, signal);
    if (manifest && hasInputs(await registry.getImageLabels(job.ecrRepo, manifest, signal), inputs)) {
      return manifest;
    }
    log(`cannot reuse ${digest}: the registry ${manifest ? "has it with other labels" : "no longer has it"}`);
  } catch (error) {
    signal.throwIfAborted();
    log(`cannot reuse ${digest}: ${error instanceof Error ? error.message : error}`);
  }
  return undefined;
}
