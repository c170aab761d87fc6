/** A job's id: every message with the same id, at any time, gets the one result of the one run. */

import { afterAll, afterEach, beforeAll, expect, test } from "bun:test";
import { randomUUID } from "node:crypto";
import type { JobResult } from "../../src/shared/job.ts";
import { apiRequest } from "../support/blacktree/admin-api.ts";
import {
  bodyOf,
  type Deployment,
  type OrchestratorProcess,
  shownJob,
  startDeployment,
  type WorkerProcess,
} from "../support/blacktree/deployment.ts";
import { sampleRepository } from "../support/machine/sample-repository.ts";
import { waitFor } from "../support/machine/wait-for.ts";
import { type Backends, startBackends } from "../support/servers/backends.ts";

let backends: Backends;
let deployment: Deployment;
let orchestrator: OrchestratorProcess;
let worker: WorkerProcess;

beforeAll(async () => {
  backends = await startBackends({ engine: "26.1" });
  backends.aws.addRepository("1234567890", "app-images");
  await backends.git.createRepository("owner/working", await sampleRepository());
  deployment = await startDeployment(backends);
  orchestrator = await deployment.startOrchestrator({ BLACKTREE_KEY_PREFIX: "team-1" });
  worker = await deployment.startWorker(orchestrator);
});

afterAll(async () => {
  await deployment?.stop();
  await backends?.stop();
});

let held: { release(): void } | undefined;

/** From now on every job is held at its request to git, until `releaseJobs`. */
function holdJobs(): void {
  held = backends.git.hold();
}

function releaseJobs(): void {
  held?.release();
  held = undefined;
}

afterEach(releaseJobs);

/** Ends after its request to git, which is all that most of these tests need of a job. */
const quickJob = (changes: object = {}) => ({
  repo_url: "owner/nowhere",
  branch: "main",
  deployment_version: "v1",
  aws_account: "1234567890",
  ecr_repo: "app-images",
  ...changes,
});

function runsOf(jobId: string): number {
  const isStart = (line: string) => line.includes('"msg":"run started"') && line.includes(`"${jobId}"`);
  return worker.process.lines.filter(isStart).length;
}

/** Afterwards, a message with the job's id joins it. */
async function queue(job: { job_id: string }, options: { replyTo?: string } = {}): Promise<void> {
  await deployment.publish(quickJob(job), options);
  await orchestrator.process.waitForLine(new RegExp(`"${job.job_id}".*"msg":"job queued"`));
}

/** Waits until the orchestrator has logged this number of messages that join the job. */
async function untilJoined(jobId: string, messages: number): Promise<void> {
  const isJoin = (line: string) =>
    line.includes("duplicate message: a job with its id") && line.includes(`"${jobId}"`);
  await waitFor(() => orchestrator.process.lines.filter(isJoin).length >= messages, {
    timeoutMs: 30_000,
    what: `${messages} messages to join ${jobId}`,
  });
}

/** All results up to that of a job that is sent now: duplicate results would have arrived before it. */
async function resultsUntilNow(): Promise<JobResult[]> {
  const last = `last-${randomUUID()}`;
  await deployment.publish(quickJob({ job_id: last }));
  const results: JobResult[] = [];
  for (;;) {
    const result = await deployment.nextResult();
    if (result.job_id === last) return results;
    results.push(result);
  }
}

test("identity: a message with the id of a running job joins it", async () => {
  holdJobs();
  await queue({ job_id: "twice-running" });
  await worker.process.waitForLine(/"twice-running".*"msg":"run started"/);
  await deployment.publish(quickJob({ job_id: "twice-running" }));
  await untilJoined("twice-running", 1);
  releaseJobs();
  const results = await resultsUntilNow();
  expect(results.map(({ job_id }) => job_id)).toEqual(["twice-running"]);
  expect(runsOf("twice-running")).toBe(1);
});

