/** Servers that are not up yet, or have lost their data: all programs wait, log it, and continue by themselves. */

import { afterAll, afterEach, beforeAll, expect, test } from "bun:test";
import { join } from "node:path";
import type { JobResult } from "../../src/shared/job.ts";
import { apiRequest } from "../support/blacktree/admin-api.ts";
import {
  type Deployment,
  readiness,
  SHORT_LEASE,
  shownWorkers,
  startDeployment,
  untilFree,
  untilReady,
} from "../support/blacktree/deployment.ts";
import { freePort } from "../support/machine/free-port.ts";
import { makeTempDir } from "../support/machine/temp-dir.ts";
import { waitFor } from "../support/machine/wait-for.ts";
import { type Backends, startBackends } from "../support/servers/backends.ts";
import type { RabbitMq } from "../support/servers/rabbitmq.ts";
import { type Redis, startRedis } from "../support/servers/redis.ts";

let backends: Backends<RabbitMq>;
let deployment: Deployment;

beforeAll(async () => {
  backends = await startBackends({ engine: "26.1", ownRabbitMq: {} });
  backends.aws.addRepository("1234567890", "app-images");
});

afterEach(() => deployment?.stop());

afterAll(() => backends?.stop());

const REDIS_PASSWORD = "hidden-in-the-url";

/** Ends after its request to git. */
async function quickResult(jobId: string): Promise<JobResult> {
  await deployment.publish({
    job_id: jobId,
    repo_url: "owner/nowhere",
    branch: "main",
    deployment_version: "v1",
    aws_account: "1234567890",
    ecr_repo: "app-images",
  });
  return deployment.nextResult();
}

async function checksOf(response: Response): Promise<unknown> {
  return ((await response.json()) as { checks: unknown }).checks;
}

test("absent servers: without RabbitMQ the orchestrator waits for it, and logs that", async () => {
  const { rabbitmq } = backends;
  await rabbitmq.kill();
  deployment = await startDeployment(backends, { vhost: rabbitmq.vhost, isBrokerAbsent: true });
  const orchestrator = await deployment.launchOrchestrator();
  const warning = await orchestrator.process.waitForLine("RabbitMQ is not reachable");
  const password = new URL(rabbitmq.url).password;
  expect(warning).toContain(`127.0.0.1:${rabbitmq.port}`);
  const notReady = await waitFor(
    async () => {
      const response = await readiness(orchestrator);
      const checks = (await checksOf(response)) as { redis: string };
      return checks.redis === "ok" ? { status: response.status, checks } : undefined;
    },
    { timeoutMs: 30_000, what: "Redis to be connected" },
  );
  expect(notReady).toEqual({ status: 503, checks: { rabbitmq: "unavailable", redis: "ok" } } as never);
  expect((await fetch(`${orchestrator.apiUrl}/healthz`)).status).toBe(200);

  await rabbitmq.start();
  await untilReady(orchestrator);
  await deployment.reconnect();
  await deployment.startWorker(orchestrator);
  expect(await quickResult("after-rabbitmq")).toMatchObject({ job_id: "after-rabbitmq" });
  expect(deployment.printed().join("\n")).not.toContain(password);
});

