/** Requests that pause, drain and resume, and the lists of workers and regions, on leases in memory. */
import { afterEach, beforeEach, expect, test } from "bun:test";
import pino from "pino";
import { createAdminApp } from "../../../../src/orchestrator/admin/app.ts";
import type { AdminParts } from "../../../../src/orchestrator/admin/parts.ts";
import { InProcessLeases } from "../../../../src/orchestrator/leases/in-process.ts";
import type { WorkerRegistration } from "../../../../src/orchestrator/leases/leases.ts";

const TOKEN = "correct-horse";
const logger = pino({ level: "silent" });
let leases: InProcessLeases;
let app: ReturnType<typeof createAdminApp>;

beforeEach(async () => {
  leases = new InProcessLeases({ leaseTtlMs: 60_000, jobMemoryMs: 60_000, settleMs: 0, logger });
  leases.start();
  const configured = ["us-east-1", "eu-west-1"];
  app = createAdminApp({
    leases,
    regions: {
      all: configured,
      has: (region: string) => configured.includes(region),
      knows: async (region: string) => configured.includes(region) || region === "just-registered",
    },
    names: { queue: "queue", leases: "leases" },
    region: "us-east-1",
    token: TOKEN,
    hosts: [],
    listen: { host: "127.0.0.1", port: 8080 },
    logger,
  } as unknown as AdminParts);
  await join("w1", { labels: { rack: "7", team: "a=b" }, slots: 2 });
  await join("w2", { labels: { rack: "7" }, region: "eu-west-1" });
});

afterEach(() => leases.close());

async function join(workerId: string, registration: Partial<WorkerRegistration> = {}): Promise<void> {
  await leases.register({
    workerId,
    incarnation: "i",
    region: "us-east-1",
    address: `${workerId}:6000`,
    slots: 1,
    version: "1.0.0",
    capabilities: [],
    runs: [],
    ...registration,
  });
  await leases.observe(workerId, "i", { status: "FREE", runs: [] });
}

async function ask(path: string, init: RequestInit = {}) {
  const headers = {
    host: "127.0.0.1:8080",
    authorization: `Bearer ${TOKEN}`,
    "content-type": "application/json",
  };
  const response = await app.request(
    `http://127.0.0.1:8080/api/v1/${path}`,
    { ...init, headers },
    { clientAddress: "::1" },
  );
  return { status: response.status, body: (await response.json()) as Record<string, unknown> };
}

const post = (path: string, body?: string) =>
  ask(path, { method: "POST", ...(body !== undefined && { body }) });

async function ids(query: string): Promise<unknown> {
  return ((await ask(`workers${query}`)).body.items as { id: string }[]).map(({ id }) => id).toSorted();
}

test("a worker is paused, drained and resumed, and the answer says what still runs on it", async () => {
  await leases.claim({ jobId: "j1", regions: ["us-east-1"] });
  expect(await post("workers/w1/pause", '{"reason":"new disk"}')).toMatchObject({
    status: 200,
    body: {
      id: "w1",
      region: "us-east-1",
      status: "BUSY",
      jobs: ["j1"],
      control: { kind: "paused", reason: "new disk", scope: "worker" },
      warning: expect.stringContaining("restart of blacktree up"),
    },
  });
  expect((await ask("workers/w1")).body).toMatchObject({
    status: "BUSY",
    refusal: "paused by an operator: new disk",
    runs: [{ job_id: "j1", attempt: 1, since: expect.any(String) }],
  });
  expect((await post("workers/w1/drain")).body).toMatchObject({
    status: "DRAINING",
    control: { kind: "drained", reason: "" },
  });
  for (const _twice of [1, 2])
    expect(await post("workers/w1/resume", "")).toMatchObject({
      status: 200,
      body: { id: "w1", status: "FREE", jobs: ["j1"], control: null, warning: null },
    });
});

test("a worker that is away is drained and resumed", async () => {
  await post("workers/w1/pause");
  await leases.deregister("w1", "i");
  expect((await post("workers/w1/drain", '{"reason":"new disk"}')).body).toMatchObject({
    region: null,
    status: null,
    control: { kind: "drained", reason: "new disk", scope: "worker" },
  });
  expect((await post("workers/w1/resume")).body).toMatchObject({ status: null, control: null });
});

