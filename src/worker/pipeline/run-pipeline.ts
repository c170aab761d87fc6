/**
 * One run, from a job to its end. The end is a value, whatever went wrong; clean-up has its own time limit, so a
 * cancelled run leaves as little behind as any other.
 */
import { refuseUnsupported } from "../buildkit/capabilities.ts";
import type { RunDisks } from "../disk/run-disks.ts";
import { commitTime } from "../git/working-copy.ts";
import { bothOrNeither } from "../job/abort-group.ts";
import { StepFailure } from "../job/failure.ts";
import type { PipelineJob } from "../job/job.ts";
import { createWorkspace, type Workspace } from "../job/workspace.ts";
import { childEnvironment } from "../process/child-environment.ts";
import { createControlGroup } from "../process/control-group.ts";
import { isCacheRepository } from "../registry/cache-repository.ts";
import type { Manifest } from "../registry/client.ts";
import { buildImage } from "./build-image.ts";
import { cloneRepository, repositoryUrlOf } from "./clone-repository.ts";
import { reuse } from "./image-reuse.ts";
import type { PipelineParts, RunReporter } from "./pipeline-parts.ts";
import { RunContext } from "./run-context.ts";
import { blamingBuilder, blamingDisk, mayHaveLostBuilder, type RunEnd, unsuccessful } from "./run-end.ts";
import { MAX_MESSAGE_CHARS, shortened } from "./shortened.ts";
import { type Destination, signIn } from "./sign-in.ts";
import {
  isMadeAlready,
  type LeaseConfirmation,
  pushedManifest,
  putVersionTag,
  UNPROVEN,
} from "./version-tag.ts";
import type { WantedImage } from "./wanted-image.ts";

const DEFAULT_TAG_TIMEOUT_MS = 5000;
const DEFAULT_CLEAN_UP_TIMEOUT_MS = 30_000;

/** Never rejects: a failure is an end like any other. */
export async function runPipeline(
  job: PipelineJob,
  parts: PipelineParts,
  reporter: RunReporter,
  confirmLease: LeaseConfirmation,
  signal: AbortSignal,
): Promise<RunEnd> {
  const run = new RunContext({ job, parts, reporter, confirmLease, signal });
  const disks = parts.disks?.beginRun();
  try {
    await run.maskSecrets();
    return succeeded(run, await makeImage(run));
  } catch (error) {
    return await failed(run, error, disks);
  } finally {
    disks?.end();
    await cleanUp(run);
    run.endOutput();
  }
}

/** The image that has the version's tag in the end. */
interface TaggedImage {
  readonly url: string;
  readonly digest: string;
  readonly wanted: WantedImage;
}

async function makeImage(run: RunContext): Promise<TaggedImage> {
  const { job } = run;
  refuseCacheRepository(run);
  refuseUnsupported(run.parts.builder, job);
  const repositoryUrl = repositoryUrlOf(run);
  const workspace = await makeWorkspace(run);
  const environment = childEnvironment(run.parts.hostEnvironment, workspace.home);
  const controlGroup = await createControlGroup(workspace.path);
  const host = { repositoryUrl, workspace, environment, controlGroup };

  run.enter("clone", "CLONING");
  const [destination, source] = await bothOrNeither(
    run.signal,
    (signal) => signIn(run, workspace, signal),
    (signal, signingIn) => cloneRepository(run, { ...host, signingIn }, signal),
  );
  const { existing } = destination;
  const wanted = run.wantedImage(repositoryUrl, source.commit);
  const url = `${destination.access.host}/${job.ecrRepo}:${job.deploymentVersion}`;

  if (existing && isMadeAlready(existing, wanted, destination.access, job)) {
    run.log(`${url} was made from this commit and these inputs before: nothing to build`);
    return { url, digest: existing.digest, wanted };
  }
  if (existing && wanted.seemsToBe(existing.labels)) run.log(`${url} ${UNPROVEN}: building`);
  const reused = await reuseImage(run, destination, wanted, url);
  if (reused) return { url, digest: reused.digest, wanted };

  await source.checkOut();
  const committedAt = await commitTime(workspace.checkout, environment, run.signal);
  const { labels } = wanted;
  const inputs = { ...host, source, committedAt, destination, labels };
  const image = await buildImage(run, inputs);
  const manifest = await pushedManifest(image, labels, run.inRepository(destination.registry.during("push")));
  await tagVersion(run, destination, manifest);
  run.log(`pushed ${url} as ${manifest.digest}`);
  return { url, digest: manifest.digest, wanted };
}

