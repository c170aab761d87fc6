/**
 * The tag of the job's version is the commit point: nothing but putVersionTag puts it, only with a confirmed lease,
 * and only while that lease outlives the request. What a run did before leaves no trace that anybody would use.
 */

import { orAbort, sleep } from "../../shared/abort.ts";
import type { PushedImage } from "../buildkit/builder.ts";
import { StepFailure } from "../job/failure.ts";
import type { PipelineJob } from "../job/job.ts";
import { type RetryPolicy, retryInPlace } from "../job/retry.ts";
import type { RegistryAccess } from "../registry/access.ts";
import type { Manifest, RegistryClient } from "../registry/client.ts";
import { hasInputs, type InputLabels } from "./image-labels.ts";

/**
 * Resolves with the milliseconds that the lease still holds; rejects with LeaseLost when it was given away, and
 * waits while no orchestrator is in reach.
 */
export type LeaseConfirmation = (signal: AbortSignal) => Promise<number>;

/** An image that has the job's version already. */
export interface ExistingVersion {
  readonly digest: string;
  readonly labels: Readonly<Record<string, string>>;
}

export interface TagContext {
  readonly job: Pick<PipelineJob, "ecrRepo" | "deploymentVersion">;
  readonly registry: RegistryClient;
  readonly retry: RetryPolicy;
  readonly log: (line: string) => void;
  readonly signal: AbortSignal;
}

export function findVersion({
  job,
  registry,
  retry,
  log,
  signal,
}: TagContext): Promise<ExistingVersion | undefined> {
  const attempt = async () => {
    const manifest = await registry.getManifest(job.ecrRepo, job.deploymentVersion, signal);
    if (!manifest) return undefined;
    const labels = await registry.getImageLabels(job.ecrRepo, manifest, signal);
    return { digest: manifest.digest, labels };
  };
  return retryInPlace({ policy: retry, signal, log, attempt });
}

/** True when nothing is left to do. Throws TAG_IMMUTABLE when another image has the version and keeps it. */
export function isMadeAlready(
  existing: ExistingVersion | undefined,
  inputs: InputLabels,
  access: RegistryAccess,
  { deploymentVersion, ecrRepo }: TagContext["job"],
): existing is ExistingVersion {
  if (!existing) return false;
  if (hasInputs(existing.labels, inputs)) return true;
  if (access.tagMutability !== "immutable") return false;
  const message = `${ecrRepo}:${deploymentVersion} exists, was made from other inputs, and the repository's tags are immutable`;
  throw new StepFailure({ code: "TAG_IMMUTABLE", step: "tag", message });
}

export interface TagRequest extends TagContext {
  readonly manifest: Manifest;
  readonly confirmLease: LeaseConfirmation;
  /** Bound on the request that puts the tag, in ms; a short lease makes it shorter. */
  readonly tagTimeoutMs: number;
}

export function putVersionTag(request: TagRequest): Promise<void> {
  const { retry: policy, signal, log } = request;
  return retryInPlace({ policy, signal, log, attempt: () => putOnce(request) });
}

async function putOnce(request: TagRequest): Promise<void> {
  const { registry, job, manifest } = request;
  const timeoutMs = await timeWithinLease(request);
  request.signal.throwIfAborted();
  try {
    // From here on a cancel comes too late: whether the tag was put has to be known.
    await registry.putManifest(job.ecrRepo, job.deploymentVersion, manifest, timeoutMs);
  } catch (error) {
    if (await isPut(request)) return;
    throw error;
  }
}

/** The registry's answer may have been lost, and the tag put all the same. */
async function isPut({ registry, job, manifest, tagTimeoutMs, log }: TagRequest): Promise<boolean> {
  try {
    const signal = AbortSignal.timeout(tagTimeoutMs);
    const tagged = await registry.getManifest(job.ecrRepo, job.deploymentVersion, signal);
    return tagged?.digest === manifest.digest;
  } catch (error) {
    log(`cannot see whether the tag was put: ${error instanceof Error ? error.message : error}`);
    return false;
  }
}

const CONFIRM_AGAIN_AFTER_MS = 200;
/** Less is no time to put a tag in. */
const SHORTEST_PUT_MS = 100;

/** How long the request may take, so that it has ended well before the lease does. */
async function timeWithinLease({ confirmLease, tagTimeoutMs, signal, log }: TagRequest): Promise<number> {
  for (let asked = 1; ; asked++) {
    const leftMs = await orAbort(confirmLease(signal), signal);
    const timeoutMs = Math.min(tagTimeoutMs, Math.floor(leftMs / 2));
    if (timeoutMs >= SHORTEST_PUT_MS) return timeoutMs;
    if (asked === 1) log(`the lease ends in ${leftMs} ms, too soon to put the tag: waiting for a longer one`);
    await sleep(CONFIRM_AGAIN_AFTER_MS, signal);
  }
}

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
  return retryInPlace({ policy, signal, log, attempt });
}

/** By tag only: deleting by digest would take the version's image along. */
export async function removeAttemptTag(
  tag: string,
  { job, registry, log, signal }: TagContext,
): Promise<void> {
  if (await registry.deleteTag(job.ecrRepo, tag, signal)) return;
  log(`the registry does not delete by tag, so ${job.ecrRepo}:${tag} stays`);
}
