/**
 * One run, from a job to its end: clone and sign in at once, build and push, tag, clean up. The end is a value,
 * whatever went wrong; clean-up runs on time of its own, so a cancelled run leaves as little behind as any other.
 */

import { orAbort } from "../../shared/abort.ts";
import type { Step } from "../../shared/job.ts";
import { InvalidRepositoryUrl, resolveRepositoryUrl } from "../../shared/repository-url.ts";
import type { BuildMemory } from "../build-cgroup/build-cgroup.ts";
import type { BuildRequest, PushedImage, RegistryCache } from "../buildkit/builder.ts";
import { cacheScope } from "../buildkit/cache-scope.ts";
import { refuseUnsupported } from "../buildkit/capabilities.ts";
import { nameBuildContext, writeDockerConfig } from "../buildkit/docker-config.ts";
import { buildArguments } from "../buildkit/options.ts";
import { buildPaths } from "../buildkit/paths.ts";
import type { BuildStep } from "../buildkit/progress/progress.ts";
import { cacheReferences, cacheRepositoryOf } from "../buildkit/registry-cache.ts";
import { writeSecrets } from "../buildkit/secret-files.ts";
import type { RunDisks } from "../disk/run-disks.ts";
import { DEFAULT_CLONE_LIMITS } from "../git/budget.ts";
import { resolve, type Source } from "../git/checkout.ts";
import { CheckoutCache } from "../git/checkout-cache.ts";
import { commitTime } from "../git/working-copy.ts";
import { bothOrNeither } from "../job/abort-group.ts";
import { StepFailure } from "../job/failure.ts";
import type { PipelineJob } from "../job/job.ts";
import { DEFAULT_RETRY, type RetryPolicy } from "../job/retry.ts";
import { attemptTag, createWorkspace, type Workspace } from "../job/workspace.ts";
import { type ChildEnvironment, childEnvironment } from "../process/child-environment.ts";
import { endProcessesOf } from "../process/end-processes.ts";
import { RedactedLog } from "../redaction/redacted-log.ts";
import { Redactor } from "../redaction/redactor.ts";
import type { RegistryAccess } from "../registry/access.ts";
import { type Manifest, RegistryClient } from "../registry/client.ts";
import { RegistryLogin } from "../registry/login.ts";
import {
  type ImageOrigin,
  type InputLabels,
  inputLabels,
  inputsHash,
  standardLabels,
} from "./image-labels.ts";
import { isRemembered, reuse } from "./image-reuse.ts";
import type { PipelineParts, RunReporter, RunStateName } from "./pipeline-parts.ts";
import { blamingDisk, blamingMemory, type RunEnd, unsuccessful } from "./run-end.ts";
import { shortened } from "./shortened.ts";
import { StepTimes } from "./step-times.ts";
import {
  type ExistingVersion,
  findVersion,
  isMadeAlready,
  type LeaseConfirmation,
  pushedManifest,
  putVersionTag,
  removeAttemptTag,
  type TagContext,
} from "./version-tag.ts";

const DEFAULT_TAG_TIMEOUT_MS = 5000;
const DEFAULT_CLEAN_UP_TIMEOUT_MS = 30_000;
/** BuildKit repeats a RUN step's whole script in its name and in its error, and gRPC takes 4 MB at once. */
const LONGEST_MESSAGE_CHARS = 16_384;
const NO_CHECKOUT_CACHE = new CheckoutCache({ workDir: "", limitBytes: 0, bootId: "" });

export async function runPipeline(
  job: PipelineJob,
  parts: PipelineParts,
  reporter: RunReporter,
  confirmLease: LeaseConfirmation,
  signal: AbortSignal,
): Promise<RunEnd> {
  const run = new PipelineRun(job, parts, reporter, confirmLease, signal);
  try {
    return run.succeeded(await run.steps());
  } catch (error) {
    return await run.ended(error);
  } finally {
    await run.cleanUp();
  }
}

/** Where the run is while it has not ended. */
interface Destination {
  readonly access: RegistryAccess;
  readonly login: RegistryLogin;
  readonly registry: RegistryClient;
  readonly existing: ExistingVersion | undefined;
}