test("absent servers: without Redis the orchestrator waits for it, and logs that", async () => {
  const redis: Redis = await startRedis({ password: REDIS_PASSWORD });
  try {
    await redis.kill();
    deployment = await startDeployment(backends);
    const orchestrator = await deployment.launchOrchestrator({ REDIS_URL: redis.url });
    const warning = await orchestrator.process.waitForLine(new RegExp(`edis.*127\\.0\\.0\\.1:${redis.port}`));
    expect(warning).toContain('"level":"warn"');
    const notReady = await waitFor(
      async () => {
        const response = await readiness(orchestrator);
        const checks = (await checksOf(response)) as { rabbitmq: string };
        return checks.rabbitmq === "ok" ? { status: response.status, checks } : undefined;
      },
      { timeoutMs: 30_000, what: "RabbitMQ to be connected" },
    );
    expect(notReady).toEqual({ status: 503, checks: { rabbitmq: "ok", redis: "unavailable" } } as never);
    expect((await fetch(`${orchestrator.apiUrl}/healthz`)).status).toBe(200);
    expect((await apiRequest(orchestrator.apiUrl, "/api/v1/workers")).status).toBe(503);

    await redis.start();
    await untilReady(orchestrator);
    await deployment.startWorker(orchestrator);
    expect(await quickResult("after-redis")).toMatchObject({ job_id: "after-redis" });
    expect(deployment.printed().join("\n")).not.toContain(REDIS_PASSWORD);
  } finally {
    await redis.stop();
  }
});

test("absent servers: a worker that starts before its orchestrator registers once the orchestrator is up", async () => {
  deployment = await startDeployment(backends);
  const grpcAddress = `127.0.0.1:${await freePort()}`;
  const worker = await deployment.launchWorker({ grpcAddress });
  const warning = await worker.process.waitForLine("no orchestrator answers", { timeoutMs: 30_000 });
  expect(warning).toContain(grpcAddress);

  const orchestrator = await deployment.startOrchestrator({ BLACKTREE_GRPC_LISTEN: grpcAddress });
  await worker.process.waitForLine('"msg":"registered"', { timeoutMs: 30_000 });
  expect((await shownWorkers(orchestrator)).map(({ id }) => id)).toEqual([worker.id]);
  expect(await quickResult("after-the-orchestrator")).toMatchObject({ worker_id: worker.id });
});

test("absent servers: a worker that Redis has lost registers again, and accepts jobs", async () => {
  deployment = await startDeployment(backends);
  const orchestrator = await deployment.startOrchestrator(SHORT_LEASE);
  const worker = await deployment.startWorker(orchestrator);
  expect(await quickResult("before-the-loss")).toMatchObject({ worker_id: worker.id });

  await deployment.flushRedis();
  const registrations = () => worker.process.lines.filter((line) => line.includes('"msg":"registered"'));
  await waitFor(() => registrations().length > 1, { timeoutMs: 60_000, what: "a second registration" });
  await untilFree(orchestrator, worker);
  expect(await quickResult("after-the-loss")).toMatchObject({ worker_id: worker.id, attempt: 1 });
});

test("absent servers: a worker without AWS credentials says so, and registers once its profile has some", async () => {
  deployment = await startDeployment(backends);
  const orchestrator = await deployment.startOrchestrator();
  const folder = await makeTempDir("aws-profile");
  try {
    const { AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY } = backends.aws.env();
    const file = join(folder.path, "credentials");
    const worker = await deployment.launchWorker(orchestrator, {
      AWS_ACCESS_KEY_ID: "",
      AWS_SECRET_ACCESS_KEY: "",
      AWS_PROFILE: "builder",
      AWS_SHARED_CREDENTIALS_FILE: file,
    });
    const waiting = await worker.process.waitForLine("no AWS credentials; not registering yet");
    expect(waiting).toContain('from the profile \\"builder\\": it does not exist, or has no credentials');
    expect(await shownWorkers(orchestrator)).toEqual([]);
    const keys = `aws_access_key_id = ${AWS_ACCESS_KEY_ID}\naws_secret_access_key = ${AWS_SECRET_ACCESS_KEY}\n`;
    await Bun.write(file, `[builder]\n${keys}`);
    await worker.process.waitForLine('"msg":"registered"', { timeoutMs: 60_000 });
    const end = `${AWS_ACCESS_KEY_ID}`.slice(-4);
    await worker.process.waitForLine(`the profile \\"builder\\", key …${end}`);
    expect(deployment.printed().join("\n")).not.toContain(`${AWS_SECRET_ACCESS_KEY}`);
  } finally {
    await folder.remove();
  }
});
