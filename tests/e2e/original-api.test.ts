/** The original Blacktree's API, as its code declares queues and publishes, on Blacktree's compiled orchestrator. */
import { afterAll, beforeAll, beforeEach, expect, test } from "bun:test";
import { randomUUID } from "node:crypto";
import {
  bodyOf,
  type Deployment,
  type OrchestratorProcess,
  startDeployment,
} from "../support/blacktree/deployment.ts";
import { imageOutput } from "../support/blacktree/image-output.ts";
import { sampleGreeting, sampleRepository } from "../support/machine/sample-repository.ts";
import { type Backends, startBackends } from "../support/servers/backends.ts";

const TOKEN = "gho_of_the_user";
const SETTINGS = { BLACKTREE_ORIGINAL_API: "true", BLACKTREE_ORIGINAL_API_ACCOUNT: "1234567890" };
const ECR_LOGIN = { username: "AWS", password: `ecr-${randomUUID()}` };
const API_RESULTS = "api.result.queue";

let backends: Backends;
let deployment: Deployment;
let orchestrator: OrchestratorProcess;

beforeAll(async () => {
  backends = await startBackends({ engine: "26.1" });
  backends.aws.configure({ registryLogin: ECR_LOGIN });
  backends.aws.addRepository("1234567890", "blacktree");
  await backends.git.createRepository("owner/private", await sampleRepository(), {
    private: { token: TOKEN },
  });
  deployment = await startDeployment(backends);
  const { amqp } = deployment;
  await amqp.assertExchange("blacktree.direct", "direct", { durable: true });
  await amqp.assertQueue("execute.queue", { durable: true });
  await amqp.bindQueue("execute.queue", "blacktree.direct", "worker.execute");
  await amqp.assertQueue(API_RESULTS, { durable: true });
  await amqp.bindQueue(API_RESULTS, "blacktree.direct", "api.result");
  orchestrator = await deployment.startOrchestrator(SETTINGS);
  await deployment.startWorker(orchestrator);
});

afterAll(async () => {
  await deployment?.stop();
  await backends?.stop();
});

let deploymentId: string;
beforeEach(() => {
  deploymentId = randomUUID();
});

function publish(changes: object = {}): void {
  const message = {
    deploymentId,
    token: TOKEN,
    repository: "owner/private",
    branch: "main",
    dockerFilePath: "Dockerfile",
    contextDir: "./",
    createdAt: new Date().toISOString(),
    ...changes,
  };
  deployment.amqp.publish("blacktree.direct", "worker.execute", Buffer.from(JSON.stringify(message)), {
    persistent: true,
  });
}

const answer = async () => bodyOf<Record<string, unknown>>(await deployment.next(API_RESULTS));

test("original API: a message becomes an image, and its answer names it", async () => {
  publish();
  const { imageUrl, ...rest } = await answer();
  expect(rest).toMatchObject({ deploymentId, success: true, error: "" });
  expect(rest.logs).toBeString();
  expect(imageUrl).toBe(`${backends.ecr.host}/blacktree:${deploymentId}`);
  expect(await imageOutput(backends.docker, String(imageUrl), ECR_LOGIN)).toBe(sampleGreeting);
  // The queue that the original's orchestrator declared has it, too.
  expect(bodyOf(await deployment.next("status.queue"))).toMatchObject({ deploymentId, success: true });
});

test("original API: a version is built again on request", async () => {
  publish();
  await answer();
  publish({ createdAt: "2031-01-01T00:00:00.000Z" });
  expect(await answer()).toMatchObject({ deploymentId, success: true });
});

test("original API: a build that fails is answered with its error", async () => {
  publish({ dockerFilePath: "no/such/Dockerfile" });
  const failure = {
    deploymentId,
    success: false,
    imageUrl: "",
    error: expect.stringContaining("DOCKERFILE_NOT_FOUND"),
  };
  expect(await answer()).toEqual({ ...failure, logs: expect.any(String) });
});

test("original API: an invalid message is answered, and dead-lettered without its token", async () => {
  publish({ branch: "-x" });
  expect(await answer()).toMatchObject({
    deploymentId,
    success: false,
    error: expect.stringMatching(/INVALID_JOB: branch/),
  });
  const letter = await deployment.next("jobs.build.dead");
  expect(letter.content.toString()).not.toContain(TOKEN);
  deployment.amqp.publish("blacktree.direct", "worker.execute", Buffer.from(`{"token":"${TOKEN}"`));
  const unreadable = await deployment.next("jobs.build.dead");
  expect(String(unreadable.properties.headers?.["x-blacktree-reason"])).toContain("not JSON");
  expect(unreadable.content.toString()).not.toContain(TOKEN);
});

test("original API: an orchestrator that is killed loses no message", async () => {
  const ids = Array.from({ length: 100 }, () => randomUUID());
  for (const id of ids) publish({ deploymentId: id, branch: "-x" });
  const answered = new Set<unknown>([(await answer()).deploymentId]);
  await orchestrator.process.kill();
  orchestrator = await deployment.startOrchestrator(SETTINGS);
  // What was passed on but not acked yet is answered twice.
  while (answered.size < ids.length) answered.add((await answer()).deploymentId);
  expect([...answered].sort()).toEqual([...ids].sort());
});
