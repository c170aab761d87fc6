/** Requests are passed directly to the admin app, without a socket. */
import { describe, expect, test } from "bun:test";
import pino from "pino";
import { createAdminApp } from "../../../../src/orchestrator/admin/app.ts";
import type { AdminParts } from "../../../../src/orchestrator/admin/parts.ts";
import type { Acceptance } from "../../../../src/orchestrator/admin/submit-job.ts";
import type { Cancellation } from "../../../../src/orchestrator/job/cancellation.ts";
import { LeasesUnavailable, type WorkerView } from "../../../../src/orchestrator/leases/leases.ts";
import type { JobListing, JobPage, JobRecord } from "../../../../src/orchestrator/records/job-records.ts";
import { expectConforming } from "../../../support/blacktree/conforming-answers.ts";

const WORKER: WorkerView = {
  workerId: "w-1",
  incarnation: "i-1",
  region: "us-east-1",
  address: "127.0.0.1:6000",
  slots: 1,
  version: "1.0.0",
  capabilities: ["linux/amd64", "provenance"],
  status: "BUSY",
  jobs: ["j-1"],
  runs: [],
  refusal: undefined,
  control: undefined,
  load: undefined,
  labels: {},
  keepsId: true,
  hasLease: true,
  isReached: true,
  lastSeen: new Date("2026-01-02T03:04:05Z"),
};

const RECORD: JobRecord = {
  jobId: "j-1",
  job: { repo_url: "owner/name", branch: "main", build_args: { KEY: "***" } },
  acceptedAt: new Date("2026-01-02T03:04:05Z"),
  state: "BUILDING",
  events: [],
  result: undefined,
};

const CANCELLATIONS: Readonly<Record<string, Cancellation>> = {
  "j-1": { kind: "cancelling", state: "BUILDING" },
  "j-cancelled": { kind: "ended", state: "CANCELLED" },
  "j-failed": { kind: "ended", state: "FAILED" },
};
/** By body. */
const SUBMISSIONS: Readonly<Record<string, Acceptance>> = {
  '{"x":1}': { kind: "accepted", jobId: "j-2" },
  '{"x":2}': { kind: "conflict", fields: ["branch", "tenant"] },
  "{}": { kind: "invalid", problems: ["branch: missing", "ecr_repo: missing"] },
};
const TOKEN = "correct-horse";
const cancels: [id: string, reason: string][] = [];

interface Situation {
  readonly isQueueReady?: boolean;
  readonly isLeasesReady?: boolean;
  readonly queueProblems?: readonly string[];
}

function app(
  { isQueueReady = true, isLeasesReady = true, queueProblems = [] }: Situation = {},
  replaced: Partial<AdminParts> = {},
) {
  const workers = async () => {
    if (!isLeasesReady) throw new LeasesUnavailable("unavailable");
    return [WORKER];
  };
  const parts = {
    submit: async (body: Buffer) => SUBMISSIONS[body.toString()],
    cancel: async (id: string, reason: string) => {
      cancels.push([id, reason]);
      return CANCELLATIONS[id] ?? { kind: "unknown" };
    },
    queue: { isReady: isQueueReady, problems: queueProblems },
    leases: {
      isReady: isLeasesReady,
      workers,
      find: async () => undefined,
      drainedRegions: async () => new Map(),
    },
    records: {
      find: async (id: string) => (id === "j-1" ? RECORD : undefined),
      list: async ({ matches, limit }: JobListing): Promise<JobPage> => {
        const { events: _, ...summary } = RECORD;
        const jobs = [{ ...summary, result: undefined }].filter(matches).slice(0, limit);
        return { jobs, next: { acceptedAtMs: 7, jobId: "j-1" } };
      },
    },
    names: { queue: "rabbitmq", leases: "redis" },
    region: "us-east-1",
    token: TOKEN,
    hosts: ["builds.example.com"],
    listen: { host: "127.0.0.1", port: 8080 },
    logger: pino({ level: "silent" }),
    ...replaced,
  } as unknown as AdminParts;
  return createAdminApp(parts);
}

/** Sends a request from this address, and compares the answer with the OpenAPI document. */
async function request(
  path: string,
  init: RequestInit = {},
  situation: Situation = {},
  { target = app(situation), clientAddress = "192.0.2.1" } = {},
) {
  const defaults = { host: "127.0.0.1:8080", authorization: `Bearer ${TOKEN}` };
  const headers = new Headers({ ...defaults, ...(init.headers as Record<string, string>) });
  const url = `http://127.0.0.1:8080${path}`;
  const response = await target.request(url, { ...init, headers }, { clientAddress });
  await expectConforming(init.method ?? "GET", path, response);
  return response;
}

