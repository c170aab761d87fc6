/**
 * The servers for both sides: one git server, one registry with a password, one ECR, and an engine for each side, all
 * of the same kind, so that neither side can use cached data of the other.
 */
import { readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { compiledBinaries } from "../../support/blacktree/binaries.ts";
import {
  type Deployment,
  type OrchestratorProcess,
  type ShownWorker,
  shownWorkers,
  startDeployment,
  type WorkerProcess,
} from "../../support/blacktree/deployment.ts";
import { runFolders } from "../../support/blacktree/run-folders.ts";
import { programsOfRuns } from "../../support/blacktree/running-programs.ts";
import { run } from "../../support/machine/processes.ts";
import { sampleRepository } from "../../support/machine/sample-repository.ts";
import { waitFor } from "../../support/machine/wait-for.ts";
import { type Backends, startBackends } from "../../support/servers/backends.ts";
import { type DockerEngine, startDockerEngine } from "../../support/servers/docker-engines.ts";
import { type Jobs, openJobs } from "./jobs.ts";
import { type PlainScript, plainScriptHost } from "./plain-script.ts";

export const AWS_ACCOUNT = "123456789012";
export const REGION = "us-east-1";
export const SECOND_REGION = "us-west-2";
const CACHE_REPOSITORY = "bench-cache";
const WARM_UP_REPOSITORY = "warm-up";
const ENGINE = "26.1";

export interface BuildSite {
  readonly backends: Backends;
  readonly script: PlainScript;
  readonly jobs: Jobs;
  readonly engineVersion: string;
  /** The worker writes and reads a cache in the registry. */
  readonly hasRegistryCache: boolean;
  /** Removes everything from the engines and the registry that could save a build work. */
  resetCaches(): Promise<void>;
  /** Resolves when the first worker has no work left, including background work of finished jobs. */
  untilIdle(): Promise<void>;
  /** Resolves when the registry has a cache that another worker can use. */
  untilCached(): Promise<void>;
  /** Runs with a worker of SECOND_REGION that has built another image before, on an empty engine. */
  withSecondWorker<T>(work: () => Promise<T>): Promise<T>;
  stop(): Promise<void>;
}

export async function startSite(): Promise<BuildSite> {
  const stops: (() => Promise<void>)[] = [];
  const stop = async () => {
    for (const end of stops.toReversed()) await end();
  };
  try {
    return { ...(await startParts(stops)), stop };
  } catch (error) {
    await stop();
    throw error;
  }
}

async function startParts(stops: (() => Promise<void>)[]): Promise<Omit<BuildSite, "stop">> {
  const backends = await startBackends({ engine: ENGINE });
  stops.push(() => backends.stop());
  sendStraightToTheRegistry(backends);
  const { registry, aws } = backends;
  const [scriptEngine, secondEngine] = [
    await startDockerEngine({ engine: ENGINE }),
    await startDockerEngine({ engine: ENGINE }),
  ];
  stops.push(scriptEngine.stop, secondEngine.stop);
  const script = await plainScriptHost(scriptEngine, aws, registry);
  stops.push(script.stop);
  const deployment = await startDeployment(backends);
  stops.push(deployment.stop);

  const hasRegistryCache = await knowsRegistryCache();
  const orchestrator = await startOrchestrator(deployment);
  const startWorker = (region: string, { env }: DockerEngine) =>
    deployment.startWorker(orchestrator, {
      ...env(),
      BLACKTREE_WORKER_REGION: region,
      ...(hasRegistryCache && { BLACKTREE_CACHE_REPO: CACHE_REPOSITORY }),
    });
  const worker = await startWorker(REGION, backends.docker);
  const jobs = await openJobs(deployment);
  await backends.git.createRepository(`bench/${WARM_UP_REPOSITORY}`, await sampleRepository());
  const engines = [backends.docker, scriptEngine, secondEngine];

  return {
    backends,
    script,
    jobs,
    engineVersion: backends.docker.version,
    hasRegistryCache,
    async resetCaches() {
      await emptyRegistry(backends);
      for (const engine of engines) await prune(engine);
    },
    untilIdle: () => untilIdle(orchestrator, worker),
    async untilCached() {
      await untilIdle(orchestrator, worker);
      const tags = await registry.listTags(CACHE_REPOSITORY);
      if (tags.length === 0) throw new Error(`the worker has not written a cache to ${CACHE_REPOSITORY}`);
    },
    async withSecondWorker(work) {
      const second = await startWorker(SECOND_REGION, secondEngine);
      try {
        await jobs.run(warmUpJob());
        await untilIdle(orchestrator, second);
        await prune(secondEngine);
        const answer = await work();
        await untilIdle(orchestrator, second);
        return answer;
      } finally {
        await second.process.stop();
      }
    },
  };
}

/** A worker that has just started is slower at first, and would not represent one that runs for days. */
function warmUpJob() {
  return {
    repo_url: `bench/${WARM_UP_REPOSITORY}`,
    branch: "main",
    deployment_version: crypto.randomUUID(),
    aws_account: AWS_ACCOUNT,
    ecr_repo: WARM_UP_REPOSITORY,
    region: REGION,
    worker_region: SECOND_REGION,
    region_policy: "require",
  };
}

/** Without the proxy that answers as ECR does: it would add time on both sides that a real registry does not need. */
function sendStraightToTheRegistry({ aws, registry }: Backends): void {
  const { username, password } = registry;
  aws.configure({ proxyEndpoint: registry.url, registryLogin: { username, password } });
  for (const name of [CACHE_REPOSITORY, WARM_UP_REPOSITORY]) aws.addRepository(AWS_ACCOUNT, name);
}

async function knowsRegistryCache(): Promise<boolean> {
  const { worker } = await compiledBinaries();
  const { stdout } = await run([worker, "--help"]);
  // Help texts of other settings may mention it; its own line has it in brackets.
  return /\(BLACKTREE_CACHE_REPO\b/.test(stdout);
}

/** With the default intervals, not the short ones of the tests. */
function startOrchestrator(deployment: Deployment): Promise<OrchestratorProcess> {
  return deployment.startOrchestrator({ BLACKTREE_PING_INTERVAL: "2s", BLACKTREE_LEASE_TTL: "10s" });
}

async function untilIdle(orchestrator: OrchestratorProcess, worker: WorkerProcess): Promise<void> {
  const isFree = ({ id, status, jobs }: ShownWorker) =>
    id === worker.id && status === "FREE" && jobs.length === 0;
  const isIdle = async () =>
    (await shownWorkers(orchestrator)).some(isFree) &&
    (await runFolders(worker.workDir)).length === 0 &&
    (await programsOfRuns(worker.workDir)).length === 0;
  await waitFor(isIdle, { timeoutMs: 300_000, what: `${worker.id} to be idle` });
}

/** Restarts the registry, since it caches which layers it has. */
async function emptyRegistry({ registry }: Backends): Promise<void> {
  await registry.kill();
  for (const entry of await readdir(registry.storageDir)) {
    await rm(join(registry.storageDir, entry), { recursive: true, force: true });
  }
  await registry.start();
}

async function prune(engine: DockerEngine): Promise<void> {
  for (const what of ["image", "builder"]) {
    await engine.docker([what, "prune", "--all", "--force"], { timeoutMs: 300_000 });
  }
}
