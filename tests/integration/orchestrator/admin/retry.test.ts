/** Retries through the admin app, with real job records; the queue passes each message on as Intake admits it. */
import { afterEach, beforeEach, expect, test } from "bun:test";
import { join } from "node:path";
import pino from "pino";
import { createAdminApp } from "../../../../src/orchestrator/admin/app.ts";
import type { AdminParts } from "../../../../src/orchestrator/admin/parts.ts";
import { submitJob } from "../../../../src/orchestrator/admin/submit-job.ts";
import { openEmbeddedDatabase } from "../../../../src/orchestrator/embedded-database.ts";
import { readJobMessage } from "../../../../src/orchestrator/job/message.ts";
import type { MessageProperties } from "../../../../src/orchestrator/queue/queue.ts";
import { SqliteJobRecords } from "../../../../src/orchestrator/records/sqlite.ts";
import { makeTempDir, type TempDir } from "../../../support/machine/temp-dir.ts";
import { sampleResult } from "../sample-result.ts";

const TOKEN = "correct-horse";
const rules = {
  git: { baseUrl: "https://github.com", allowedHosts: ["github.com"] },
  defaultRegion: "us-east-1",
  secretLimit: 100,
};
const MESSAGE = {
  repo_url: "owner/name",
  branch: "main",
  deployment_version: "v1",
  aws_account: "1234567890",
  ecr_repo: "images",
  build_args: { MODE: "hidden" },
};

interface Submitted {
  readonly message: Readonly<Record<string, unknown>>;
  readonly properties: MessageProperties;
}

let folder: TempDir;
let database: ReturnType<typeof openEmbeddedDatabase>;
let records: SqliteJobRecords;
let submitted: Submitted[];
let app: ReturnType<typeof createAdminApp>;

beforeEach(async () => {
  folder = await makeTempDir("retry");
  database = openEmbeddedDatabase(join(folder.path, "blacktree.db"));
  records = new SqliteJobRecords({ database, jobMemoryMs: 60_000 });
  records.start();
  submitted = [];
  const queue = { submit: admit };
  const regions = { problemOf: async () => undefined };
  const parts = {
    records,
    leases: { find: async () => undefined } as unknown as AdminParts["leases"],
    submit: (body, signal, properties) =>
      submitJob({ queue, records, rules, regions }, body, signal, properties),
    token: TOKEN,
    hosts: [],
    listen: { host: "127.0.0.1", port: 8080 },
    logger: pino({ level: "silent" }),
  } as Partial<AdminParts>;
  app = createAdminApp(parts as AdminParts);
});

afterEach(async () => {
  database.close();
  await folder.remove();
});

async function admit(body: Buffer, properties: MessageProperties): Promise<void> {
  const message = readJobMessage(body, properties, rules);
  if (message.kind !== "job") throw new Error(message.problems.join());
  submitted.push({ message: JSON.parse(body.toString()), properties });
  const { identity, retryBasis, publicJob: job, explicitId: jobId = "" } = message;
  const { replyTo, correlationId } = properties;
  await records.admit({ jobId, job, identity, retryBasis, acceptedAt: new Date(), replyTo, correlationId });
  await records.queued(jobId);
}

/** Accepts a job as Intake does. */
async function accept(
  jobId: string,
  changes: object = {},
  properties: MessageProperties = {},
): Promise<void> {
  await admit(Buffer.from(JSON.stringify({ ...MESSAGE, job_id: jobId, ...changes })), properties);
  submitted = [];
}

async function end(jobId: string): Promise<void> {
  await records.finish(sampleResult(jobId, { status: "FAILED" }), "publisher");
}

async function request(path: string, init: RequestInit = {}): Promise<{ status: number; body: unknown }> {
  const headers = {
    host: "127.0.0.1:8080",
    authorization: `Bearer ${TOKEN}`,
    "content-type": "application/json",
  };
  const response = await app.request(
    `http://127.0.0.1:8080/api/v1/jobs${path}`,
    { ...init, headers },
    {
      clientAddress: "192.0.2.1",
    },
  );
  return { status: response.status, body: await response.json() };
}

