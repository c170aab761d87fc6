/** Temporary faults are tried again, first in place, then as another attempt; faults of the job itself are not. */
import { afterEach, expect, test } from "bun:test";
import type { JobEvent } from "../../../src/shared/job.ts";
import { type OrchestratorProcess, untilFree } from "../../support/blacktree/deployment.ts";
import {
  expectNothingLeft,
  expectSuccess,
  faultSite,
  linesAbout,
  sampleJob,
  tagPuts,
} from "../../support/blacktree/fault-site.ts";
import { inFullCheck } from "../../support/machine/full-check.ts";
import { waitFor } from "../../support/machine/wait-for.ts";

/** The system's clock may be set back by this much during the test. */
const CLOCK_STEP_MS = 50;

const site = faultSite();
let orchestrator: OrchestratorProcess;
let events: readonly JobEvent[];

afterEach(() => site.backends.ecr.clearFailures());

async function startScene(env: Record<string, string> = {}): Promise<void> {
  const deployment = await site.deploy();
  orchestrator = await deployment.startOrchestrator(env);
  events = await deployment.watchEvents();
}

async function untilEnded(): Promise<void> {
  const isEnd = (state: string | undefined) => state === "SUCCEEDED" || state === "FAILED";
  await waitFor(() => isEnd(events.at(-1)?.state), { timeoutMs: 30_000, what: "the last event" });
}

const retrying = () => events.filter(({ state }) => state === "RETRYING");

test("retries: a registry is down for long: attempts on one worker after the other, with growing delay, and one result", async () => {
  await startScene({ BLACKTREE_MAX_ATTEMPTS: "3" });
  const workers = [
    await site.deployment.startWorker(orchestrator),
    await site.deployment.startWorker(orchestrator),
  ];
  const job = await sampleJob(site.backends, { variant: "working" });
  site.backends.ecr.failNext({ count: 1000, status: 503, path: new RegExp(`^/v2/${job.ecr_repo}/`) });
  await site.deployment.publish(job);
  const result = await site.deployment.nextResult(180_000);
  expect(result).toMatchObject({
    job_id: job.job_id,
    status: "FAILED",
    attempt: 3,
    error: { code: "PUSH_FAILED", retryable: true },
  });
  await untilEnded();
  expect(retrying()).toMatchObject([
    { attempt: 1, error: { code: "PUSH_FAILED" } },
    { attempt: 2, error: { code: "PUSH_FAILED" } },
  ]);
  const [first = 0, second = 0] = retrying().map((event) => Number(event.delay_ms));
  expect(second).toBeGreaterThan(first);
  // The broker's delays count as well. They begin after this log line; the event RETRYING may be later than that.
  const failedAt = linesAbout(orchestrator, job, "attempt failed; the job is tried again").map((line) =>
    Date.parse((JSON.parse(line) as { time: string }).time),
  );
  const assigned = events.filter(({ state }) => state === "ASSIGNED");
  const waited = failedAt.map((at, index) => Date.parse(`${assigned[index + 1]?.at}`) - at);
  expect(waited).toHaveLength(2);
  expect(waited[0]).toBeGreaterThanOrEqual(first - CLOCK_STEP_MS);
  expect(waited[1]).toBeGreaterThanOrEqual(second - CLOCK_STEP_MS);
  const [one, two, three] = assigned.map((event) => event.worker_id);
  expect(two).not.toBe(one);
  expect(three).not.toBe(two);
  expect(result.worker_id).toBe(`${three}`);
  for (const worker of workers) await untilFree(orchestrator, worker);
  await expectNothingLeft(site.deployment, orchestrator);
});

inFullCheck().test("retries: a registry recovers: the next attempt succeeds", async () => {
  await startScene();
  const worker = await site.deployment.startWorker(orchestrator);
  const job = await sampleJob(site.backends, { variant: "working" });
  // As many requests for the version as one attempt sends.
  site.backends.ecr.failNext({ count: 3, status: 503, path: new RegExp(`/${job.deployment_version}$`) });
  await site.deployment.publish(job);
  await expectSuccess(site, job, { attempt: 2 });
  await untilEnded();
  expect(retrying()).toHaveLength(1);
  await untilFree(orchestrator, worker);
  await expectNothingLeft(site.deployment, orchestrator);
});

test("retries: a failed push is tried again in place, from the existing build", async () => {
  await startScene();
  const worker = await site.deployment.startWorker(orchestrator);
  const job = await sampleJob(site.backends, { variant: "slow", sleepSeconds: 1 });
  site.backends.ecr.failNext({
    count: 2,
    status: 500,
    method: "PUT",
    path: new RegExp(`^/v2/${job.ecr_repo}/`),
  });
  await site.deployment.publish(job);
  const result = await expectSuccess(site, job);
  // The RUN step's output appears when the step runs, and not when it is cached.
  const printed = /^#\d+ [\d.]+ this step sleeps$/;
  expect(result.logs.filter((line) => printed.test(line))).toHaveLength(1);
  expect(retrying()).toEqual([]);
  await untilFree(orchestrator, worker);
  await expectNothingLeft(site.deployment, orchestrator);
});

inFullCheck().test("retries: a tag that the registry rejects at first is put again in place", async () => {
  await startScene();
  const worker = await site.deployment.startWorker(orchestrator);
  const job = await sampleJob(site.backends, { variant: "working" });
  site.backends.ecr.failNext({
    count: 2,
    status: 503,
    method: "PUT",
    path: new RegExp(`/manifests/${job.deployment_version}$`),
  });
  await site.deployment.publish(job);
  await expectSuccess(site, job);
  expect(tagPuts(site, job).map(({ status }) => status)).toEqual([503, 503, 201]);
  expect(retrying()).toEqual([]);
  await untilFree(orchestrator, worker);
  await expectNothingLeft(site.deployment, orchestrator);
});

test("retries: a fault of the job itself fails at once", async () => {
  await startScene();
  const workers = [
    await site.deployment.startWorker(orchestrator),
    await site.deployment.startWorker(orchestrator),
  ];
  const job = await sampleJob(site.backends, { variant: "failing" });
  await site.deployment.publish(job);
  expect(await site.deployment.nextResult()).toMatchObject({
    job_id: job.job_id,
    status: "FAILED",
    attempt: 1,
    error: { code: "BUILD_FAILED", retryable: false },
  });
  await untilEnded();
  expect(retrying()).toEqual([]);
  for (const worker of workers) await untilFree(orchestrator, worker);
  await expectNothingLeft(site.deployment, orchestrator);
});
