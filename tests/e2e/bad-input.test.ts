/** Invalid messages: each goes unchanged to the dead-letter queue with the reason, and delays no other message. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { gzipSync } from "node:zlib";
import type { GetMessage } from "amqplib";
import type { JobResult } from "../../src/shared/job.ts";
import {
  bodyOf,
  type Deployment,
  type OrchestratorProcess,
  startDeployment,
} from "../support/blacktree/deployment.ts";
import { sampleRepository } from "../support/machine/sample-repository.ts";
import { waitFor } from "../support/machine/wait-for.ts";
import { type Backends, startBackends } from "../support/servers/backends.ts";
import { publishRaw } from "../support/servers/raw-amqp.ts";

let backends: Backends;
let deployment: Deployment;
let orchestrator: OrchestratorProcess;

beforeAll(async () => {
  backends = await startBackends({ engine: "26.1" });
  backends.aws.addRepository("1234567890", "app-images");
  await backends.git.createRepository("owner/working", await sampleRepository());
  deployment = await startDeployment(backends);
  orchestrator = await deployment.startOrchestrator();
  await deployment.startWorker(orchestrator);
});

afterAll(async () => {
  await deployment?.stop();
  await backends?.stop();
});

const GOOD = {
  repo_url: "owner/working",
  branch: "main",
  deployment_version: "v1",
  aws_account: "1234567890",
  ecr_repo: "app-images",
};
const REQUIRED = Object.keys(GOOD);

const bad = (changes: object) => JSON.stringify({ ...GOOD, ...changes });
const nested = (depth: number) => `${"[".repeat(depth)}${"]".repeat(depth)}`;
const reasonOf = (letter: GetMessage) => String(letter.properties.headers?.["x-blacktree-reason"]);

/** A result is published before its message is acked. */
async function expectNoResult(): Promise<void> {
  const isSettled = async () => {
    const totals = await deployment.queueTotals();
    return totals.some(({ name, ready, unacked }) => name === "jobs.build" && ready + unacked === 0);
  };
  await waitFor(isSettled, { timeoutMs: 30_000, what: "the message to be acked" });
  expect(await deployment.depth("jobs.results")).toBe(0);
}

interface Bad {
  readonly what: string;
  readonly body: string | Buffer;
  /** Texts in the reason; a field's name means that the field is reported as wrong. */
  readonly names: readonly string[];
  /** By their fields: text in the body, and what the dead letter has in its place. */
  readonly secrets?: Readonly<Record<string, readonly [string, string]>>;
}