test("identity: a message with the id of a waiting job joins it", async () => {
  holdJobs();
  await queue({ job_id: "in-front" });
  await worker.process.waitForLine(/"in-front".*"msg":"run started"/);
  await queue({ job_id: "waits" });
  for (const _ of [1, 2]) await deployment.publish(quickJob({ job_id: "waits" }));
  await untilJoined("waits", 2);
  releaseJobs();
  const results = await resultsUntilNow();
  expect(results.map(({ job_id }) => job_id)).toEqual(["in-front", "waits"]);
  expect(runsOf("waits")).toBe(1);
});

test("identity: a message with the id of a finished job gets the same result, and nothing runs", async () => {
  const job = {
    ...quickJob({ job_id: "ended" }),
    repo_url: "owner/working",
    deployment_version: "v-ended",
  };
  await deployment.publish(job, { correlationId: "first" });
  const first = await deployment.next("jobs.results");
  expect(bodyOf<JobResult>(first).status).toBe("SUCCESS");

  const { queue: replyTo } = await deployment.amqp.assertQueue("", { autoDelete: true });
  await deployment.publish(job, { correlationId: "second", replyTo });
  const [second, reply] = [await deployment.next("jobs.results"), await deployment.next(replyTo)];
  for (const again of [second, reply]) {
    expect(bodyOf<JobResult>(again)).toEqual(bodyOf<JobResult>(first));
    expect(again.properties).toMatchObject({ messageId: "ended", correlationId: "second" });
  }
  expect(await resultsUntilNow()).toEqual([]);
  expect(runsOf("ended")).toBe(1);
});

test("identity: message_id is the id of a job without job_id, and job_id has precedence", async () => {
  await deployment.publish(quickJob(), { messageId: "outside" });
  expect(await deployment.nextResult()).toMatchObject({ job_id: "outside" });
  await deployment.publish(quickJob({ job_id: "inside" }), { messageId: "not-this-one" });
  const message = await deployment.next("jobs.results");
  expect(bodyOf<JobResult>(message)).toMatchObject({ job_id: "inside" });
  expect(message.properties.messageId).toBe("inside");
});

test("identity: an invalid message_id is ignored", async () => {
  await deployment.publish(quickJob(), { messageId: "two words" });
  const { job_id, error } = await deployment.nextResult();
  expect(job_id).not.toBe("two words");
  expect(error?.code).toBe("REPO_NOT_FOUND");
});

test("identity: messages without an id are separate jobs", async () => {
  await deployment.publish(quickJob());
  await deployment.publish(quickJob());
  const ids = [(await deployment.nextResult()).job_id, (await deployment.nextResult()).job_id];
  expect(new Set(ids).size).toBe(2);
});

test("identity: a message that joins a job with another reply_to gets its result too", async () => {
  const replies = await Promise.all(
    [1, 2].map(async () => (await deployment.amqp.assertQueue("", { autoDelete: true })).queue),
  );
  holdJobs();
  await queue({ job_id: "joined" }, { replyTo: replies[0] });
  await deployment.publish(quickJob({ job_id: "joined" }), { replyTo: replies[1] });
  await untilJoined("joined", 1);
  releaseJobs();
  const result = await deployment.nextResult();
  expect(result.job_id).toBe("joined");
  for (const reply of replies) expect(bodyOf<JobResult>(await deployment.next(reply))).toEqual(result);
  expect(await resultsUntilNow()).toEqual([]);
});

test("identity: many messages with one id at once are one job", async () => {
  const messages = Array.from({ length: 20 }, () => quickJob({ job_id: "at-once" }));
  await Promise.all(messages.map((job) => deployment.publish(job)));
  const results = await resultsUntilNow();
  // Messages that arrived after the job's end were answered, each with the same result.
  for (const result of results) expect(result).toEqual(results[0] as JobResult);
  expect(results[0]?.job_id).toBe("at-once");
  expect(runsOf("at-once")).toBe(1);
  const states = (await shownJob(orchestrator, "at-once"))?.events.map(({ state }) => state);
  expect(states?.filter((state) => state === "ASSIGNED")).toHaveLength(1);
  expect(states?.at(-1)).toBe("FAILED");
});

