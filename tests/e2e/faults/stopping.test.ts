/** Workers that receive SIGTERM while they build. */
import { expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import {
  type OrchestratorProcess,
  shownWorkers,
  untilFree,
  untilState,
  type WorkerProcess,
} from "../../support/blacktree/deployment.ts";
import {
  expectNothingLeft,
  expectSuccess,
  faultSite,
  holdPush,
  runsStarted,
  type SampleJob,
  sampleJob,
  tagPuts,
} from "../../support/blacktree/fault-site.ts";
import { childrenOf, commandLines } from "../../support/blacktree/running-programs.ts";
import type { HeldRequests } from "../../support/machine/held-requests.ts";
import { waitFor } from "../../support/machine/wait-for.ts";

const site = faultSite();

interface Scene {
  readonly job: SampleJob;
  /** Holds the job's build before its push. */
  readonly held: HeldRequests;
  readonly worker: WorkerProcess;
  readonly orchestrator: OrchestratorProcess;
}

/** One worker with a running build. */
async function startScene(workerEnv: Record<string, string> = {}): Promise<Scene> {
  const deployment = await site.deploy();
  const orchestrator = await deployment.startOrchestrator();
  const worker = await deployment.startWorker(orchestrator, workerEnv);
  const job = await sampleJob(site.backends);
  const held = site.keep(holdPush(site.backends, job));
  await deployment.publish(job);
  await untilState(orchestrator, job.job_id, "BUILDING");
  return { job, held, worker, orchestrator };
}

async function untilShown(
  orchestrator: OrchestratorProcess,
  worker: WorkerProcess,
  expected: readonly (string | undefined)[],
): Promise<void> {
  const status = async () => (await shownWorkers(orchestrator)).find(({ id }) => id === worker.id)?.status;
  await waitFor(async () => expected.includes(await status()), {
    timeoutMs: 30_000,
    what: `${worker.id} to be ${expected.join(" or ")}`,
  });
}

/** Neither a folder nor a program of any run. */
async function expectNothingBehind({ worker, job }: Scene): Promise<void> {
  expect(await readdir(join(worker.workDir, "runs"))).toEqual([]);
  expect(existsSync(`/proc/${worker.process.pid}`)).toBe(false);
  const isOfRun = (line: string) => line.includes(job.deployment_version) || line.includes(worker.workDir);
  // On a busy machine a process exists for a moment after it was killed.
  await waitFor(async () => !(await commandLines()).some(isOfRun), {
    timeoutMs: 30_000,
    what: "the programs of the run to end",
  });
}

test("stopping: a worker finishes its build after SIGTERM, accepts no new jobs meanwhile, and exits", async () => {
  const scene = await startScene();
  const { job, held, worker, orchestrator } = scene;
  worker.process.signal("SIGTERM");
  await untilShown(orchestrator, worker, ["DRAINING"]);

  const second = await sampleJob(site.backends, { variant: "working" });
  await site.deployment.publish(second);
  await held.arrived;
  const other = await site.deployment.startWorker(orchestrator);
  await expectSuccess(site, second, { worker: other });
  await untilShown(orchestrator, worker, ["DRAINING"]);

  held.release();
  await expectSuccess(site, job, { worker });
  expect(await worker.process.exited).toBe(0);
  await untilShown(orchestrator, worker, [undefined, "LOST"]);
  expect(runsStarted(worker, second)).toBe(0);
  await expectNothingBehind(scene);
  await untilFree(orchestrator, other);
  await expectNothingLeft(site.deployment, orchestrator);
});

/** The worker ends its run, and the job goes to another worker. */
async function expectHandedOver({ job, worker, orchestrator }: Scene): Promise<void> {
  const other = await site.deployment.startWorker(orchestrator);
  await expectSuccess(site, job, { worker: other, attempt: 2 });
  await untilShown(orchestrator, worker, [undefined, "LOST"]);
  await untilFree(orchestrator, other);
  expect(tagPuts(site, job)).toHaveLength(1);
  await expectNothingLeft(site.deployment, orchestrator);
}

test("stopping: after a second SIGTERM, a worker ends its build, and another worker gets the job", async () => {
  const scene = await startScene();
  const { held, worker, orchestrator } = scene;
  await waitFor(async () => (await childrenOf(worker.process.pid)).length > 0, {
    timeoutMs: 30_000,
    what: "the build's programs",
  });
  worker.process.signal("SIGTERM");
  await untilShown(orchestrator, worker, ["DRAINING"]);
  worker.process.signal("SIGTERM");
  expect(await worker.process.exited).toBe(0);
  held.release();
  await expectNothingBehind(scene);
  await expectHandedOver(scene);
});

test("stopping: a build that runs longer than the drain timeout is ended, and another worker gets the job", async () => {
  const scene = await startScene({ BLACKTREE_DRAIN_TIMEOUT: "300ms" });
  scene.worker.process.signal("SIGTERM");
  expect(await scene.worker.process.exited).toBe(0);
  scene.held.release();
  await expectNothingBehind(scene);
  await expectHandedOver(scene);
});