const BAD_MESSAGES: readonly Bad[] = [
  { what: "nothing", body: "", names: ["not JSON"] },
  { what: "half an object", body: '{"repo_url":', names: ["not JSON"] },
  { what: "an array", body: JSON.stringify([GOOD]), names: ["not a JSON object"] },
  { what: "null", body: "null", names: ["not a JSON object"] },
  { what: "a number", body: "12", names: ["not a JSON object"] },
  { what: "a string", body: JSON.stringify(bad({})), names: ["not a JSON object"] },
  {
    what: "bytes that are not valid UTF-8",
    body: Buffer.concat([Buffer.from('{"branch":"'), Buffer.from([0xff, 0xfe, 0x00]), Buffer.from('"}')]),
    names: ["not UTF-8"],
  },
  { what: "a null byte", body: "\0", names: ["not JSON"] },
  { what: "more than 1 MiB", body: bad({ padding: "x".repeat(1024 * 1024) }), names: ["1048576"] },
  { what: "a deeply nested array", body: nested(100_000), names: ["not a JSON object"] },
  {
    what: "a deeply nested field",
    body: bad({ build_args: 0 }).replace('"build_args":0', `"build_args":{"A":${nested(100_000)}}`),
    names: ["build_args: "],
  },
  { what: "an empty object", body: "{}", names: REQUIRED.map((field) => `${field}: missing`) },
  {
    what: "required fields of a wrong type",
    body: bad({ repo_url: 1, branch: [], deployment_version: {}, aws_account: 1234567890, ecr_repo: true }),
    names: REQUIRED.map((field) => `${field}: `),
  },
  {
    what: "required fields that are null or empty",
    body: bad({ repo_url: "", branch: null, deployment_version: "", aws_account: "", ecr_repo: null }),
    names: REQUIRED.map((field) => `${field}: `),
  },
  {
    what: "optional fields of a wrong type",
    body: bad({
      region: 1,
      worker_region: "two.parts",
      region_policy: "sometimes",
      commit: "abc",
      target: {},
      build_args: ["A=B"],
      labels: { "io.blacktree.commit": "mine" },
      platforms: "linux/amd64",
      secrets: { A: 1 },
      priority: "highest",
      timeout_seconds: 0.5,
      supersede: "",
      provenance: "yes",
      reuse: "always",
      git_token: "two words",
    }),
    names: [
      ...["region: ", "worker_region: ", "region_policy: ", "commit: ", "target: ", "build_args: "],
      ...["labels: ", "platforms: ", "secrets: ", "priority: ", "timeout_seconds: ", "supersede: "],
      ...["provenance: ", "reuse: ", "git_token: "],
    ],
    secrets: { "secrets.A": ['"A":1', '"A":"***"'], git_token: ['"two words"', '"***"'] },
  },
  {
    what: "values that could be read as options",
    body: bad({
      repo_url: "--upload-pack=/bin/true",
      branch: "--upload-pack=/bin/true",
      deployment_version: "-v1",
      ecr_repo: "--all",
      dockerfile: "-f",
      context: "--push",
      target: "--push",
    }),
    names: [...REQUIRED.filter((field) => field !== "aws_account"), "dockerfile", "context", "target"].map(
      (field) => `${field}: `,
    ),
  },
  {
    what: "paths that leave the repository",
    body: bad({ dockerfile: "../../etc/passwd", context: "inside/../../outside" }),
    names: ["dockerfile: ", "context: "],
  },
  {
    what: "absolute paths",
    body: bad({ dockerfile: "/etc/passwd", context: "/" }),
    names: ["dockerfile: ", "context: "],
  },
  { what: "a command for a URL", body: bad({ repo_url: "ext::sh -c true" }), names: ["repo_url: "] },
  { what: "a file's URL", body: bad({ repo_url: "file:///etc" }), names: ["repo_url: "] },
  { what: "a foreign host", body: bad({ repo_url: "https://127.0.0.1:1/a/b" }), names: ["repo_url: "] },
  {
    what: "a password in the URL",
    body: bad({ repo_url: "https://me:hidden-password@github.com/a/b" }),
    names: ["repo_url: "],
    secrets: { repo_url: ["me:hidden-password", "***"] },
  },
  {
    what: "fields of a prototype",
    body: `{"__proto__":${bad({})},"constructor":{"prototype":${bad({})}}}`,
    names: REQUIRED.map((field) => `${field}: missing`),
  },
];

function withoutSecrets(body: Buffer, secrets: Bad["secrets"] = {}): Buffer {
  const cut = (text: string, [secret, masked]: readonly [string, string]) => text.replace(secret, masked);
  const values = Object.values(secrets);
  return values.length === 0 ? body : Buffer.from(values.reduce(cut, body.toString()));
}

test.each(BAD_MESSAGES)(
  "bad input: $what: dead-lettered with the reason, and byte for byte but for its secrets",
  async ({ body, names, secrets = {} }) => {
    const sentAt = Date.now();
    const content = Buffer.from(body);
    await deployment.publish(content, { contentType: "application/x-odd", headers: { sender: "somebody" } });
    const letter = await deployment.next("jobs.build.dead");
    expect(letter.content.equals(withoutSecrets(content, secrets))).toBe(true);
    expect(letter.properties.headers?.["x-blacktree-redacted"]).toBe(
      Object.keys(secrets).join(", ") || undefined,
    );
    expect(letter.properties.headers).toMatchObject({ sender: "somebody" });
    expect(letter.properties).toMatchObject({ contentType: "application/x-odd", deliveryMode: 2 });
    for (const name of names) expect(reasonOf(letter)).toContain(name);
    expect(reasonOf(letter)).not.toContain("hidden-password");
    const at = Date.parse(String(letter.properties.headers?.["x-blacktree-at"]));
    expect(at).toBeWithin(sentAt - 1000, Date.now() + 1000);
    await expectNoResult();
  },
);