class PipelineRun {
  readonly #job: PipelineJob;
  readonly #parts: PipelineParts;
  readonly #reporter: RunReporter;
  readonly #confirmLease: LeaseConfirmation;
  readonly #signal: AbortSignal;
  readonly #times = new StepTimes();
  readonly #redactor = new Redactor();
  readonly #output: RedactedLog;
  readonly #retry: RetryPolicy;
  readonly #disks: RunDisks | undefined;
  /** Undone in the reverse order, each whether or not the others could be. */
  readonly #cleanUps: ((signal: AbortSignal) => Promise<void>)[] = [];
  #step: Step = "clone";
  #memory: BuildMemory | undefined;
  #storing: Promise<void> | undefined;
  #commit: string | undefined;
  #inputsHash: string | undefined;
  #source: Source | undefined;
  #destination: Destination | undefined;
  #registryHost = "";

  constructor(
    job: PipelineJob,
    parts: PipelineParts,
    reporter: RunReporter,
    confirmLease: LeaseConfirmation,
    signal: AbortSignal,
  ) {
    this.#job = job;
    this.#parts = parts;
    this.#reporter = reporter;
    this.#confirmLease = confirmLease;
    this.#signal = signal;
    this.#retry = parts.retry ?? DEFAULT_RETRY;
    for (const secret of [job.gitToken, ...Object.values(job.secrets)]) this.#redactor.add(secret);
    this.#output = new RedactedLog(this.#redactor, (line) => reporter.log(line));
    this.#disks = parts.disks?.beginRun();
  }