const JSON_POST = { method: "POST", headers: { "content-type": "application/json" } };

describe("health", () => {
  test("/healthz returns 200 even when no server is available", async () => {
    expect((await request("/healthz", {}, { isQueueReady: false, isLeasesReady: false })).status).toBe(200);
  });

  test.each([
    [true, true, 200, { rabbitmq: "ok", redis: "ok" }],
    [false, true, 503, { rabbitmq: "unavailable", redis: "ok" }],
    [true, false, 503, { rabbitmq: "ok", redis: "unavailable" }],
  ])(
    "/readyz reports which server is unavailable (%p, %p)",
    async (isQueueReady, isLeasesReady, status, checks) => {
      const response = await request("/readyz", {}, { isQueueReady, isLeasesReady });
      expect(response.status).toBe(status);
      expect(await response.json()).toMatchObject({ checks });
    },
  );
});

test("/readyz names what RabbitMQ does not accept", async () => {
  const response = await request("/readyz", {}, { queueProblems: ["jobs.results does not accept messages"] });
  expect(response.status).toBe(503);
  expect(await response.json()).toMatchObject({
    checks: { rabbitmq: "jobs.results does not accept messages" },
  });
});

describe("reading", () => {
  test("workers", async () => {
    expect(await (await request("/api/v1/workers")).json()).toEqual({
      items: [
        {
          id: "w-1",
          region: "us-east-1",
          address: "127.0.0.1:6000",
          status: "BUSY",
          refusal: null,
          control: null,
          jobs: ["j-1"],
          runs: [],
          slots: 1,
          version: "1.0.0",
          capabilities: ["linux/amd64", "provenance"],
          labels: {},
          load: null,
          last_seen: "2026-01-02T03:04:05.000Z",
        },
      ],
      next_cursor: null,
    });
  });

  test("status, also while the leases are unavailable", async () => {
    expect(await (await request("/api/v1/status")).json()).toMatchObject({ workers: { BUSY: 1, FREE: 0 } });
    const unavailable = await request("/api/v1/status", {}, { isLeasesReady: false });
    expect(await unavailable.json()).toMatchObject({ connected: { redis: false }, workers: null });
  });

  test("jobs", async () => {
    const response = await request("/api/v1/jobs?state=BUILDING");
    const job = (await (await request("/api/v1/jobs/j-1")).json()) as Record<string, unknown>;
    const { events: _, steps: __, ...shown } = job;
    expect(await response.json()).toEqual({ items: [shown], next_cursor: "NzpqLTE" });
    expect(await (await request("/api/v1/jobs?state=FAILED")).json()).toMatchObject({ items: [] });
  });

  test("jobs of a query that is wrong", async () => {
    const response = await request("/api/v1/jobs?limit=0&state=RUNNING");
    expect(response.status).toBe(400);
    expect(await response.json()).toMatchObject({
      title: "Bad request",
      errors: [expect.stringContaining("state: "), expect.stringContaining("limit: ")],
    });
  });

  test("a job", async () => {
    expect(await (await request("/api/v1/jobs/j-1")).json()).toMatchObject({
      job_id: "j-1",
      state: "BUILDING",
      result: null,
    });
  });

  test.each(["/api/v1/jobs/other", "/api/v1/nothing", "/"])(
    "%s is a problem document with 404",
    async (path) => {
      const response = await request(path);
      expect(response.status).toBe(404);
      expect(response.headers.get("content-type")).toBe("application/problem+json");
      expect(await response.json()).toMatchObject({ status: 404, type: "about:blank" });
    },
  );

  test("a request that needs the leases fails with 503 while they are unavailable", async () => {
    const response = await request("/api/v1/workers", {}, { isLeasesReady: false });
    expect(response.status).toBe(503);
    expect(response.headers.get("retry-after")).toBe("5");
    expect(await response.json()).toMatchObject({
      detail: "redis does not answer; try again, and see GET /readyz for the state of the servers",
    });
  });
});

describe("submitting", () => {
  test("answers 202 with the id", async () => {
    const response = await request("/api/v1/jobs", { ...JSON_POST, body: '{"x":1}' });
    expect(response.status).toBe(202);
    expect(await response.json()).toEqual({ job_id: "j-2" });
  });

  test("reports all problems", async () => {
    const response = await request("/api/v1/jobs", { ...JSON_POST, body: "{}" });
    expect(response.status).toBe(400);
    expect(await response.json()).toMatchObject({ errors: ["branch: missing", "ecr_repo: missing"] });
  });

  test("answers 409 for the id of another job", async () => {
    const response = await request("/api/v1/jobs", { ...JSON_POST, body: '{"x":2}' });
    expect(response.status).toBe(409);
    expect(await response.json()).toMatchObject({
      status: 409,
      title: "Id in use",
      detail: "the id is that of another job, which differs in: branch, tenant",
    });
  });

  test("accepts only JSON", async () => {
    const response = await request("/api/v1/jobs", {
      method: "POST",
      headers: { "content-type": "text/plain" },
      body: "{}",
    });
    expect(response.status).toBe(415);
  });

  test("refuses a body that is too large", async () => {
    expect((await request("/api/v1/jobs", { ...JSON_POST, body: "x".repeat(1_100_000) })).status).toBe(413);
  });
});