test("bad input: an invalid message with a job_id gets a FAILED result", async () => {
  const { queue } = await deployment.amqp.assertQueue("", { autoDelete: true });
  const options = { correlationId: "c-bad", replyTo: queue };
  await deployment.publish(bad({ job_id: "named-inside", branch: "-x", aws_account: "x" }), options);
  const message = await deployment.next("jobs.results");
  const result = bodyOf<JobResult>(message);
  expect(message.properties).toMatchObject({ messageId: "named-inside", correlationId: "c-bad" });
  expect(result).toMatchObject({
    job_id: "named-inside",
    status: "FAILED",
    attempt: 0,
    image_url: null,
    worker_id: null,
    logs: [],
    error: { code: "INVALID_JOB", step: "intake", retryable: false },
    deployment_version: "v1",
    ecr_repo: "app-images",
  });
  expect(result.error?.message).toMatch(/branch: .*aws_account: /);
  expect(bodyOf<JobResult>(await deployment.next(queue))).toEqual(result);
  await deployment.next("jobs.build.dead");
});

test("bad input: an invalid message with a message_id gets a FAILED result, even when it is not JSON", async () => {
  await deployment.publish("no job at all", { messageId: "named-outside" });
  expect(await deployment.nextResult()).toMatchObject({
    job_id: "named-outside",
    status: "FAILED",
    attempt: 0,
    error: { code: "INVALID_JOB" },
  });
  const letter = await deployment.next("jobs.build.dead");
  expect(letter.properties.messageId).toBe("named-outside");
});

test("bad input: an invalid id gets no result", async () => {
  await deployment.publish(bad({ job_id: "no id, two words" }), { messageId: "" });
  expect(reasonOf(await deployment.next("jobs.build.dead"))).toContain("job_id: ");
  await expectNoResult();
});

test("bad input: an invalid message that cannot be sent on as it is gets one dead letter and one result", async () => {
  const timestamp = 2n ** 64n - 1n;
  const properties = { messageId: Buffer.from("poison"), timestamp };
  publishRaw(deployment.amqp, "jobs.build", properties, Buffer.from(bad({ branch: "-x" })));
  const letter = await deployment.next("jobs.build.dead");
  expect(reasonOf(letter)).toContain("branch: ");
  expect(letter.properties.headers?.["x-blacktree-unsent"]).toContain("timestamp");
  expect(await deployment.nextResult()).toMatchObject({ job_id: "poison", error: { code: "INVALID_JOB" } });
  await expectNoResult();
});

test("bad input: valid jobs among invalid messages are built", async () => {
  for (const { body } of BAD_MESSAGES) await deployment.publish(Buffer.from(body));
  await deployment.publish({ ...GOOD, job_id: "the-good-one" });
  for (const { body } of BAD_MESSAGES) await deployment.publish(Buffer.from(body));
  expect(await deployment.nextResult()).toMatchObject({ job_id: "the-good-one", status: "SUCCESS" });
  for (const _ of [...BAD_MESSAGES, ...BAD_MESSAGES]) await deployment.next("jobs.build.dead");
  expect(await deployment.depth("jobs.build")).toBe(0);
  expect(orchestrator.process.exitCode).toBe(null);
});

test("bad input: a job whose body is compressed with gzip is built", async () => {
  const job = gzipSync(JSON.stringify({ ...GOOD, job_id: "compressed", deployment_version: "gz" }));
  await deployment.publish(job, { contentEncoding: "gzip" });
  expect(await deployment.nextResult()).toMatchObject({ job_id: "compressed", status: "SUCCESS" });
});

test("bad input: unknown fields are ignored, and named once in the log", async () => {
  for (const job_id of ["odd-1", "odd-2"]) {
    await deployment.publish({ ...GOOD, repo_url: "owner/nowhere", job_id, colour: "green", size: 3 });
    expect(await deployment.nextResult()).toMatchObject({ job_id, error: { code: "REPO_NOT_FOUND" } });
  }
  await orchestrator.process.waitForLine("unknown fields are ignored");
  const naming = orchestrator.process.lines.filter((line) => line.includes("unknown fields are ignored"));
  expect(naming.filter((line) => line.includes('"colour"'))).toHaveLength(1);
  expect(naming.filter((line) => line.includes('"size"'))).toHaveLength(1);
  expect(naming.join("\n")).not.toContain("green");
});
