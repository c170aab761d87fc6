import { readdir } from "node:fs/promises";
import { join } from "node:path";
import pino from "pino";
import type { ImageBuilder } from "../../../../src/worker/buildkit/builder.ts";
import { detectBuilder } from "../../../../src/worker/buildkit/builders/detect.ts";
import type { BuildStep } from "../../../../src/worker/buildkit/progress/progress.ts";
import type { RunAborted } from "../../../../src/worker/job/cancellation.ts";
import type { PipelineJob } from "../../../../src/worker/job/job.ts";
import { BackgroundWork } from "../../../../src/worker/pipeline/background-work.ts";
import type { PipelineParts, RunStateName } from "../../../../src/worker/pipeline/pipeline-parts.ts";
import type { RunEnd } from "../../../../src/worker/pipeline/run-end.ts";
import { runPipeline } from "../../../../src/worker/pipeline/run-pipeline.ts";
import type { LeaseConfirmation } from "../../../../src/worker/pipeline/version-tag.ts";
import type { HostEnvironment } from "../../../../src/worker/process/child-environment.ts";
import { StaticRegistryAuthenticator } from "../../../../src/worker/registry/static-registry.ts";
import { sampleRepository } from "../../../support/machine/sample-repository.ts";
import { makeTempDir } from "../../../support/machine/temp-dir.ts";
import { type WaitForOptions, waitFor } from "../../../support/machine/wait-for.ts";
import type { DockerEngine } from "../../../support/servers/docker-engines.ts";
import { type GitServer, startGitServer } from "../../../support/servers/git-server.ts";
import { type Registry, startRegistry } from "../../../support/servers/registry.ts";
import { type RegistryProxy, startRegistryProxy } from "../../../support/servers/registry-proxy.ts";
import { type BuildSite, type BuildSiteOptions, startBuildSite } from "../buildkit/build-site.ts";

/** A running pipeline, and its output so far. */
export interface StartedRun {
  readonly job: PipelineJob;
  readonly states: readonly RunStateName[];
  readonly lines: readonly string[];
  readonly steps: readonly BuildStep[];
  readonly end: Promise<RunEnd>;
  abort(reason: RunAborted): void;
  waitForLine(pattern: RegExp, options?: Partial<WaitForOptions>): Promise<void>;
}

export interface RunOptions {
  readonly parts?: Partial<PipelineParts>;
  readonly confirmLease?: LeaseConfirmation;
}

export interface PipelineBench {
  readonly git: GitServer;
  readonly registry: Registry;
  /** The registry that jobs push to. */
  readonly proxy: RegistryProxy;
  readonly engine: DockerEngine;
  readonly site: BuildSite;
  readonly hostEnvironment: HostEnvironment;
  readonly builder: ImageBuilder;
  readonly workDir: string;
  /** A unique name for repositories and versions. */
  unique(prefix: string): string;
  /** A repository whose image prints a unique text, so that no two tests share an image. */
  createSample(options?: Parameters<typeof sampleRepository>[0]): Promise<{ name: string; commit: string }>;
  start(job: Partial<PipelineJob>, options?: RunOptions): StartedRun;
  /** Folders of runs that were not removed. */
  leftFolders(): Promise<string[]>;
  stop(): Promise<void>;
}

const BUILD_LEASE_MS = 60_000;
/** Longer than a busy machine needs: a repeated request would count as a second one. */
const TAG_TIMEOUT_MS = 30_000;
const notAborted = () => new AbortController().signal;

export async function startPipelineBench(siteOptions: BuildSiteOptions): Promise<PipelineBench> {
  const dir = await makeTempDir("pipeline");
  const [git, registry, site] = await Promise.all([
    startGitServer(),
    startRegistry(),
    startBuildSite(siteOptions),
  ]);
  const proxy = await startRegistryProxy(registry);
  const hostEnvironment = { ...process.env, ...site.environment, SECRET_OF_THE_HOST: "never passed on" };
  const { engine, location, driverOptions } = site;
  const workDir = dir.path;
  const signal = notAborted();
  const builder = await detectBuilder({
    hostEnvironment,
    workDir,
    scratchParent: workDir,
    location,
    driverOptions,
    signal,
  });
  const { username, password } = registry;
  const authenticator = new StaticRegistryAuthenticator({
    registry: proxy.url,
    credentials: { username, password },
  });
  const backgroundWork = new BackgroundWork(pino({ level: "silent" }));
  const parts: PipelineParts = {
    workDir,
    incarnation: "bench",
    git: { baseUrl: git.baseUrl, allowedHosts: [] },
    builder,
    authenticator,
    hostEnvironment,
    buildNetwork: "default",
    cacheSharing: "all",
    backgroundWork,
    retry: { tries: 3, initialDelayMs: 20 },
    tagTimeoutMs: TAG_TIMEOUT_MS,
  };
  const unique = (prefix: string) => `${prefix}-${crypto.randomUUID().slice(0, 8)}`;

  return {
    git,
    registry,
    proxy,
    engine,
    site,
    hostEnvironment,
    builder,
    workDir,
    unique,
    async createSample(options = {}) {
      const name = unique("acme/app");
      const files = await sampleRepository({ greeting: name, ...options });
      return { name, commit: await git.createRepository(name, files) };
    },
    start: (job, options) => startRun({ ...minimalJob(unique), ...job }, parts, options),
    async leftFolders() {
      const runs = join(dir.path, "runs", parts.incarnation);
      return readdir(runs).catch(() => []);
    },
    async stop() {
      await backgroundWork.stop();
      await Promise.all([git.stop(), proxy.stop(), site.stop()]);
      await registry.stop();
      await dir.remove();
    },
  };
}

export function minimalJob(unique: PipelineBench["unique"]): PipelineJob {
  return {
    jobId: unique("job"),
    attempt: 1,
    repoUrl: "acme/app",
    branch: "main",
    deploymentVersion: unique("v"),
    tenant: "acme",
    awsAccount: "123456789012",
    ecrRepo: unique("images"),
    region: "us-east-1",
    buildArgs: {},
    labels: {},
    gitDepth: 1,
    gitTags: false,
    provenance: false,
    platforms: [],
    secrets: {},
    registryAuths: {},
  };
}

export function startRun(job: PipelineJob, parts: PipelineParts, options: RunOptions = {}): StartedRun {
  const states: RunStateName[] = [];
  const lines: string[] = [];
  const steps: BuildStep[] = [];
  const abort = new AbortController();
  const reporter = {
    state: (state: RunStateName) => void states.push(state),
    log: (line: string) => void lines.push(line),
    step: (step: BuildStep) => void steps.push(step),
  };
  const confirmLease = options.confirmLease ?? (async () => BUILD_LEASE_MS);
  const end = runPipeline(job, { ...parts, ...options.parts }, reporter, confirmLease, abort.signal);
  return {
    job,
    states,
    lines,
    steps,
    end,
    abort: (reason) => abort.abort(reason),
    async waitForLine(pattern, { timeoutMs = 60_000, what = `a log line matching ${pattern}` } = {}) {
      await waitFor(() => lines.some((line) => pattern.test(line)), { timeoutMs, what });
    },
  };
}