describe("requests that are not valid", () => {
  test.each([
    ["PUT", "/api/v1/jobs", "GET, HEAD, OPTIONS, POST"],
    ["HEAD", "/api/v1/jobs/j-1/cancel", "OPTIONS, POST"],
    ["POST", "/healthz", "GET, HEAD, OPTIONS"],
    ["POST", "/api/v1/jobs/j-1", "GET, HEAD, OPTIONS"],
    ["DELETE", "/openapi.json", "GET, HEAD, OPTIONS"],
  ])("%s %s is 405 with the allowed methods", async (method, path, allow) => {
    const response = await request(path, { method });
    expect(response.status).toBe(405);
    expect(response.headers.get("allow")).toBe(allow);
    expect(response.headers.get("content-type")).toBe("application/problem+json");
  });

  test("OPTIONS names the allowed methods", async () => {
    const response = await request("/api/v1/jobs/j-1", { method: "OPTIONS" });
    expect(response.status).toBe(204);
    expect(response.headers.get("allow")).toBe("GET, HEAD, OPTIONS");
    expect((await request("/api/v1/nothing", { method: "OPTIONS" })).status).toBe(404);
  });

  test("HEAD answers as GET without a body", async () => {
    const response = await request("/api/v1/jobs/j-1", { method: "HEAD" });
    expect(response.status).toBe(200);
    expect(await response.text()).toBe("");
  });

  test.each([
    ["/api/v1/jobs/%zz", "%-encoded UTF-8"],
    ["/api/v1/jobs/%ff", "%-encoded UTF-8"],
    ["/api/v1/nothing/%c3", "%-encoded UTF-8"],
    ["/api/v1/jobs?repo=%zz", "%-encoded UTF-8"],
    ["/api/v1/jobs?repo=%C0%80", "%-encoded UTF-8"],
    ["/api/v1/jobs/%00", "NUL"],
    ["/api/v1/jobs?repo=a%00", "NUL"],
    ["/api/v1/jobs/j%0A1", "id: expected a job's id"],
    ["/api/v1/jobs/a%2Fb/waiting", "id: expected a job's id"],
    [`/api/v1/jobs/${"a".repeat(201)}/logs`, "id: expected a job's id"],
    ["/api/v1/jobs?limit=1&limit=2", "limit: given 2 times; expected once"],
    ["/api/v1/jobs?repo=a&repo=a", "repo: given 2 times; expected once"],
    ["/api/v1/jobs?status=QUEUED", "status: unknown; expected state, tenant, "],
    ["/api/v1/jobs?__proto__=x", "__proto__: unknown; expected state, tenant, "],
    ["/api/v1/jobs?repo=", "repo: expected a value"],
  ])("%s is a problem document with 400", async (path, detail) => {
    const response = await request(path);
    expect(response.status).toBe(400);
    expect(response.headers.get("content-type")).toBe("application/problem+json");
    expect(await response.json()).toMatchObject({ status: 400, detail: expect.stringContaining(detail) });
  });

  test.each(["/api/v1/jobs", "/api/v1/jobs/j-1/cancel"])(
    "a body of POST %s that is not JSON",
    async (path) => {
      for (const body of ["{", '{"reason":"a","reason":"b"}', '{"reason":"\\ud800"}']) {
        const response = await request(path, { ...JSON_POST, body });
        expect(response.status).toBe(400);
        expect(await response.json()).toMatchObject({ errors: [expect.stringContaining("expected")] });
      }
    },
  );

  test.each([["[]"], ["null"], ['"text"'], ['{"reason":1}'], ['{"reason":"a\\u0000"}']])(
    "cancelling with the body %s",
    async (body) => {
      const response = await request("/api/v1/jobs/j-1/cancel", { ...JSON_POST, body });
      expect(response.status).toBe(400);
      expect(await response.json()).toMatchObject({ detail: expect.stringContaining("expected") });
    },
  );

  test("an encoded body", async () => {
    const headers = { ...JSON_POST.headers, "content-encoding": "gzip" };
    const response = await request("/api/v1/jobs", { method: "POST", headers, body: Bun.gzipSync("{}") });
    expect(response.status).toBe(415);
    expect(await response.json()).toMatchObject({ detail: "expected a body without Content-Encoding" });
  });
});

