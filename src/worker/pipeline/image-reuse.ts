/**
 * `reuse: same-commit`: an image that was built from the same commit and inputs gets the job's version tag as well. Only
 * the orchestrator's records name such images. Without a match that the registry still has, the image is built.
 */

import { StepFailure } from "../job/failure.ts";
import type { PipelineJob } from "../job/job.ts";
import type { Manifest, RegistryClient } from "../registry/client.ts";
import type { WantedImage } from "./wanted-image.ts";

export interface ReuseContext {
  readonly job: Pick<PipelineJob, "ecrRepo" | "knownImages">;
  readonly registry: RegistryClient;
  readonly log: (line: string) => void;
  readonly signal: AbortSignal;
  /** Puts the version's tag on the image. */
  readonly tag: (manifest: Manifest) => Promise<void>;
}

/** If true, the registry should be asked before any file is checked out. */
export function isRemembered({ knownImages }: ReuseContext["job"], { inputsHash }: WantedImage): boolean {
  return knownImages?.some(({ inputs }) => inputs === inputsHash) ?? false;
}

/** Returns the image that now has the version's tag; undefined when no image can be reused. */
export async function reuse(context: ReuseContext, wanted: WantedImage): Promise<Manifest | undefined> {
  const { log, tag } = context;
  const manifest = await findReusable(context, wanted);
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

async function findReusable(
  context: ReuseContext,
  { inputsHash }: WantedImage,
): Promise<Manifest | undefined> {
  for (const { inputs, digest } of context.job.knownImages ?? []) {
    if (inputs !== inputsHash) continue;
    const manifest = await inRegistry(digest, context);
    if (manifest) return manifest;
  }
  return undefined;
}

async function inRegistry(
  digest: string,
  { job, registry, log, signal }: ReuseContext,
): Promise<Manifest | undefined> {
  try {
    const manifest = await registry.getManifest(job.ecrRepo, digest, signal);
    if (manifest) return manifest;
    log(`cannot reuse ${digest}: the registry no longer has it`);
  } catch (error) {
    signal.throwIfAborted();
    log(`cannot reuse ${digest}: ${error instanceof Error ? error.message : error}`);
  }
  return undefined;
}
