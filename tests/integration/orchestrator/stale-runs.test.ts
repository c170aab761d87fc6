/** Runs that a worker reports, although their job has another attempt or has ended. */
import { afterEach, expect, test } from "bun:test";
import pino from "pino";
import { HealthChecker } from "../../../src/orchestrator/health-checker.ts";
import { InProcessLeases } from "../../../src/orchestrator/leases/in-process.ts";
import type { Observation } from "../../../src/orchestrator/leases/leases.ts";
import type { RunAtWorker } from "../../../src/orchestrator/logs/log-collector.ts";
import { WorkerClient } from "../../../src/orchestrator/workers/worker-client.ts";
import type { RunRef } from "../../../src/shared/job.ts";
import { JobRequest } from "../../../src/shared/rpc/generated/blacktree/v1/worker.ts";
import type { PipelineJob } from "../../../src/worker/job/job.ts";
import { waitFor } from "../../support/machine/wait-for.ts";
import { INCARNATION, type ServedWorker, serveWorker, successfulEnd } from "./workers/worker-service.ts";

const LOG_LIMITS = { keptBytes: 1000, tail: { lines: 10, bytes: 1000 } };
const silent = pino({ level: "silent" });
const WORKER = { workerId: "worker", incarnation: INCARNATION, region: "us-east-1", slots: 1, version: "1" };
const CHECKER_PARTS = {
  queue: { isReady: true },
  pingIntervalMs: 1_000,
  leaseTtlMs: 60_000,
  connect: (to: string) => new WorkerClient(to, undefined),
  onUnawaited: () => undefined,
  onNoneReached: () => undefined,
};

let worker: ServedWorker | undefined;
let healthChecker: HealthChecker | undefined;

afterEach(async () => {
  healthChecker?.stop();
  await worker?.stop(100);
});

/** Leases with a step between the answer to a ping that reports runs and its observation. */
class SteppedLeases extends InProcessLeases {
  beforeObservation: (runs: readonly RunRef[]) => Promise<void> = async () => undefined;

  override async observe(workerId: string, incarnation: string, observation: Observation) {
    await this.beforeObservation(observation.runs);
    return super.observe(workerId, incarnation, observation);
  }
}

test("a run that ends well while the answer to a ping arrives is forgotten by its worker, without a warning", async () => {
  const finish = Promise.withResolvers<void>();
  worker = await serveWorker(async () => {
    await finish.promise;
    return successfulEnd();
  }, LOG_LIMITS);
  const address = `127.0.0.1:${worker.port}`;
  const client = new WorkerClient(address, undefined);
  const leases = new SteppedLeases({ leaseTtlMs: 60_000, jobMemoryMs: 60_000, settleMs: 0, logger: silent });
  leases.start();
  await leases.register({ ...WORKER, address, capabilities: [], runs: [] });
  await leases.observe("worker", INCARNATION, { status: "FREE", runs: [] });
  const outcome = await leases.claim({ jobId: "job-1", regions: ["us-east-1"] });
  if (outcome.kind !== "claimed") throw new Error(outcome.kind);
  const { claim } = outcome;
  const request = { jobId: "job-1", attempt: 1, incarnation: INCARNATION, timeoutMs: 60_000 };
  const fields = { repoUrl: "a/b", branch: "main", deploymentVersion: "v1", awsAccount: "1", ecrRepo: "r" };
  await client.connect();
  const run = client.runJob(
    JobRequest.create({ ...request, ...fields, region: "us-east-1" }),
    new AbortController().signal,
  );

  leases.beforeObservation = async (runs) => {
    if (runs.length === 0) return;
    finish.resolve();
    await run;
    await leases.release(claim);
  };
  const warnings: string[] = [];
  healthChecker = new HealthChecker({
    leases,
    ...CHECKER_PARTS,
    logs: {
      // That of a second report may fail, as it may be under way when the client is closed.
      adopt: (run) => void client.acknowledge(run, run.incarnation).catch(() => undefined),
    },
    logger: pino({ level: "warn" }, { write: (line: string) => void warnings.push(line) }),
  });
  healthChecker.start();
  const isForgotten = async () => (await client.ping({ reachesBroker: true }, 10_000)).runs.length === 0;
  await waitFor(isForgotten, { timeoutMs: 30_000, what: "the worker to forget the run" });
  expect((await run).status).toBe(1);
  expect(warnings.filter((line) => line.includes("stale run"))).toEqual([]);
  client.close();
  await leases.close();
});

test("the log of an ended run whose job has a higher attempt on the same worker is to be copied", async () => {
  const running = Promise.withResolvers<void>();
  worker = await serveWorker(async ({ attempt }) => {
    if (attempt === 2) await running.promise;
    return successfulEnd();
  }, LOG_LIMITS);
  const attempt = (number: number) => ({ jobId: "job-1", attempt: number, tenant: "acme" }) as PipelineJob;
  await worker.runs.run(attempt(1), 60_000);
  const second = worker.runs.run(attempt(2), 60_000);
  const address = `127.0.0.1:${worker.port}`;
  const leases = new InProcessLeases({
    leaseTtlMs: 60_000,
    jobMemoryMs: 60_000,
    settleMs: 0,
    logger: silent,
  });
  leases.start();
  const runs = [{ jobId: "job-1", attempt: 2 }];
  await leases.register({ ...WORKER, address, capabilities: [], runs });
  const adopted: RunAtWorker[] = [];
  const reported = Promise.withResolvers<void>();
  healthChecker = new HealthChecker({
    leases,
    ...CHECKER_PARTS,
    logs: { adopt: (run) => reported.resolve(void adopted.push(run)) },
    logger: silent,
  });
  healthChecker.start();
  await reported.promise;
  expect(adopted[0]).toEqual({
    jobId: "job-1",
    attempt: 1,
    workerId: "worker",
    incarnation: INCARNATION,
    address,
  });
  // It does not end the running one.
  expect(await leases.find("job-1")).toMatchObject({ attempt: 2 });
  running.resolve();
  expect((await second).status).toBe("SUCCESS");
  await leases.close();
});
