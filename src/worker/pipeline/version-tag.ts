/**
 * The tag of the job's version is the commit point. Only putVersionTag puts it, only with a confirmed lease, and only
 * while that lease outlasts the request. Without the tag, no consumer uses what a run has pushed.
 */

import { orAbort, sleep } from "../../shared/abort.ts";
import type { PushedImage } from "../buildkit/builder.ts";
import { StepFailure } from "../job/failure.ts";
import type { PipelineJob } from "../job/job.ts";
import { type RetryPolicy, retryInPlace } from "../job/retry.ts";
import type { RegistryAccess } from "../registry/access.ts";
import type { Manifest, RegistryClient } from "../registry/client.ts";
import type { ReservedLabels } from "./image-labels.ts";
import type { ExistingImage, WantedImage } from "./wanted-image.ts";

/**
 * Resolves with the remaining time of the lease, in ms. Waits while no orchestrator is reachable.
 * @throws LeaseLost when the lease is no longer held
 */
export type LeaseConfirmation = (signal: AbortSignal) => Promise<number>;

export interface TagContext {
  readonly job: Pick<PipelineJob, "ecrRepo" | "deploymentVersion">;
  readonly registry: RegistryClient;
  readonly retry: RetryPolicy;
  readonly log: (line: string) => void;
  readonly signal: AbortSignal;
}

/** The image that already has the job's version tag. */
export function findVersion({
  job,
  registry,
  retry,
  log,
  signal,
}: TagContext): Promise<ExistingImage | undefined> {
  const attempt = async () => {
    const manifest = await registry.getManifest(job.ecrRepo, job.deploymentVersion, signal);
    if (!manifest) return undefined;
    const labels = await registry.getImageLabels(job.ecrRepo, manifest, signal);
    return { digest: manifest.digest, labels: labels ?? {} };
  };
  return retryInPlace({ policy: retry, signal, log, attempt });
}

/**
 * Returns whether this installation built the version's existing image from the job's inputs.
 * @throws StepFailure with code TAG_IMMUTABLE when another image has the version's tag, which cannot be moved
 */
export function isMadeAlready(
  existing: ExistingImage,
  wanted: WantedImage,
  access: RegistryAccess,
  { deploymentVersion, ecrRepo }: TagContext["job"],
): boolean {
  if (wanted.isProven(existing)) return true;
  if (access.tagMutability !== "immutable" || wanted.mayBecome(existing)) return false;
  const origin = wanted.seemsToBe(existing.labels) ? UNPROVEN : "was made from other inputs";
  const message = `${ecrRepo}:${deploymentVersion} exists, ${origin}, and the repository's tags are immutable`;
  throw new StepFailure({ code: "TAG_IMMUTABLE", step: "tag", message });
}

/** Completes a sentence about an image whose labels state the job's inputs. */
export const UNPROVEN =
  "has this job's labels but neither a record nor a valid HMAC (BLACKTREE_REUSE_KEY) to prove that Blacktree built it";

export interface TagRequest extends TagContext {
  readonly manifest: Manifest;
  readonly confirmLease: LeaseConfirmation;
  /** Timeout of the request that puts the tag, in ms. Half of the lease's remaining time is used if that is less. */
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
    // The run cannot be cancelled any more: whether the tag was put has to be known.
    await registry.putManifest(job.ecrRepo, job.deploymentVersion, manifest, timeoutMs);
  } catch (error) {
    if (await isPut(request)) return;
    throw error;
  }
}

/** The registry may have put the tag although its response was lost. */
async function isPut({ registry, job, manifest, tagTimeoutMs, log }: TagRequest): Promise<boolean> {
  try {
    const signal = AbortSignal.timeout(tagTimeoutMs);
    const tagged = await registry.getManifest(job.ecrRepo, job.deploymentVersion, signal);
    return tagged?.digest === manifest.digest;
  } catch (error) {
    log(`cannot check whether the tag was put: ${error instanceof Error ? error.message : error}`);
    return false;
  }
}

const CONFIRM_AGAIN_AFTER_MS = 200;
/** Minimum time for a request that puts a tag. */
const MIN_PUT_MS = 100;

/** Timeout of the request, so that it ends well before the lease does. */
async function timeWithinLease({ confirmLease, tagTimeoutMs, signal, log }: TagRequest): Promise<number> {
  for (let asked = 1; ; asked++) {
    const leftMs = await orAbort(confirmLease(signal), signal);
    const timeoutMs = Math.min(tagTimeoutMs, Math.floor(leftMs / 2));
    if (timeoutMs >= MIN_PUT_MS) return timeoutMs;
    if (asked === 1)
      log(`the lease ends in ${leftMs} ms, not enough to put the tag: waiting for its renewal`);
    await sleep(CONFIRM_AGAIN_AFTER_MS, signal);
  }
}

/**
 * Checks that the registry has the pushed image with the job's labels, and returns the manifest that gets the version's
 * tag.
 */
export function pushedManifest(
  { digest }: PushedImage,
  labels: ReservedLabels,
  { job, registry, retry: policy, log, signal }: TagContext,
): Promise<Manifest> {
  const attempt = async () => {
    const manifest = await registry.getManifest(job.ecrRepo, digest, signal);
    const found = manifest && (await registry.getImageLabels(job.ecrRepo, manifest, signal));
    if (found) {
      refuseOtherLabels(found, labels);
      return manifest;
    }
    const message = `the registry does not have ${digest}, which docker reported as pushed`;
    throw new StepFailure({ code: "PUSH_FAILED", step: "push", message, retryable: true });
  };
  return retryInPlace({ policy, signal, log, attempt });
}

/**
 * A frontend (`# syntax=`) may set other labels than those that BuildKit passes to it, for example those of another
 * job's image with their HMAC. Without labels, which some frontends do not support, an image claims nothing.
 */
function refuseOtherLabels(found: ExistingImage["labels"], labels: ReservedLabels): void {
  const wrong = Object.entries(labels)
    .filter(([name, value]) => found[name] !== undefined && found[name] !== value)
    .map(([name]) => name);
  if (wrong.length === 0) return;
  const message = `the build has set reserved labels to other values than this job's: ${wrong.join(", ")}; the Dockerfile's frontend ("# syntax=") must apply the labels that BuildKit passes to it, or set none that begin with io.blacktree.`;
  throw new StepFailure({ code: "BUILD_FAILED", step: "build", message });
}

/** Deletes by tag: deleting by digest would also delete the version's image. */
export async function removeAttemptTag(
  tag: string,
  { job, registry, log, signal }: TagContext,
): Promise<void> {
  if (await registry.deleteTag(job.ecrRepo, tag, signal)) return;
  log(`the registry cannot delete by tag: ${job.ecrRepo}:${tag} is left behind`);
}