test("a worker that was stopped is not known", async () => {
  await leases.deregister("w1", "i");
  expect(await post("workers/w1/resume")).toMatchObject({
    status: 404,
    body: { detail: expect.stringContaining("worker w1 is not known: it was stopped, ") },
  });
});

test("an unknown worker or region is refused, and the answer names the known ones", async () => {
  for (const action of ["pause", "drain", "resume"])
    expect(await post(`workers/w9/${action}`)).toMatchObject({
      status: 404,
      body: {
        detail:
          "worker w9 is not known: it was stopped, was lost more than an hour ago, or has never registered; known workers: w1, w2",
      },
    });
  expect(await ask("workers/w9")).toMatchObject({ status: 404, body: { title: "No such worker" } });
  expect(await post("regions/mars-1/drain")).toMatchObject({
    status: 404,
    body: {
      detail:
        "worker region mars-1 is not known; known regions: eu-west-1, us-east-1; start a worker there or add it to BLACKTREE_REGIONS",
    },
  });
  expect((await post("regions/just-registered/drain")).status).toBe(200);
});

test.each(['{"reason":"line\\nbreak"}', `{"reason":"${"x".repeat(201)}"}`, '{"reason":7}', "no json", "[]"])(
  "the body %s is refused",
  async (body) => {
    for (const path of ["workers/w1/pause", "regions/us-east-1/drain"])
      expect(await post(path, body)).toMatchObject({
        status: 400,
        body: { detail: expect.stringMatching(/expected/) },
      });
    expect((await ask("workers/w1")).body).toMatchObject({ control: null });
  },
);

test("regions are listed with their workers and slots, drained and resumed", async () => {
  await leases.claim({ jobId: "j1", regions: ["us-east-1"] });
  const counts = { FREE: 0, BUSY: 0, DRAINING: 0, LOST: 0 };
  expect((await ask("regions")).body.items).toEqual([
    {
      region: "eu-west-1",
      workers: { ...counts, FREE: 1 },
      slots: { total: 1, free: 1 },
      jobs: [],
      control: null,
    },
    {
      region: "us-east-1",
      workers: { ...counts, FREE: 1 },
      slots: { total: 2, free: 1 },
      jobs: ["j1"],
      control: null,
    },
  ]);
  const { body } = await post("regions/us-east-1/drain", '{"reason":"power cut"}');
  expect(body).toMatchObject({
    region: "us-east-1",
    workers: { ...counts, DRAINING: 1 },
    slots: { total: 2, free: 0 },
    jobs: ["j1"],
    control: { kind: "drained", reason: "power cut", scope: "region" },
    warning: expect.stringContaining("restart of blacktree up"),
  });
  expect((await post("regions/us-east-1/resume")).body).toMatchObject({ control: null, slots: { free: 1 } });
  expect((await post("regions/us-east-1/pause")).status).toBe(404);
});

test("workers are filtered by region, status and label", async () => {
  await post("workers/w2/pause");
  expect(await ids("")).toEqual(["w1", "w2"]);
  expect(await ids("?region=eu-west-1")).toEqual(["w2"]);
  expect(await ids("?status=FREE")).toEqual(["w1"]);
  expect(await ids("?status=FREE,BUSY&label=rack%3D7")).toEqual(["w1", "w2"]);
  expect(await ids("?label=rack%3D7&label=team%3Da%3Db")).toEqual(["w1"]);
  expect(await ids("?label=rack%3D8")).toEqual([]);
  for (const query of ["status=IDLE", "status=", "label=rack", "region=a&region=b", "regoin=x"])
    expect((await ask(`workers?${query}`)).status).toBe(400);
});

test("the OpenAPI document has the requests and their bodies", async () => {
  const response = await app.request(
    "http://127.0.0.1:8080/openapi.json",
    { headers: { host: "127.0.0.1:8080", authorization: `Bearer ${TOKEN}` } },
    { clientAddress: "::1" },
  );
  const { paths } = (await response.json()) as { paths: Record<string, Record<string, object>> };
  expect(Object.keys(paths)).toContain("/api/v1/workers/{id}");
  for (const path of ["/api/v1/workers/{id}/pause", "/api/v1/regions/{region}/drain"])
    expect(paths[path]?.post).toMatchObject({
      requestBody: { required: false },
      responses: { 200: {}, 400: {}, 404: {} },
    });
});
