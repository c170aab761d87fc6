/** Builds the image and pushes it, without the version's tag. */
import type { BuildMemory } from "../build-cgroup/build-cgroup.ts";
import type { BuildRequest, PushedImage, RegistryCache } from "../buildkit/builder.ts";
import { cacheScope } from "../buildkit/cache-scope.ts";
import { notRunBy } from "../buildkit/capabilities.ts";
import { nameBuildContext } from "../buildkit/docker-config.ts";
import { endBySignal, endOfRunStep } from "../buildkit/failure.ts";
import { hostPathRemover } from "../buildkit/host-paths.ts";
import { buildPaths } from "../buildkit/paths.ts";
import type { BuildStep } from "../buildkit/progress/progress.ts";
import { cacheReferences, cacheRepositoryOf } from "../buildkit/registry-cache.ts";
import { writeSecrets } from "../buildkit/secret-files.ts";
import { writePolicyOf } from "../buildkit/source-policy.ts";
import type { Source } from "../git/checkout.ts";
import { StepFailure } from "../job/failure.ts";
import { attemptTag, type Workspace } from "../job/workspace.ts";
import type { ChildEnvironment } from "../process/child-environment.ts";
import { cacheRepositoryFor } from "../registry/cache-repository.ts";
import { argumentTransportOf } from "./argument-transport.ts";
import { findBaseLogins, usable } from "./base-logins.ts";
import { type ReservedLabels, standardLabels } from "./image-labels.ts";
import { blamingLogin, FailedPull } from "./refused-pull.ts";
import type { RunContext } from "./run-context.ts";
import { MAX_MESSAGE_CHARS, shortened } from "./shortened.ts";
import type { Destination } from "./sign-in.ts";
import { removeAttemptTag } from "./version-tag.ts";

export interface BuildInputs {
  readonly repositoryUrl: string;
  readonly workspace: Workspace;
  readonly environment: ChildEnvironment;
  readonly controlGroup: string | undefined;
  /** Checked out. */
  readonly source: Source;
  /** Undefined when the commit states no valid time. */
  readonly committedAt: Date | undefined;
  readonly destination: Destination;
  readonly labels: ReservedLabels;
}

/** @throws StepFailure */
export async function buildImage(run: RunContext, inputs: BuildInputs): Promise<PushedImage> {
  const { job, parts, cleanUp } = run;
  const { login, registry, dockerConfig } = inputs.destination;
  const { builder } = parts;
  run.enter("build", "BUILDING");
  const memory = parts.buildCgroup?.beginBuild();
  run.log(`building with ${builder.description}`);
  const failedPull = new FailedPull();
  const request = await buildRequest(run, inputs, failedPull);
  cleanUp.add((signal) => builder.cleanUp(request, signal));
  const baseLogins = await findBaseLogins(run, request.paths.dockerfile);
  await dockerConfig.setBaseLogins(usable(baseLogins));
  run.times.begin("build");
  await writeSecrets(request);
  await writePolicyOf(request);
  let image: PushedImage;
  try {
    image = await login.pushing(() => builder.buildAndPush(request), run.signal);
  } catch (error) {
    const { host } = inputs.destination.access;
    const explained = explainingStepsEnd(error, { memory, notRun: notRunBy(builder, job) });
    throw blamingLogin(explained, failedPull, baseLogins, host);
  }
  cleanUp.waitFor(image.cacheExport);
  enterPush(run);
  if (image.tagged) {
    const pushed = run.inRepository(registry);
    cleanUp.add((signal) => removeAttemptTag(attemptTag(job), { ...pushed, signal }));
  }
  return image;
}

async function buildRequest(
  run: RunContext,
  inputs: BuildInputs,
  failedPull: FailedPull,
): Promise<BuildRequest> {
  const { job, parts } = run;
  const { repositoryUrl, workspace, environment, controlGroup, source, committedAt, labels } = inputs;
  const { host } = inputs.destination.access;
  const paths = await buildPaths(workspace, job);
  await nameBuildContext(workspace.dockerConfig, [source.checkoutId, ...paths.inCheckout]);
  const withoutHostPaths = await hostPathRemover(workspace);
  const origin = { repositoryUrl, commit: source.commit, version: job.deploymentVersion, committedAt };
  return {
    job,
    paths,
    labels: { ...standardLabels(origin), ...job.labels, ...labels },
    imageName: `${host}/${job.ecrRepo}`,
    attemptTag: attemptTag(job),
    network: parts.buildNetwork,
    argumentTransport: argumentTransportOf(run),
    cgroupParent: parts.buildCgroup?.path,
    cacheScope: cacheScope(job, repositoryUrl, parts.cacheSharing),
    registryCache: await registryCache(run, inputs),
    workspace,
    environment,
    controlGroup,
    retry: run.retry,
    askDelay: () => inputs.destination.registry.throttling(job.ecrRepo, attemptTag(job), run.signal),
    log: run.log,
    output: (line) => {
      failedPull.note(line);
      run.output({ ...line, text: withoutHostPaths(line.text) });
    },
    onStep: (step) => run.reporter.step(redacted(run, step)),
    onInstruction: () => run.beganBuilding(),
    onPushing: () => enterPush(run),
    signal: run.signal,
  };
}

async function registryCache(
  { job, parts }: RunContext,
  { repositoryUrl, source, destination }: BuildInputs,
): Promise<RegistryCache | undefined> {
  const repository = cacheRepositoryOf(parts);
  if (repository === undefined) return undefined;
  const cached = { ...job, repositoryUrl, defaultBranch: await source.defaultBranch() };
  const references = cacheReferences(
    `${destination.access.host}/${cacheRepositoryFor(repository, job.tenant)}`,
    cached,
  );
  return { ...references, exportSignal: parts.backgroundWork.signal };
}

/** Builders report the beginning of the push more than once, or not at all. */
function enterPush(run: RunContext): void {
  if (run.step === "push") return;
  run.enter("push", "PUSHING");
  run.times.end("build");
  run.times.begin("push");
}

/** The name and the error of a step contain text of the Dockerfile and of the step's output. */
function redacted({ redactor }: RunContext, { name, end, ...step }: BuildStep): BuildStep {
  const clean = (text: string) => shortened(redactor.clean(text), MAX_MESSAGE_CHARS);
  return { ...step, name: clean(name), end: end && { ...end, error: clean(end.error) } };
}

interface StepCircumstances {
  readonly memory: BuildMemory | undefined;
  /** Platforms of the job whose programs the builder cannot run. */
  readonly notRun: readonly string[];
}

/** Docker reports only the exit status of a step that a signal ended, or the kernel for memory, or of the shell around it. */
export function explainingStepsEnd(error: unknown, { memory, notRun }: StepCircumstances): unknown {
  if (!(error instanceof StepFailure) || error.failure.code !== "BUILD_FAILED") return error;
  const { failure } = error;
  const stepsEnd = endOfRunStep(failure.message);
  if (stepsEnd === undefined) return error;
  const reasons = [
    memory?.oomMessage(stepsEnd) ?? endBySignal(stepsEnd),
    // The kernel's "exec format error" is only in the step's output.
    ...(notRun.length > 0
      ? [
          `steps on ${notRun.join(", ")} need an emulator, or a worker of that platform: this worker has neither`,
        ]
      : []),
  ].filter((reason) => reason !== undefined);
  if (reasons.length === 0) return error;
  return new StepFailure({ ...failure, message: `${failure.message} (${reasons.join("; ")})`, cause: error });
}