const DIFFERENT = { branch: "next", tenant: "other", build_args: { MODE: "hush" } };
const CONFLICT = "the id is that of another job, which differs in: branch, build_args, tenant";

test("identity: a message with the id of another job becomes a dead letter, and gets no result", async () => {
  const replies = await Promise.all(
    [1, 2].map(async () => (await deployment.amqp.assertQueue("", { autoDelete: true })).queue),
  );
  const [own, foreign] = replies as [string, string];
  const different = quickJob({ ...DIFFERENT, job_id: "taken" });
  const expectDeadLetter = async () => {
    await deployment.publish(different, { replyTo: foreign });
    const letter = await deployment.next("jobs.build.dead");
    expect(bodyOf<object>(letter)).toEqual(different);
    expect(letter.properties.headers?.["x-blacktree-reason"]).toBe(CONFLICT);
  };
  holdJobs();
  await queue({ job_id: "before-taken" });
  await worker.process.waitForLine(/"before-taken".*"msg":"run started"/);
  await queue({ job_id: "taken" }, { replyTo: own });
  await expectDeadLetter();
  releaseJobs();
  const result = bodyOf<JobResult>(await deployment.next(own));
  expect(result).toMatchObject({ job_id: "taken", tenant: "1234567890" });
  await expectDeadLetter();
  expect((await resultsUntilNow()).map(({ job_id }) => job_id)).toEqual(["before-taken", "taken"]);
  for (const reply of replies) expect(await deployment.depth(reply)).toBe(0);
  expect(runsOf("taken")).toBe(1);
  const contents = await deployment.redisContents();
  expect(contents).not.toContain("hush");
  const keys = contents.split("\n").map((entry) => entry.split(" ")[0] ?? "");
  expect(keys).toContain("{team-1}:job:taken");
  expect(keys.filter((key) => !key.startsWith("{team-1}:"))).toEqual([]);

  const response = await apiRequest(orchestrator.apiUrl, "/api/v1/jobs", {
    method: "POST",
    body: JSON.stringify(different),
    headers: { "content-type": "application/json" },
  });
  expect(response.status).toBe(409);
  expect(await response.json()).toMatchObject({ detail: CONFLICT });
  expect(await resultsUntilNow()).toEqual([]);
  expect(await deployment.depth("jobs.build.dead")).toBe(0);
});

test("identity: a message with rotated secrets, and defaults in full, is the same job", async () => {
  holdJobs();
  await deployment.publish(quickJob({ job_id: "rotated", git_token: "token-1", secrets: { npm: "1" } }));
  await orchestrator.process.waitForLine(/"rotated".*"msg":"job queued"/);
  const again = { git_token: "token-2", secrets: { npm: "2" }, tenant: "1234567890", priority: "normal" };
  await deployment.publish(quickJob({ job_id: "rotated", ...again }));
  await untilJoined("rotated", 1);
  releaseJobs();
  expect((await resultsUntilNow()).map(({ job_id }) => job_id)).toEqual(["rotated"]);
});

test("identity: equal supersede keys of two tenants are two keys", async () => {
  const keyed = async (job_id: string, tenant: string) => {
    await deployment.publish(quickJob({ job_id, tenant, supersede: "web/main" }));
    await orchestrator.process.waitForLine(new RegExp(`"${job_id}".*"msg":"job queued"`));
  };
  holdJobs();
  await queue({ job_id: "before-keys" });
  await worker.process.waitForLine(/"before-keys".*"msg":"run started"/);
  await keyed("one-first", "one");
  await keyed("other-first", "other");
  await keyed("one-latest", "one");
  expect(await deployment.nextResult()).toMatchObject({
    job_id: "one-first",
    tenant: "one",
    status: "CANCELLED",
  });
  releaseJobs();
  const ends = (await resultsUntilNow()).map(({ job_id, tenant, error }) => [job_id, tenant, error?.code]);
  expect(ends).toEqual([
    ["before-keys", "1234567890", "REPO_NOT_FOUND"],
    ["other-first", "other", "REPO_NOT_FOUND"],
    ["one-latest", "one", "REPO_NOT_FOUND"],
  ]);
});
