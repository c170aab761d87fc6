/** The build steps of a job in the admin API, with RabbitMQ, Redis and a worker's service over real gRPC. */
import { afterAll, afterEach, beforeAll, expect, test } from "bun:test";
import type { JobEvent } from "../../../src/shared/job.ts";
import {
  type BuildStep,
  type DescribeRunRequest,
  JobResponse,
  JobStatus,
  PingResponse,
  WorkerServiceService,
  WorkerStatus,
} from "../../../src/shared/rpc/generated/blacktree/v1/worker.ts";
import { type ServedService, serveRpc } from "../../../src/shared/rpc/server.ts";
import { apiRequest } from "../../support/blacktree/admin-api.ts";
import { waitFor } from "../../support/machine/wait-for.ts";
import { borrowRabbitMq } from "../../support/servers/pool.ts";
import type { RabbitMqServer } from "../../support/servers/rabbitmq.ts";
import { type Redis, startRedis } from "../../support/servers/redis.ts";
import { type OrchestratorSite, startOrchestratorSite } from "./orchestrator-site.ts";

const JOB = "job-1";
const AT = "2026-01-02T03:04:05.000Z";
const running: BuildStep = {
  number: 4,
  name: "[2/2] RUN make",
  startedAt: AT,
  endedAt: "",
  durationMs: 0,
  cached: false,
  error: "",
};
const ended: BuildStep = { ...running, endedAt: AT, durationMs: 12, error: "exit code: 2" };

let rabbitmq: RabbitMqServer;
let redis: Redis;
let site: OrchestratorSite;

beforeAll(async () => {
  [rabbitmq, redis] = await Promise.all([borrowRabbitMq(), startRedis()]);
});
afterEach(() => site?.stop());
afterAll(() => Promise.all([rabbitmq?.stop(), redis?.stop()]));

/** Has one run, which begins with the call of `begun`, and ends after `mayEnd`. */
function workerOf(begun: () => void, mayEnd: Promise<void>): ServedService {
  type Answer = (error: null, response: unknown) => void;
  const response = JobResponse.fromPartial({
    status: JobStatus.JOB_STATUS_FAILED,
    log: {},
    timingsMs: {},
    startedAt: AT,
    finishedAt: AT,
    steps: [ended],
  });
  const ping = { workerId: "worker", incarnation: "first", status: WorkerStatus.WORKER_STATUS_FREE };
  const implementation = {
    ping: (_: unknown, answer: Answer) => answer(null, PingResponse.fromPartial(ping)),
    runJob(_: unknown, answer: Answer) {
      begun();
      void mayEnd.then(() => answer(null, response));
    },
    watchJob: (call: { end(): void }) => call.end(),
    describeRun: ({ request }: { request: DescribeRunRequest }, answer: Answer) =>
      answer(null, { steps: request.run?.jobId === JOB && request.incarnation === "first" ? [running] : [] }),
    ackResult: (_: unknown, answer: Answer) => answer(null, {}),
  };
  return {
    name: "blacktree.v1.WorkerService",
    definition: WorkerServiceService,
    implementation: implementation as unknown as ServedService["implementation"],
  };
}

interface Shown {
  readonly steps: unknown;
  readonly events: readonly JobEvent[];
}

/** On a busy machine Redis may not answer for a moment. */
async function shown(): Promise<Shown> {
  const answered = async () => {
    const response = await apiRequest(site.adminUrl, `/api/v1/jobs/${JOB}`);
    return response.ok ? ((await response.json()) as Shown) : undefined;
  };
  return waitFor(answered, { timeoutMs: 60_000, what: "the job" });
}

test("a job shows the steps that its worker reports, and later those of its outcome", async () => {
  const begun = Promise.withResolvers<void>();
  const mayEnd = Promise.withResolvers<void>();
  const listen = { host: "127.0.0.1", port: 0 };
  const worker = await serveRpc([workerOf(begun.resolve, mayEnd.promise)], listen, undefined);
  try {
    site = await startOrchestratorSite({ rabbitMqUrl: rabbitmq.url, redisUrl: redis.url });
    await site.addWorker("worker", "first", worker.port);
    const result = site.nextResult();
    site.submit(JOB);
    await begun.promise;
    const step = { number: 4, name: "[2/2] RUN make", started_at: AT, cached: false };
    const { steps, events } = await shown();
    expect(steps).toEqual([{ ...step, ended_at: null, duration_ms: null, error: null }]);
    expect(events.find(({ state }) => state === "ASSIGNED")).toMatchObject({
      worker_id: "worker",
      region: "us-east-1",
      reason: "free in us-east-1",
    });
    mayEnd.resolve();
    expect(await result).not.toHaveProperty("steps");
    expect((await shown()).steps).toEqual([
      { ...step, ended_at: AT, duration_ms: 12, error: "exit code: 2" },
    ]);
  } finally {
    mayEnd.resolve();
    await worker.stop(100);
  }
});