  /** Gives the digest that the version's tag names in the end. */
  async steps(): Promise<string> {
    refuseUnsupported(this.#parts.builder, this.#job);
    const repositoryUrl = this.#repositoryUrl();
    const workspace = await this.#makeWorkspace();
    const environment = childEnvironment(this.#parts.hostEnvironment, workspace.home);

    const [source, destination] = await bothOrNeither(
      this.#signal,
      (signal) => this.#clone(repositoryUrl, workspace, environment, signal),
      (signal) => this.#signIn(workspace, signal),
    );
    const inputs = this.#inputs(repositoryUrl, source.commit);
    this.#inputsHash = inputsHash(inputs);
    if (isMadeAlready(destination.existing, inputs, destination.access, this.#job)) {
      this.#log(`${this.#imageUrl()} was made from this commit and these inputs before: nothing to build`);
      return destination.existing.digest;
    }
    const reused = await this.#reuse(destination, inputs);
    if (reused) return reused.digest;
    await source.checkOut();
    const committedAt = await commitTime(workspace.checkout, environment, this.#signal);
    const { commit } = source;
    const origin = { repositoryUrl, commit, version: this.#job.deploymentVersion, committedAt };
    const image = await this.#buildAndPush(workspace, environment, origin, inputs, destination);
    const manifest = await pushedManifest(image, this.#inRepository(destination.registry.during("push")));
    await this.#tag(destination, manifest);
    this.#log(`pushed ${this.#imageUrl()} as ${manifest.digest}`);
    return manifest.digest;
  }

  succeeded(imageDigest: string): RunEnd {
    return {
      ...this.#end(),
      status: "SUCCESS",
      imageUrl: this.#imageUrl(),
      imageDigest,
      inputs: this.#inputsHash,
    };
  }

  async ended(error: unknown): Promise<RunEnd> {
    const end = blamingMemory(unsuccessful(error, this.#signal, this.#step), this.#memory);
    const { status, failure } = blamingDisk(end, await this.#disks?.full());
    const message = shortened(this.#redactor.clean(failure.message), LONGEST_MESSAGE_CHARS);
    this.#log(`ERROR: ${message}`);
    return { ...this.#end(), status, failure: { ...failure, message } };
  }

  /** The run's last act. What goes on in its folder keeps that for so long, and nobody waits for it. */
  async cleanUp(): Promise<void> {
    this.#disks?.end();
    const storing = this.#storing;
    const cleanUp = (report: (problem: string) => void) => this.#undoAll(report);
    if (storing) this.#parts.afterwork.add({ jobId: this.#job.jobId, storing, cleanUp });
    else await cleanUp((problem) => this.#log(`clean-up is not complete: ${problem}`));
    this.#output.end();
  }

  async #undoAll(report: (problem: string) => void): Promise<void> {
    const signal = AbortSignal.timeout(this.#parts.cleanUpTimeoutMs ?? DEFAULT_CLEAN_UP_TIMEOUT_MS);
    for (const undo of this.#cleanUps.reverse()) {
      try {
        await undo(signal);
      } catch (error) {
        // The run's end stands; what stays behind is only untidy.
        report(error instanceof Error ? error.message : String(error));
      }
    }
  }

  #repositoryUrl(): string {
    try {
      return resolveRepositoryUrl(this.#job.repoUrl, this.#parts.git);
    } catch (error) {
      if (!(error instanceof InvalidRepositoryUrl)) throw error;
      throw new StepFailure({ code: "INVALID_JOB", step: "clone", message: error.message, cause: error });
    }
  }

  async #makeWorkspace(): Promise<Workspace> {
    const { workDir, incarnation } = this.#parts;
    const workspace = await createWorkspace(workDir, incarnation, this.#job);
    this.#cleanUps.push(workspace.remove, async (signal) => {
      await endProcessesOf([workspace.path], signal);
      await this.#source?.cacheCheckout();
    });
    return workspace;
  }

  #inputs(repositoryUrl: string, commit: string): InputLabels {
    return inputLabels({ ...this.#job, repositoryUrl, commit });
  }

  #clone(
    repositoryUrl: string,
    workspace: Workspace,
    environment: ChildEnvironment,
    signal: AbortSignal,
  ): Promise<Source> {
    this.#reporter.state("CLONING");
    return this.#times.during("clone", async () => {
      const {
        git: allowed,
        cloneLimits: limits = DEFAULT_CLONE_LIMITS,
        checkoutCache = NO_CHECKOUT_CACHE,
      } = this.#parts;
      const source = await resolve({
        job: this.#job,
        repositoryUrl,
        allowed,
        workspace,
        environment,
        checkoutCache,
        limits,
        needsDefaultBranch: cacheRepositoryOf(this.#parts) !== undefined,
        retry: this.#retry,
        log: this.#log,
        signal,
      });
      this.#source = source;
      this.#commit = source.commit;
      if (!this.#needsNoFiles(this.#inputs(repositoryUrl, source.commit))) await source.checkOut();
      return source;
    });
  }

  /** As far as is known yet: signing in may take longer than the commit takes to be known. */
  #needsNoFiles(inputs: InputLabels): boolean {
    if (isRemembered(this.#job, inputs)) return true;
    const destination = this.#destination;
    return (
      destination !== undefined && isMadeAlready(destination.existing, inputs, destination.access, this.#job)
    );
  }

  async #signIn(workspace: Workspace, signal: AbortSignal): Promise<Destination> {
    this.#reporter.state("AUTHENTICATING");
    const job = this.#job;
    const request = { job, log: this.#log, signal };
    const access = await this.#times.during("auth", () =>
      orAbort(this.#parts.authenticator.authenticate(request), signal),
    );
    this.#registryHost = access.host;
    const onRenewed = (renewed: RegistryAccess) => this.#useCredentials(workspace, renewed);
    await onRenewed(access);
    const login = new RegistryLogin(access, { onRenewed, log: this.#log });
    const registry = new RegistryClient(login, "authenticate");
    const existing = await findVersion({ ...this.#inRepository(registry), signal });
    this.#destination = { access, login, registry, existing };
    return this.#destination;
  }

  async #useCredentials(workspace: Workspace, access: RegistryAccess): Promise<void> {
    this.#redactor.add(access.credentials?.password);
    const { proxies } = buildArguments(this.#job.buildArgs);
    await writeDockerConfig(workspace.dockerConfig, access, proxies);
  }

  async #buildAndPush(
    workspace: Workspace,
    environment: ChildEnvironment,
    origin: ImageOrigin,
    inputs: InputLabels,
    { access, login, registry }: Destination,
  ): Promise<PushedImage> {
    const { builder } = this.#parts;
    this.#enter("build", "BUILDING");
    this.#memory = this.#parts.buildCgroup?.beginBuild();
    this.#log(`building with ${builder.description}`);
    const paths = await buildPaths(workspace.checkout, this.#job);
    await nameBuildContext(workspace.dockerConfig, [this.#source?.checkoutId ?? "", ...paths.inCheckout]);
    const request: BuildRequest = {
      job: this.#job,
      paths,
      labels: { ...standardLabels(origin), ...this.#job.labels, ...inputs },
      imageName: `${access.host}/${this.#job.ecrRepo}`,
      attemptTag: attemptTag(this.#job),
      network: this.#parts.buildNetwork,
      cgroupParent: this.#parts.buildCgroup?.path,
      cacheScope: cacheScope(this.#job, origin.repositoryUrl, this.#parts.cacheSharing),
      registryCache: await this.#registryCache(access.host, origin.repositoryUrl),
      workspace,
      environment,
      retry: this.#retry,
      log: this.#log,
      onStep: (step) => this.#reporter.step(this.#redacted(step)),
      onPushing: () => this.#pushing(),
      signal: this.#signal,
    };
    this.#cleanUps.push((signal) => builder.removeLeftovers(request, signal));
    this.#times.begin("build");
    await writeSecrets(request);
    const image = await login.pushing(() => builder.buildAndPush(request), this.#signal);
    this.#storing = image.afterwards;
    this.#pushing();
    if (image.tagged) {
      const pushed = this.#inRepository(registry);
      this.#cleanUps.push((signal) => removeAttemptTag(request.attemptTag, { ...pushed, signal }));
    }
    return image;
  }

  async #registryCache(registryHost: string, repositoryUrl: string): Promise<RegistryCache | undefined> {
    const repository = cacheRepositoryOf(this.#parts);
    if (repository === undefined) return undefined;
    const defaultBranch = await this.#source?.defaultBranch();
    const cached = { ...this.#job, repositoryUrl, defaultBranch };
    const references = cacheReferences(`${registryHost}/${repository}`, cached);
    return { ...references, storing: this.#parts.afterwork.signal };
  }

  async #reuse(destination: Destination, inputs: InputLabels): Promise<Manifest | undefined> {
    const { registry } = destination;
    const tag = (manifest: Manifest) => this.#tag(destination, manifest);
    const request = { job: this.#job, registry, log: this.#log, signal: this.#signal, tag };
    const reused = await reuse(request, inputs);
    if (reused) this.#log(`tagged it as ${this.#imageUrl()}`);
    return reused;
  }

  #pushing(): void {
    if (this.#step === "push") return;
    this.#enter("push", "PUSHING");
    this.#times.end("build");
    this.#times.begin("push");
  }

  async #tag({ registry }: Destination, manifest: Manifest): Promise<void> {
    this.#step = "tag";
    await putVersionTag({
      ...this.#inRepository(registry.during("tag")),
      manifest,
      confirmLease: this.#confirmLease,
      tagTimeoutMs: this.#parts.tagTimeoutMs ?? DEFAULT_TAG_TIMEOUT_MS,
    });
    this.#times.end("push");
  }

  #inRepository(registry: RegistryClient): TagContext {
    return { job: this.#job, registry, retry: this.#retry, log: this.#log, signal: this.#signal };
  }

  #enter(step: Step, state: RunStateName): void {
    this.#step = step;
    this.#reporter.state(state);
  }

  #imageUrl(): string {
    return `${this.#registryHost}/${this.#job.ecrRepo}:${this.#job.deploymentVersion}`;
  }

  #end() {
    return {
      commit: this.#commit,
      timingsMs: this.#times.inMs(),
      startedAt: this.#times.startedAt,
      finishedAt: new Date(),
    };
  }

  /** A step's name and error are made of what the Dockerfile and the step say. */
  #redacted({ name, end, ...step }: BuildStep): BuildStep {
    const clean = (text: string) => shortened(this.#redactor.clean(text), LONGEST_MESSAGE_CHARS);
    return { ...step, name: clean(name), end: end && { ...end, error: clean(end.error) } };
  }

  readonly #log = (line: string): void => this.#output.add(line);
}
