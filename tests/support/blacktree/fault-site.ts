/** Shared by the fault tests: builds that take a while, their results, and proof that nothing is left afterwards. */
import { afterAll, afterEach, beforeAll, expect } from "bun:test";
import { randomUUID } from "node:crypto";
import type { JobResult } from "../../../src/shared/job.ts";
import type { HeldRequests } from "../machine/held-requests.ts";
import { type SampleRepositoryOptions, sampleRepository } from "../machine/sample-repository.ts";
import { waitFor } from "../machine/wait-for.ts";
import { type Backends, type BackendsOf, type BackendsOptions, startBackends } from "../servers/backends.ts";
import type { RecordedRequest } from "../servers/registry-proxy.ts";
import {
  type Deployment,
  type OrchestratorProcess,
  startDeployment,
  type WorkerProcess,
} from "./deployment.ts";

/** The servers of a test file, and the deployment of the current test. */
export interface FaultSite<Servers extends Backends = Backends> {
  readonly backends: Servers;
  readonly deployment: Deployment;
  /** Starts the test's deployment, with these servers instead of the shared ones where given. */
  deploy(own?: Partial<Backends>): Promise<Deployment>;
  /** Releases the held requests after the test at the latest, since a failing test may not release them. */
  keep<Held extends Pick<HeldRequests, "release">>(held: Held): Held;
}

/** Call it at the top of a file: its servers run for the whole file, a deployment for one test. */
export function faultSite<Options extends Omit<BackendsOptions, "engine">>(
  options?: Options,
): FaultSite<BackendsOf<Options & { engine: "26.1" }>> {
  let backends: BackendsOf<Options & { engine: "26.1" }>;
  let deployment: Deployment | undefined;
  const kept: Pick<HeldRequests, "release">[] = [];

  beforeAll(async () => {
    backends = await startBackends({ engine: "26.1", ...options } as Options & { engine: "26.1" });
  });

  afterEach(async () => {
    for (const held of kept.splice(0)) held.release();
    await deployment?.stop();
    deployment = undefined;
  });

  afterAll(() => backends?.stop());

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

/** A job with new repositories, so that neither a cache nor an earlier image replaces its build. */
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

/** Holds the job's build before its push. (The request that puts the tag has a short timeout, and cannot be held.) */
export function holdPush({ ecr }: Pick<Backends, "ecr">, { ecr_repo }: SampleJob): HeldRequests {
  return ecr.hold({ method: "POST", path: new RegExp(`^/v2/${ecr_repo}/blobs/uploads/`) });
}

/** For workers that may connect to any of these orchestrators. */
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

/** How often this worker, or orchestrator, has started to run the job. */
export function runsStarted(worker: WorkerProcess, job: SampleJob): number {
  return linesAbout(worker, job, "run started").length;
}

/** The program that logged this message about the job, and the other program. */
export async function holderOf<Program extends Pick<WorkerProcess, "process">>(
  job: SampleJob,
  programs: readonly [Program, Program],
  message: "job queued" | "job assigned" | "run started",
): Promise<readonly [holder: Program, other: Program]> {
  const [one, two] = programs;
  const holder = await waitFor(
    () => programs.find((program) => linesAbout(program, job, message).length > 0),
    { timeoutMs: 60_000, what: `"${message}" of ${job.job_id}` },
  );
  return holder === one ? [one, two] : [two, one];
}

export interface ExpectedResult {
  /** 1 by default. */
  readonly attempt?: number | "any";
  readonly worker?: WorkerProcess;
  /** Maximum wait, for builds that take long. */
  readonly timeoutMs?: number;
}

/** Expects the next result to be this job's success, and its version's tag to be the image in the result. */
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

/** The requests that put the job's version, whatever their outcome. */
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
 * Resolves when no queue has a ready or unacked message: a result is published before its message is acknowledged,
 * a job can have two messages, and one that waits for its next attempt is only checked after a delay.
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
  // The queues are counted one after the other: a message may have moved from one to another meanwhile.
  const isEmptyTwice = async () => (await isEmpty()) && (await isEmpty());
  await waitFor(isEmptyTwice, { timeoutMs: 90_000, what: "all queues to be empty" }).catch((error: Error) => {
    throw new Error(`${error.message}: ${left.join("; ")}`, { cause: error });
  });
}

/**
 * Proves that no further result follows: no message is ready or unacked, and once the orchestrators have stopped, and
 * have returned their deliveries, all queues are still empty.
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
