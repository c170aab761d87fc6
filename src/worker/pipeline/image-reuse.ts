/**
 * `reuse: same-commit`: an image that was made from the same commit and inputs gets the job's version as well. What
 * the orchestrator remembers only says where to look; the image's own labels decide, and without them it is built.
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
  /** Puts the version's tag. */
  readonly tag: (manifest: Manifest) => Promise<void>;
}

/** Then it is worth waiting for what the registry says, before any file is written. */
export function isRemembered({ knownImages }: ReuseContext["job"], inputs: InputLabels): boolean {
  const hash = inputsHash(inputs);
  return knownImages?.some((known) => known.inputs === hash) ?? false;
}

/** Gives the image that has the version's tag now. Undefined: there is none that can have it. */
export async function reuse(context: ReuseContext, inputs: InputLabels): Promise<Manifest | undefined> {
  const { log, tag } = context;
  const manifest = await findReusable(context, inputs);
  if (!manifest) return undefined;
  log(`${manifest.digest} was made from this commit and these inputs before: nothing to build`);
  try {
    await tag(manifest);
  } catch (error) {
    if (!(error instanceof StepFailure) || error.failure.code !== "PUSH_FAILED") throw error;
    // Such as layers that the registry has lost: pushing it again may mend that.
    log(`it cannot be tagged, so it is built: ${error.message}`);
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
