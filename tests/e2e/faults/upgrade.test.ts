/** Orchestrators and workers of two versions, and an upgrade from one version to the other while jobs run. */
import { beforeAll, describe, expect, test } from "bun:test";
import { randomUUID } from "node:crypto";
import type { JobResult } from "../../../src/shared/job.ts";
import {
  type Binaries,
  compiledBinaries,
  formerBinaries,
  missingCommit,
} from "../../support/blacktree/binaries.ts";
import {
  type OrchestratorProcess,
  untilFree,
  type WorkerProcess,
} from "../../support/blacktree/deployment.ts";
import {
  expectNothingLeft,
  expectSuccess,
  faultSite,
  runsStarted,
  type SampleJob,
  sampleJob,
  tagPuts,
} from "../../support/blacktree/fault-site.ts";
import { runFolders } from "../../support/blacktree/run-folders.ts";
import { freePort } from "../../support/machine/free-port.ts";
import { inFullCheck } from "../../support/machine/full-check.ts";
import { makeTempDir } from "../../support/machine/temp-dir.ts";

/** The first version with this wire contract. */
const FORMER_COMMIT = "5759445";
const missing = await missingCommit(FORMER_COMMIT);
const QUICK_JOBS = 10;

const site = faultSite();

/** Jobs of one repository: from the second one on almost everything is cached. */
async function quickJobs(count: number): Promise<readonly SampleJob[]> {
  const first = await sampleJob(site.backends, { variant: "working" });
  return Array.from({ length: count }, () => {
    const unique = randomUUID().slice(0, 8);
    return { ...first, job_id: `job-${unique}`, deployment_version: `v-${unique}` };
  });
}

async function resultsOf(jobs: readonly SampleJob[]): Promise<readonly JobResult[]> {
  const results: JobResult[] = [];
  for (const _ of jobs) results.push(await site.deployment.nextResult());
  return results;
}

/**
 * Two orchestrators and two workers, the workers on one work folder, replaced one by one under load. The orchestrators'
 * addresses stay. Returns the attempts that the jobs needed; each has run once.
 */
async function upgrade(before: Binaries, after: Binaries): Promise<readonly number[]> {
  const deployment = await site.deploy();
  const listens = [await freePort(), await freePort()].map((port) => ({
    BLACKTREE_GRPC_LISTEN: `127.0.0.1:${port}`,
  }));
  const all = { grpcAddress: listens.map(({ BLACKTREE_GRPC_LISTEN }) => BLACKTREE_GRPC_LISTEN).join(",") };
  const folder = await makeTempDir("upgrade");
  const orchestrators: OrchestratorProcess[] = [];
  for (const env of listens) orchestrators.push(await deployment.startOrchestrator(env, before));
  const workers: WorkerProcess[] = [];
  const startWorker = (binaries: Binaries) =>
    deployment.startWorker(all, { BLACKTREE_WORK_DIR: folder.path }, binaries);
  for (const _ of [1, 2]) workers.push(await startWorker(before));

  const long = await sampleJob(site.backends, { variant: "slow", sleepSeconds: 8 });
  const quick = await quickJobs(QUICK_JOBS);
  const jobs = [long, ...quick];
  for (const job of [long, ...quick.slice(0, QUICK_JOBS / 2)]) await deployment.publish(job);
  const replaced: OrchestratorProcess[] = [];
  for (const [index, { process }] of orchestrators.entries()) {
    process.signal("SIGTERM");
    expect(await process.exited).toBe(0);
    replaced.push(await deployment.startOrchestrator(listens[index], after));
  }
  for (const job of quick.slice(QUICK_JOBS / 2)) await deployment.publish(job);
  for (const { process } of [...workers]) {
    process.signal("SIGTERM");
    workers.push(await startWorker(after));
    expect(await process.exited).toBe(0);
  }

  const results = await resultsOf(jobs);
  expect(results.map(({ job_id }) => job_id).sort()).toEqual(jobs.map(({ job_id }) => job_id).sort());
  expect(results.map(({ status }) => status)).toEqual(jobs.map(() => "SUCCESS"));
  const runs = (job: SampleJob) => workers.reduce((sum, worker) => sum + runsStarted(worker, job), 0);
  expect(jobs.map(runs)).toEqual(jobs.map(() => 1));
  expect(jobs.map((job) => tagPuts(site, job).length)).toEqual(jobs.map(() => 1));
  const [orchestrator] = replaced;
  if (orchestrator) for (const worker of workers.slice(2)) await untilFree(orchestrator, worker);
  expect(await runFolders(folder.path)).toEqual([]);
  await expectNothingLeft(deployment, ...replaced);
  for (const { process } of workers) await process.stop();
  await folder.remove();
  return results.map(({ attempt }) => attempt);
}

test("upgrades: orchestrators and workers are restarted one by one under load: no job is lost, and none runs twice", async () => {
  const binaries = await compiledBinaries();
  const attempts = await upgrade(binaries, binaries);
  expect(attempts).toEqual(attempts.map(() => 1));
});

(missing === undefined ? inFullCheck().describe : describe.skip)(
  `with former programs${missing ? `, skipped: ${missing}` : ""}`,
  () => {
    let former: Binaries;

    beforeAll(async () => {
      former = await formerBinaries(FORMER_COMMIT);
    });

    test("upgrades: an old orchestrator has a new worker run its job", async () => {
      const deployment = await site.deploy();
      const orchestrator = await deployment.startOrchestrator({}, former);
      await expectJobRuns(orchestrator, await deployment.startWorker(orchestrator));
    });

    test("upgrades: a new orchestrator has an old worker run its job", async () => {
      const deployment = await site.deploy();
      const orchestrator = await deployment.startOrchestrator();
      await expectJobRuns(orchestrator, await deployment.startWorker(orchestrator, {}, former));
    });

    test("upgrades: new orchestrators and workers replace old ones under load: no job is lost, and none runs twice", async () => {
      // A worker of that version stops without waiting for jobs that are being sent to it; those need another attempt.
      const attempts = await upgrade(former, await compiledBinaries());
      expect(Math.max(...attempts)).toBeLessThanOrEqual(2);
    });
  },
);

async function expectJobRuns(orchestrator: OrchestratorProcess, worker: WorkerProcess): Promise<void> {
  const job = await sampleJob(site.backends, { variant: "working" });
  await site.deployment.publish(job);
  await expectSuccess(site, job, { worker });
  await untilFree(orchestrator, worker);
  expect(runsStarted(worker, job)).toBe(1);
  await expectNothingLeft(site.deployment, orchestrator);
}