const retry = (jobId: string, body?: unknown) =>
  request(`/${jobId}/retry`, { method: "POST", ...(body !== undefined && { body: JSON.stringify(body) }) });

test("an ended job is retried under a new id, for all that wait for its result", async () => {
  await accept("old", {}, { replyTo: "one", correlationId: "c-1" });
  await accept("old", {}, { replyTo: "other" });
  await end("old");
  const { status, body } = await retry("old");
  expect(status).toBe(202);
  const { job_id } = body as { job_id: string };
  expect(body).toEqual({ job_id, retry_of: "old" });
  const message = { ...MESSAGE, tenant: "1234567890", region: "us-east-1", job_id, retry_of: "old" };
  expect(submitted).toEqual([
    { message, properties: { messageId: job_id, replyTo: "one", correlationId: "c-1" } },
    { message, properties: { messageId: job_id, replyTo: "other", correlationId: "c-1" } },
  ]);
  const shown = { job_id, retry_of: "old", state: "QUEUED", build_args: { MODE: "***" } };
  expect((await request(`/${job_id}`)).body).toMatchObject(shown);
  const list = (await request("")).body as { items: unknown[] };
  expect(list.items).toHaveLength(2);
  expect(list.items).toContainEqual(expect.objectContaining(shown));
  expect(JSON.stringify(list)).not.toContain("hidden");
});

test("a body may begin with a byte order mark", async () => {
  await accept("old");
  await end("old");
  const body = `\uFEFF${JSON.stringify({ job_id: "new" })}`;
  expect(await request("/old/retry", { method: "POST", body })).toMatchObject({ status: 202 });
});

test("a repeated request with job_id joins the retry; for another job, the id is in use", async () => {
  for (const jobId of ["old", "other"]) {
    await accept(jobId);
    await end(jobId);
  }
  for (const _ of [1, 2])
    expect(await retry("old", { job_id: "again" })).toMatchObject({ status: 202, body: { job_id: "again" } });
  expect(await retry("other", { job_id: "again" })).toMatchObject({
    status: 409,
    body: { title: "Id in use", detail: expect.stringContaining("differs in: retry_of") },
  });
  expect(submitted).toHaveLength(2);
});

test("a retry is retried like any other job", async () => {
  await accept("old");
  await end("old");
  await retry("old", { job_id: "second" });
  expect(await retry("second")).toMatchObject({ status: 409, body: { title: "Job has not ended" } });
  await end("second");
  expect(await retry("second", { job_id: "third" })).toMatchObject({ body: { retry_of: "second" } });
  expect(submitted.at(-1)?.message).toMatchObject({ ...MESSAGE, retry_of: "second" });
});

test("a job with secrets is refused without them, and no record contains one", async () => {
  const secrets = { git_token: "hush-git", secrets: { npm: "hush-npm" } };
  await accept("old", secrets);
  await end("old");
  const refused = await retry("old", { git_token: "hush-git" });
  expect(refused).toMatchObject({ status: 409, body: { errors: [expect.stringContaining("npm")] } });
  expect(submitted).toEqual([]);
  expect((await retry("old", { ...secrets, job_id: "new" })).status).toBe(202);
  expect(submitted[0]?.message).toMatchObject(secrets);
  const rows = database.query("SELECT * FROM job_records").all();
  expect(JSON.stringify(rows)).not.toContain("hush");
});

test.each([
  ["unknown", undefined, 404, "No such job"],
  ["waiting", undefined, 409, "Job has not ended"],
  ["lost", undefined, 409, "Job cannot be retried"],
  ["ended", { branch: "next" }, 400, "Bad request"],
  ["ended", "text", 400, "Bad request"],
  [
    "ended",
    { secrets: Object.fromEntries(Array.from({ length: 101 }, (_, n) => [`s${n}`, ""])) },
    400,
    "Bad job",
  ],
])("a retry that cannot be one is refused (%s)", async (jobId, body, status, title) => {
  await accept("waiting");
  await end("lost");
  await accept("ended");
  await end("ended");
  expect(await retry(jobId, body)).toMatchObject({ status, body: { status, title } });
  expect(submitted).toEqual([]);
});