/** Its tags are those of all tenants' caches. @throws StepFailure with code INVALID_JOB */
function refuseCacheRepository({ job, parts }: RunContext): void {
  const { cacheRepository } = parts;
  if (cacheRepository === undefined || !isCacheRepository(cacheRepository, job.ecrRepo)) return;
  const message = `ecr_repo ${job.ecrRepo} is the repository of the build cache (BLACKTREE_CACHE_REPO); expected another repository`;
  throw new StepFailure({ code: "INVALID_JOB", step: "authenticate", message });
}

async function makeWorkspace({ job, parts, cleanUp }: RunContext): Promise<Workspace> {
  const workspace = await createWorkspace(parts.workDir, parts.incarnation, job);
  cleanUp.removeWorkspace(workspace);
  return workspace;
}

async function reuseImage(
  run: RunContext,
  destination: Destination,
  wanted: WantedImage,
  url: string,
): Promise<Manifest | undefined> {
  const tag = (manifest: Manifest) => tagVersion(run, destination, manifest);
  const reused = await reuse({ ...run.inRepository(destination.registry), job: run.job, tag }, wanted);
  if (reused) run.log(`tagged it as ${url}`);
  return reused;
}

async function tagVersion(run: RunContext, { registry }: Destination, manifest: Manifest): Promise<void> {
  run.enter("tag");
  await putVersionTag({
    ...run.inRepository(registry.during("tag")),
    manifest,
    confirmLease: run.confirmLease,
    tagTimeoutMs: run.parts.tagTimeoutMs ?? DEFAULT_TAG_TIMEOUT_MS,
  });
  run.times.end("push");
}

function succeeded(run: RunContext, { url, digest, wanted }: TaggedImage): RunEnd {
  const { inputsHash: inputs } = wanted;
  return { ...endOf(run), status: "SUCCESS", imageUrl: url, imageDigest: digest, inputs };
}

async function failed(run: RunContext, error: unknown, disks: RunDisks | undefined): Promise<RunEnd> {
  const onFullDisk = blamingDisk(unsuccessful(error, run.signal, run.step), await disks?.full());
  const problem = mayHaveLostBuilder(onFullDisk) ? await run.parts.builderProblem?.() : undefined;
  const { status, failure, hasLostBuilder } = blamingBuilder(onFullDisk, problem);
  const message = shortened(run.redactor.clean(failure.message), MAX_MESSAGE_CHARS);
  run.log(`ERROR: ${message}`);
  const isUncounted = hasLostBuilder && !run.hasBegunBuilding;
  return { ...endOf(run), status, failure: { ...failure, message }, isUncounted };
}

function endOf({ commit, times }: RunContext) {
  return { commit, timingsMs: times.inMs(), startedAt: times.startedAt, finishedAt: new Date() };
}

/** The run's last act. A cache export that still uses the run's folder delays clean-up, but not the result. */
async function cleanUp({ job, parts, cleanUp, log }: RunContext): Promise<void> {
  const timeoutMs = parts.cleanUpTimeoutMs ?? DEFAULT_CLEAN_UP_TIMEOUT_MS;
  const undo = (report: (problem: string) => void) => cleanUp.run(timeoutMs, report);
  const { cacheExport } = cleanUp;
  if (cacheExport) parts.backgroundWork.add({ jobId: job.jobId, cacheExport, cleanUp: undo });
  else await undo((problem) => log(`clean-up is not complete: ${problem}`));
}