describe("access checks", () => {
  test.each(["evil.example", "evil.example:8080", "127.0.0.1.evil.example", ""])(
    "Host %p is refused",
    async (host) => {
      expect((await request("/healthz", { headers: { host } })).status).toBe(403);
    },
  );

  test.each(["localhost:8080", "127.0.0.1", "[::1]:8080", "builds.example.com", "Builds.Example.COM:443"])(
    "Host %p is accepted",
    async (host) => {
      expect((await request("/healthz", { headers: { host } })).status).toBe(200);
    },
  );

  test("a foreign Origin is refused, the same host is accepted", async () => {
    expect((await request("/healthz", { headers: { origin: "https://evil.example" } })).status).toBe(403);
    expect((await request("/healthz", { headers: { origin: "null" } })).status).toBe(403);
    expect((await request("/healthz", { headers: { origin: "http://127.0.0.1:8080" } })).status).toBe(200);
  });

  test("the Origin of a page that a proxy with TLS serves is accepted", async () => {
    const headers = { host: "builds.example.com", origin: "https://builds.example.com" };
    expect((await request("/healthz", { headers })).status).toBe(200);
  });

  test("wrong tokens slow down their sender, and no other client", async () => {
    const target = app();
    const from = async (clientAddress: string, authorization: string) =>
      request("/api/v1/workers", { headers: { authorization } }, {}, { target, clientAddress });
    for (let tries = 0; tries < 10; tries += 1) {
      expect((await from("192.0.2.1", "Bearer wrong-horse")).status).toBe(401);
    }
    // Otherwise the answers would still show which token is the right one.
    for (const token of ["wrong-horse", TOKEN]) {
      const refused = await from("192.0.2.1", `Bearer ${token}`);
      expect(refused.status).toBe(429);
      expect(Number(refused.headers.get("retry-after"))).toBeGreaterThan(0);
      expect(refused.headers.get("content-type")).toBe("application/problem+json");
      expect(await refused.json()).toMatchObject({ status: 429, title: "Too many wrong tokens" });
    }
    expect((await from("192.0.2.2", `Bearer ${TOKEN}`)).status).toBe(200);
  });

  test("requests without a token do not slow down their sender", async () => {
    const target = app();
    const from = (authorization: string) =>
      request("/api/v1/workers", { headers: { authorization } }, {}, { target });
    for (let tries = 0; tries < 30; tries += 1) expect((await from("Basic YTpi")).status).toBe(401);
    expect((await from(`Bearer ${TOKEN}`)).status).toBe(200);
  });

  test("only the health paths need no token", async () => {
    const status = async (path: string, authorization = "") =>
      (await request(path, { headers: { authorization } })).status;
    expect(await status("/healthz")).toBe(200);
    expect(await status("/readyz")).toBe(200);
    expect(await status("/api/v1/workers")).toBe(401);
    expect(await status("/api/v1/workers", "Bearer wrong-horse")).toBe(401);
    expect(await status("/api/v1/workers", `Basic ${TOKEN}`)).toBe(401);
    expect(await status("/api/v1/workers", `Bearer ${TOKEN}`)).toBe(200);
  });
});

describe("cancelling", () => {
  const cancel = (id: string, body?: string) =>
    request(`/api/v1/jobs/${id}/cancel`, body === undefined ? JSON_POST : { ...JSON_POST, body });

  test.each([
    ["j-1", 202, { job_id: "j-1", state: "BUILDING" }],
    ["j-cancelled", 202, { job_id: "j-cancelled", state: "CANCELLED" }],
    ["j-failed", 409, { title: "Job has ended" }],
    ["j-unknown", 404, { title: "No such job" }],
  ])("%s is answered with %p", async (id, status, body) => {
    const response = await cancel(id);
    expect(response.status).toBe(status);
    expect(await response.json()).toMatchObject(body);
  });

  test("passes on the reason in the body, if any", async () => {
    cancels.length = 0;
    await cancel("j-1");
    await cancel("j-1", '{"reason":"wrong branch"}');
    expect(cancels).toEqual([
      ["j-1", ""],
      ["j-1", "wrong branch"],
    ]);
  });

  test.each([
    "[]",
    "nonsense",
    '{"reason":7}',
    '{"reason":"a\\nb"}',
    JSON.stringify({ reason: "x".repeat(201) }),
  ])("a body like %p is refused", async (body) => {
    cancels.length = 0;
    expect((await cancel("j-1", body)).status).toBe(400);
    expect(cancels).toEqual([]);
  });
});
