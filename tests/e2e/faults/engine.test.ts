/** A worker whose Docker engine goes away while the worker and its orchestrator continue. */
import { describe, expect, test } from "bun:test";
import {
  type OrchestratorProcess,
  shownWorkers,
  untilFree,
  type WorkerProcess,
} from "../../support/blacktree/deployment.ts";
import {
  expectNothingLeft,
  expectSuccess,
  faultSite,
  runsStarted,
  sampleJob,
} from "../../support/blacktree/fault-site.ts";
import { inFullCheck } from "../../support/machine/full-check.ts";
import { waitFor } from "../../support/machine/wait-for.ts";
import { missingDockerEngine } from "../../support/servers/docker-engines.ts";

const missing = await missingDockerEngine("26.1");

describe.skipIf(missing !== undefined)(`lost engine${missing ? ` (${missing})` : ""}`, () => {
  const site = faultSite({ ownDocker: {} });

  async function start(): Promise<{ orchestrator: OrchestratorProcess; worker: WorkerProcess }> {
    const deployment = await site.deploy();
    const orchestrator = await deployment.startOrchestrator();
    const worker = await deployment.startWorker(orchestrator);
    await untilFree(orchestrator, worker);
    return { orchestrator, worker };
  }

  const refusal = async (orchestrator: OrchestratorProcess) => (await shownWorkers(orchestrator))[0]?.refusal;

  const untilRefusing = (orchestrator: OrchestratorProcess) =>
    waitFor(() => refusal(orchestrator), { timeoutMs: 60_000, what: "the worker to refuse" });

  const sayings = ({ process }: WorkerProcess, message: string) =>
    process.lines.filter((line) => line.includes(message)).length;

  test("lost engine: jobs wait until it is back, and its loss costs those that had not begun no attempt", async () => {
    const { orchestrator, worker } = await start();
    const job = await sampleJob(site.backends, {});
    await site.backends.docker.kill();
    await site.deployment.publish(job);
    expect(await untilRefusing(orchestrator)).toStartWith("no usable builder: ");
    // A worker that accepted jobs would lose all attempts of this one within the next checks.
    expect(runsStarted(worker, job)).toBe(0);
    await site.backends.docker.start();
    await expectSuccess(site, job, { timeoutMs: 90_000 });
    expect(sayings(worker, "not accepting jobs: no usable builder")).toBe(1);
    expect(sayings(worker, "builder usable again; accepting jobs")).toBe(1);
    await expectNothingLeft(site.deployment, orchestrator);
  });

  inFullCheck().test("lost engine: a build that it interrupts is built again once it is back", async () => {
    const { orchestrator } = await start();
    const events = await site.deployment.watchEvents();
    const job = await sampleJob(site.backends, { variant: "slow", sleepSeconds: 5 });
    await site.deployment.publish(job);
    const steps = () => events.some(({ state }) => state === "BUILDING");
    await waitFor(steps, { timeoutMs: 60_000, what: "the build" });
    await waitFor(async () => (await site.backends.docker.docker(["ps", "--quiet"])).exitCode === 0, {
      timeoutMs: 20_000,
      what: "the engine",
    });
    await site.backends.docker.kill();
    await untilRefusing(orchestrator);
    await site.backends.docker.start();
    await expectSuccess(site, job, { attempt: 2, timeoutMs: 90_000 });
    expect(events.filter(({ state }) => state === "RETRYING")).toMatchObject([
      { attempt: 1, error: { code: "INTERNAL", retryable: true } },
    ]);
    await expectNothingLeft(site.deployment, orchestrator);
  });

  inFullCheck().test("lost engine: a frozen one is noticed, and jobs wait until it continues", async () => {
    const { orchestrator, worker } = await start();
    const job = await sampleJob(site.backends, {});
    site.backends.docker.pause();
    try {
      await untilRefusing(orchestrator);
      await site.deployment.publish(job);
      expect(runsStarted(worker, job)).toBe(0);
    } finally {
      site.backends.docker.resume();
    }
    await expectSuccess(site, job, { timeoutMs: 90_000 });
    await expectNothingLeft(site.deployment, orchestrator);
  });
});
