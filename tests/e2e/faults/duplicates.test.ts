/** The same job twice, received by two orchestrators at the same moment: it runs once, and has one result. */
import { expect, test } from "bun:test";
import { randomUUID } from "node:crypto";
import type { JobResult } from "../../../src/shared/job.ts";
import {
  type OrchestratorProcess,
  untilFree,
  type WorkerProcess,
} from "../../support/blacktree/deployment.ts";
import {
  anyOf,
  expectNothingLeft,
  faultSite,
  linesAbout,
  runsStarted,
  type SampleJob,
  sampleJob,
} from "../../support/blacktree/fault-site.ts";
import { waitFor } from "../../support/machine/wait-for.ts";

const site = faultSite();
const JOBS = 20;
/** Every fifth job is built; the others end after their request to git. */
const BUILT_EACH = 5;
const NO_REPOSITORY = "owner/nowhere";

async function someJobs(): Promise<readonly SampleJob[]> {
  const sample = await sampleJob(site.backends, { variant: "working" });
  return Array.from({ length: JOBS }, (_, index) => {
    const unique = randomUUID().slice(0, 8);
    const job = { ...sample, job_id: `job-${unique}`, deployment_version: `v-${unique}` };
    return index % BUILT_EACH === 0 ? job : { ...job, repo_url: NO_REPOSITORY };
  });
}

const expectedEnd = ({ repo_url }: SampleJob) =>
  repo_url === NO_REPOSITORY ? "FAILED at 1: REPO_NOT_FOUND" : "SUCCESS at 1: no error";

/** The broker delivers messages to its two consumers in turn. */
async function publishTwice(jobs: readonly SampleJob[], orchestrators: readonly OrchestratorProcess[]) {
  for (const job of jobs) await Promise.all([1, 2].map(() => site.deployment.publish(job)));
  const received = (job: SampleJob) =>
    orchestrators.flatMap((orchestrator) => [
      ...linesAbout(orchestrator, job, "job queued"),
      ...linesAbout(orchestrator, job, "duplicate message: a job with its id is waiting or running"),
    ]);
  await waitFor(() => jobs.every((job) => received(job).length === 2), {
    timeoutMs: 30_000,
    what: "both copies of each job to be received",
  });
}

async function expectEachOnce(
  jobs: readonly SampleJob[],
  workers: readonly WorkerProcess[],
  orchestrators: readonly OrchestratorProcess[],
): Promise<void> {
  const results: JobResult[] = [];
  for (const _ of jobs) results.push(await site.deployment.nextResult());
  expect(results.map(({ job_id }) => job_id).sort()).toEqual(jobs.map(({ job_id }) => job_id).sort());
  const endOf = ({ status, attempt, error }: JobResult) =>
    `${status} at ${attempt}: ${error?.code ?? "no error"}`;
  const ends = new Map(results.map((result) => [result.job_id, endOf(result)]));
  expect(jobs.map(({ job_id }) => ends.get(job_id))).toEqual(jobs.map(expectedEnd));
  const runs = (job: SampleJob) => workers.reduce((sum, worker) => sum + runsStarted(worker, job), 0);
  expect(jobs.map(runs)).toEqual(jobs.map(() => 1));
  const [orchestrator] = orchestrators;
  if (orchestrator) for (const worker of workers) await untilFree(orchestrator, worker);
  await expectNothingLeft(site.deployment, ...orchestrators);
}

test("duplicates: two orchestrators receive the two copies of a job while workers wait: it runs once and has one result", async () => {
  const deployment = await site.deploy();
  const both = await Promise.all([deployment.startOrchestrator(), deployment.startOrchestrator()]);
  const slots = { BLACKTREE_WORKER_SLOTS: "2" };
  const workers = [
    await deployment.startWorker(anyOf(...both), slots),
    await deployment.startWorker(anyOf(...both), slots),
  ];
  // No job ends before its second copy was received: its result would be published again, as intended.
  const held = site.keep(site.backends.git.hold());
  const jobs = await someJobs();
  await publishTwice(jobs, both);
  held.release();
  await expectEachOnce(jobs, workers, both);
});

test("duplicates: two orchestrators receive the two copies of a job before there is a worker: it runs once and has one result", async () => {
  const deployment = await site.deploy();
  const both = await Promise.all([deployment.startOrchestrator(), deployment.startOrchestrator()]);
  const jobs = await someJobs();
  await publishTwice(jobs, both);
  const slots = { BLACKTREE_WORKER_SLOTS: "4" };
  await expectEachOnce(jobs, [await deployment.startWorker(anyOf(...both), slots)], both);
});
