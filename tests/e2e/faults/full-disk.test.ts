/** Workers whose work folder is on a small disk that fills. */
import { afterEach, describe, expect, test } from "bun:test";
import { credentials, status } from "@grpc/grpc-js";
import type { JobEvent } from "../../../src/shared/job.ts";
import { callUnary } from "../../../src/shared/rpc/call.ts";
import { JobRequest, WorkerServiceClient } from "../../../src/shared/rpc/generated/blacktree/v1/worker.ts";
import {
  type OrchestratorProcess,
  shownWorkers,
  untilFree,
  untilPinged,
  type WorkerProcess,
} from "../../support/blacktree/deployment.ts";
import {
  expectNothingLeft,
  expectSuccess,
  faultSite,
  runsStarted,
  type SampleJob,
  sampleJob,
} from "../../support/blacktree/fault-site.ts";
import { runFolders } from "../../support/blacktree/run-folders.ts";
import { noise } from "../../support/machine/noise.ts";
import { makeSmallDisk, missingSmallDisks, type SmallDisk } from "../../support/machine/small-disk.ts";
import { waitFor } from "../../support/machine/wait-for.ts";

const MB = 1e6;
const RESERVE = { BLACKTREE_DISK_RESERVE: "5MB", BLACKTREE_INODE_RESERVE: "100" };
const missing = await missingSmallDisks();

describe.skipIf(missing !== undefined)(`full disk${missing ? ` (${missing})` : ""}`, () => {
  const site = faultSite();
  let disk: SmallDisk;
  let orchestrator: OrchestratorProcess;
  let events: readonly JobEvent[];

  afterEach(() => disk?.remove());

  async function startScene(): Promise<void> {
    disk = await makeSmallDisk({ sizeMiB: 24 });
    const deployment = await site.deploy();
    orchestrator = await deployment.startOrchestrator();
    events = await deployment.watchEvents();
  }

  const onSmallDisk = (env: Record<string, string> = {}) =>
    site.deployment.startWorker(orchestrator, {
      ...RESERVE,
      BLACKTREE_WORK_DIR: `${disk.path}/work`,
      ...env,
    });

  async function refusalOf({ id }: WorkerProcess): Promise<string | undefined> {
    const shown = (await shownWorkers(orchestrator)).find((worker) => worker.id === id);
    return shown?.status === "BUSY" ? (shown.refusal ?? undefined) : undefined;
  }

  async function untilRefusing(worker: WorkerProcess): Promise<string> {
    return waitFor(() => refusalOf(worker), { timeoutMs: 30_000, what: "the worker to refuse" });
  }

  test("full disk: a job that needs more space than one worker has is built by another, and leaves no files behind", async () => {
    await startScene();
    // With more slots than the other, it is the first choice.
    const small = await onSmallDisk({ BLACKTREE_WORKER_SLOTS: "2" });
    const large = await site.deployment.startWorker(orchestrator);
    const job = await largeJob();
    // More than its reserve, and less than the job's repository needs.
    await disk.fill(7 * MB);
    await untilPinged(orchestrator, small);
    await site.deployment.publish(job);
    await expectSuccess(site, job, { attempt: 2, worker: large });
    expect(events.filter(({ state }) => state === "ASSIGNED")).toMatchObject([
      { attempt: 1, worker_id: small.id },
      { attempt: 2, worker_id: large.id },
    ]);
    expect(events.filter(({ state }) => state === "RETRYING")).toMatchObject([
      { attempt: 1, error: { code: "DISK_FULL", step: "clone", retryable: true } },
    ]);
    expect(await runFolders(small.workDir)).toEqual([]);
    await untilFree(orchestrator, small);
    await expectNothingLeft(site.deployment, orchestrator);
  });

  test("full disk: a worker below its reserve accepts no jobs and reports why, until enough space is free again", async () => {
    await startScene();
    const worker = await onSmallDisk();
    await disk.fill(3 * MB);
    const refusal = await untilRefusing(worker);
    expect(refusal).toContain(worker.workDir);
    await worker.process.waitForLine('"msg":"not accepting jobs: low disk space"');
    const job = await sampleJob(site.backends, { variant: "working" });
    await expect(runJob(worker, job)).rejects.toMatchObject({
      code: status.RESOURCE_EXHAUSTED,
      message: expect.stringContaining("disk below its reserve"),
    });
    await site.deployment.publish(job);
    await waitFor(() => events.some(({ state }) => state === "QUEUED"), {
      timeoutMs: 30_000,
      what: "QUEUED",
    });
    expect(runsStarted(worker, job)).toBe(0);
    await disk.removeFillers();
    await expectSuccess(site, job, { attempt: 1, worker });
    expect(events.filter(({ state }) => state === "ASSIGNED")).toHaveLength(1);
    await expectNothingLeft(site.deployment, orchestrator);
  });

  test("full disk: a worker that starts below its reserve reports it at once, and running jobs continue below the reserve", async () => {
    await startScene();
    await disk.fill(3 * MB);
    const worker = await onSmallDisk();
    await untilRefusing(worker);
    await disk.removeFillers();
    await untilFree(orchestrator, worker);
    const job = await sampleJob(site.backends, { variant: "slow", sleepSeconds: 5 });
    await site.deployment.publish(job);
    await waitFor(() => events.some(({ state }) => state === "BUILDING"), {
      timeoutMs: 30_000,
      what: "BUILDING",
    });
    await disk.fill(3 * MB);
    await untilRefusing(worker);
    await expectSuccess(site, job, { attempt: 1, worker });
    await untilRefusing(worker);
  });

  async function largeJob(): Promise<SampleJob> {
    const job = await sampleJob(site.backends, { variant: "working" });
    await site.backends.git.commit(job.repo_url, { large: noise(9 * MB) });
    return job;
  }
});

async function runJob(worker: WorkerProcess, job: SampleJob): Promise<unknown> {
  const client = new WorkerServiceClient(worker.address, credentials.createInsecure());
  const { incarnation } = worker;
  const request = JobRequest.create({
    jobId: job.job_id,
    attempt: 1,
    incarnation,
    repoUrl: job.repo_url,
    branch: job.branch,
    deploymentVersion: job.deployment_version,
    awsAccount: job.aws_account,
    ecrRepo: job.ecr_repo,
    region: "us-east-1",
    timeoutMs: 60_000,
  });
  try {
    return await callUnary(client.runJob.bind(client), request, { deadlineMs: 30_000 });
  } finally {
    client.close();
  }
}
