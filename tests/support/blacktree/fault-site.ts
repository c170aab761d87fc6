/** What the tests of faults have in common: builds that take a while, what became of them, and that nothing follows. */
import { afterAll, afterEach, beforeAll, expect, setDefaultTimeout } from "bun:test";
import { randomUUID } from "node:crypto";
import type { JobResult } from "../../../src/shared/job.ts";
import type { HeldRequests } from "../machine/held-requests.ts";
import { type SampleRepositoryOptions, sampleRepository } from "../machine/sample-repository.ts";
import { waitFor } from "../machine/wait-for.ts";
import { type Backends, type BackendsOf, type BackendsOptions, startBackends } from "../servers/backends.ts";
import { QUEUE_TOTALS_MS } from "../servers/rabbitmq.ts";
import type { RecordedRequest } from "../servers/registry-proxy.ts";
import {
  type Deployment,
  type OrchestratorProcess,
  startDeployment,
  type WorkerProcess,
} from "./deployment.ts";

/** The servers of a test file, and the deployment of the test that runs. */
export interface FaultSite<Servers extends Backends = Backends> {
  readonly backends: Servers;
  readonly deployment: Deployment;
  /** Starts the test's deployment, on other servers of its own where these are named. */
  deploy(own?: Partial<Backends>): Promise<Deployment>;
  /** Let go of at the latest when the test ends: one that fails may not have come to it. */
  keep<Held extends Pick<HeldRequests, "release">>(held: Held): Held;
}

/** For the top of a file: its servers start before its tests and end after them, deployments with each test. */
export function faultSite<Options extends Omit<BackendsOptions, "engine">>(
  options?: Options,
): FaultSite<BackendsOf<Options & { engine: "26.1" }>> {
  setDefaultTimeout(120_000);
  let backends: BackendsOf<Options & { engine: "26.1" }>;
  let deployment: Deployment | undefined;
  const kept: Pick<HeldRequests, "release">[] = [];

  beforeAll(async () => {
    backends = await startBackends({ engine: "26.1", ...options } as Options & { engine: "26.1" });
  }, 240_000);

  afterEach(async () => {
    for (const held of kept.splice(0)) held.release();
    await deployment?.stop();
    deployment = undefined;
  }, 60_000);

  afterAll(() => backends?.stop(), 60_000);

  return {
    get backends() {
      return backends;
    },
    get deployment() {
      if (deployment === undefined) throw new Error("the test has not started its deployment");
      return deployment;
    },
    async deploy(own = {}) {
      deployment = await startDeployment({ ...backends, ...own });
      return deployment;
    },
    keep(held) {
      kept.push(held);
      return held;
    },
  };
}

export interface SampleJob {
  readonly job_id: string;
  readonly repo_url: string;
  readonly branch: string;
  readonly deployment_version: string;
  readonly aws_account: string;
  readonly ecr_repo: string;
}

/** A job with repositories of its own, so that no cache and no earlier image spares it its build. */
export async function sampleJob(
  { git, aws }: Pick<Backends, "git" | "aws">,
  options: SampleRepositoryOptions = { variant: "slow", sleepSeconds: 3 },
): Promise<SampleJob> {
  const unique = randomUUID().slice(0, 8);
  const repo_url = `owner/sample-${unique}`;
  const aws_account = "1234567890";
  const ecr_repo = `images-${unique}`;
  aws.addRepository(aws_account, ecr_repo);
  await git.createRepository(repo_url, await sampleRepository({ greeting: unique, ...options }));
  return {
    job_id: `job-${unique}`,
    repo_url,
    branch: "main",
    deployment_version: `v-${unique}`,
    aws_account,
    ecr_repo,
  };
}

/** Keeps the job's build before its push. (The request that puts the tag has little time, and cannot be kept.) */
export function holdPush({ ecr }: Pick<Backends, "ecr">, { ecr_repo }: SampleJob): HeldRequests {
  return ecr.hold({ method: "POST", path: new RegExp(`^/v2/${ecr_repo}/blobs/uploads/`) });
}

/** For workers that may ask any of these orchestrators. */
export function anyOf(
  ...orchestrators: readonly OrchestratorProcess[]
): Pick<OrchestratorProcess, "grpcAddress"> {
  return { grpcAddress: orchestrators.map(({ grpcAddress }) => grpcAddress).join(",") };
}

/** Log lines with this message about this job. */
export function linesAbout(
  { process }: Pick<WorkerProcess, "process">,
  { job_id }: Pick<SampleJob, "job_id">,
  message: string,
): readonly string[] {
  return process.lines.filter((line) => line.includes(`"msg":"${message}"`) && line.includes(`"${job_id}"`));
}

