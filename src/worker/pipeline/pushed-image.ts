/** What a builder says it has pushed, as the registry has it. */
import type { PushedImage } from "../buildkit/builder.ts";
import { StepFailure } from "../job/failure.ts";
import { inPlace } from "../job/retry.ts";
import type { Manifest } from "../registry/client.ts";
import type { TagContext } from "./version-tag.ts";

/** Proves that the registry has it; its bytes are what the version's tag is put on. */
export function pushedManifest(
  { digest }: PushedImage,
  { job, registry, retry: policy, log, signal }: TagContext,
): Promise<Manifest> {
  const attempt = async () => {
    const manifest = await registry.getManifest(job.ecrRepo, digest, signal);
    if (manifest) return manifest;
    const message = `the registry does not have ${digest}, which docker says it has pushed`;
    throw new StepFailure({ code: "PUSH_FAILED", step: "push", message, retryable: true });
  };
  return inPlace({ policy, signal, log, attempt });
}

/** By tag only: deleting by digest would take the version's image along. */
export async function removeAttemptTag(
  tag: string,
  { job, registry, log, signal }: TagContext,
): Promise<void> {
  if (await registry.deleteTag(job.ecrRepo, tag, signal)) return;
  log(`the registry does not delete by tag, so ${job.ecrRepo}:${tag} stays`);
}
