/** What the tests of faults have in common: builds that take a while, what became of them, and that nothing follows. */
import { expect } from "bun:test";
import { randomUUID } from "node:crypto";
import type { Backends } from "./backends.ts";
import type { Deployment, OrchestratorProcess, WorkerProcess } from "./deployment.ts";
import { type SampleRepositoryOptions, sampleRepository } from "./sample-repository.ts";
import { waitFor } from "./wait-for.ts";

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

export interface Held {
  readonly arrived: Promise<unknown>;
  release(): void;
}

/** Keeps the job's build before its push. (The request that puts the tag has little time, and cannot be kept.) */
export function holdPush({ ecr }: Pick<Backends, "ecr">, { ecr_repo }: SampleJob): Held {
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
  message: "job assigned" | "run started",
): Promise<readonly [holder: Program, other: Program]> {
  const [one, two] = programs;
  const holder = await waitFor(
    () => programs.find((program) => linesAbout(program, job, message).length > 0),
    { timeoutMs: 30_000, what: `"${message}" of ${job.job_id}` },
  );
  return holder === one ? [one, two] : [two, one];
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

/**
 * Proves that the results taken so far were all: once its orchestrators have stopped, whatever they held unacked lies
 * in its queue again, and no queue has anything.
 */
export async function expectNothingLeft(
  deployment: Deployment,
  ...orchestrators: readonly OrchestratorProcess[]
): Promise<void> {
  for (const { process } of orchestrators) process.signal("SIGTERM");
  const statuses = await Promise.all(orchestrators.map(({ process }) => process.exited));
  expect(statuses).toEqual(orchestrators.map(() => 0));
  const depths = await Promise.all(
    QUEUES.map(async (queue) => [queue, await deployment.depth(queue)] as const),
  );
  expect(depths.filter(([, messages]) => messages > 0)).toEqual([]);
}