/** How often this worker, or orchestrator, has begun to run the job. */
export function runsStarted(worker: WorkerProcess, job: SampleJob): number {
  return linesAbout(worker, job, "run started").length;
}

/** Which of them has given the job to a worker, or has the worker that runs it; and the others. */
export async function whoHas<Program extends Pick<WorkerProcess, "process">>(
  job: SampleJob,
  programs: readonly [Program, Program],
  message: "job queued" | "job assigned" | "run started",
): Promise<readonly [holder: Program, other: Program]> {
  const [one, two] = programs;
  const holder = await waitFor(
    () => programs.find((program) => linesAbout(program, job, message).length > 0),
    { timeoutMs: 30_000, what: `"${message}" of ${job.job_id}` },
  );
  return holder === one ? [one, two] : [two, one];
}

export interface ExpectedResult {
  /** The first one unless given. */
  readonly attempt?: number | "any";
  readonly worker?: WorkerProcess;
  /** Within this time, for builds that take long. */
  readonly timeoutMs?: number;
}

/** The next result is this job's success, and its version is the image that the result names. */
export async function expectSuccess(
  { backends, deployment }: FaultSite,
  job: SampleJob,
  { attempt = 1, worker, timeoutMs }: ExpectedResult = {},
): Promise<JobResult> {
  const result = await deployment.nextResult(timeoutMs);
  const from = worker ? { worker_id: worker.id } : {};
  const asAttempt = attempt === "any" ? {} : { attempt };
  expect(result).toMatchObject({ job_id: job.job_id, status: "SUCCESS", ...asAttempt, ...from });
  const tagged = await backends.registry.getManifest(job.ecr_repo, job.deployment_version);
  expect(tagged?.digest).toBe(`${result.image_digest}`);
  return result;
}

/** The requests that put the job's version, whatever came of them. */
export function tagPuts({ backends }: FaultSite, job: SampleJob): readonly RecordedRequest[] {
  return backends.ecr.tagPuts(job.ecr_repo, job.deployment_version);
}

const QUEUES = [
  "jobs.build",
  "jobs.build.dead",
  "jobs.ready.us-east-1.low",
  "jobs.ready.us-east-1.normal",
  "jobs.ready.us-east-1.high",
  "jobs.ready.later.2000ms",
  "jobs.ready.later.10000ms",
  "jobs.ready.later.60000ms",
  "jobs.results",
];

async function waitingIn(deployment: Deployment): Promise<(readonly [queue: string, messages: number])[]> {
  const depths = await Promise.all(
    QUEUES.map(async (queue) => [queue, await deployment.depth(queue)] as const),
  );
  return depths.filter(([, messages]) => messages > 0);
}

/**
 * Comes back when no queue has a message, nor has anybody one in hand: a result goes out before its job's message is
 * acknowledged, a job can have two messages, and one that waits for its next attempt is only looked at after a delay.
 */
async function untilNothingWaits(deployment: Deployment): Promise<void> {
  let left: string[] = [];
  const isEmpty = async () => {
    const totals = await deployment.queueTotals();
    left = totals
      .filter(({ name, ready, unacked }) => QUEUES.includes(name) && ready + unacked > 0)
      .map(({ name, ready, unacked }) => `${name}: ${ready} waiting, ${unacked} unacked`);
    return left.length === 0;
  };
  await waitFor(
    async () => {
      if (!(await isEmpty())) return false;
      // What came since the broker last counted is in the next count.
      await Bun.sleep(2 * QUEUE_TOTALS_MS);
      return isEmpty();
    },
    { timeoutMs: 60_000, what: "all queues to be empty" },
  ).catch((error: Error) => {
    throw new Error(`${error.message}: ${left.join("; ")}`, { cause: error });
  });
}

/**
 * Proves that the results taken so far were all: nothing waits or is in anybody's hands, and once its orchestrators have
 * stopped, and have given back what they held, no queue has anything either.
 */
export async function expectNothingLeft(
  deployment: Deployment,
  ...orchestrators: readonly OrchestratorProcess[]
): Promise<void> {
  await untilNothingWaits(deployment);
  for (const { process } of orchestrators) process.signal("SIGTERM");
  const statuses = await Promise.all(orchestrators.map(({ process }) => process.exited));
  expect(statuses).toEqual(orchestrators.map(() => 0));
  expect(await waitingIn(deployment)).toEqual([]);
}
