import { describe, expect, test } from "bun:test";
import { RETRY_BODY, retryMessage } from "../../../../src/orchestrator/admin/retry-message.ts";
import { readJobMessage } from "../../../../src/orchestrator/job/message.ts";
import type { JobRecord, RetrySource } from "../../../../src/orchestrator/records/job-records.ts";
import { sampleResult } from "../../../integration/orchestrator/sample-result.ts";

const RULES = {
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
};

/** The record of an ended job with this message. */
function recorded(message: object, changes: Partial<JobRecord> = {}): [JobRecord, RetrySource] {
  const read = readJobMessage(Buffer.from(JSON.stringify({ ...MESSAGE, ...message })), {}, RULES);
  if (read.kind !== "job") throw new Error(read.problems.join());
  const { publicJob: job, retryBasis: basis } = read;
  const record: JobRecord = {
    jobId: "old",
    job,
    acceptedAt: new Date(),
    state: "FAILED",
    events: [],
    result: sampleResult("old", { status: "FAILED" }),
    ...changes,
  };
  return [record, { basis, replyTo: [], correlationId: undefined }];
}

function retry([record, source]: [JobRecord, RetrySource], given: Record<string, unknown> = {}) {
  return retryMessage(record, source, { given, checked: RETRY_BODY.parse(given) }, "new");
}

describe("the message of a retry", () => {
  test("repeats every field of the job, under a new id", () => {
    const fields = {
      commit: "a".repeat(40),
      build_args: { MODE: "fast", EMPTY: "" },
      labels: { team: "web" },
      priority: "high",
      supersede: "web/main",
      worker_region: "eu-central-1",
      tenant: "acme",
      reuse: "same-commit",
    };
    expect(retry(recorded({ ...fields, job_id: "old" }))).toEqual({
      message: { ...MESSAGE, ...fields, region: "us-east-1", job_id: "new", retry_of: "old" },
    });
  });

  test("of a retry names that one", () => {
    expect(retry(recorded({ retry_of: "older" }))).toMatchObject({ message: { retry_of: "old" } });
  });

  test("has the secrets of the request, also those of a job that had none", () => {
    const secrets = {
      git_token: "t-1",
      secrets: { NPM: "s-1" },
      registry_auths: { "ghcr.io": { identity_token: "i-1" } },
    };
    expect(retry(recorded({}), secrets)).toMatchObject({ message: secrets });
  });
});

describe("a job with secrets", () => {
  const job = {
    git_token: "old-token",
    secrets: { NPM_TOKEN: "old-npm", X: "old-x" },
    registry_auths: {
      "ghcr.io": { username: "u", password: "old-p" },
      "index.docker.io": { identity_token: "old-i" },
    },
  };
  const login = { username: "u", password: "new-p" };
  const supplied = {
    git_token: "new-token",
    secrets: { NPM_TOKEN: "new-npm", X: "new-x" },
    registry_auths: { "ghcr.io": login, "docker.io": login },
  };

  test("is not retried without all of them, and each missing one is named", () => {
    expect(retry(recorded(job))).toMatchObject({
      problem: {
        status: 409,
        errors: [
          expect.stringMatching(/^git_token: missing/),
          expect.stringMatching(/^secrets: missing.* NPM_TOKEN, X,/),
          expect.stringMatching(/^registry_auths: missing.* ghcr\.io, docker\.io,/),
        ],
      },
    });
  });

  test.each([
    ["git_token", undefined, "git_token: missing"],
    ["git_token", null, "git_token: missing"],
    ["secrets", { X: "new-x" }, "the job had NPM_TOKEN,"],
    ["secrets", {}, "the job had NPM_TOKEN, X,"],
    ["registry_auths", { "ghcr.io": login }, "the job had docker.io,"],
  ])("is not retried with %s as %p", (field, value, expected) => {
    const retried = retry(recorded(job), { ...supplied, [field]: value });
    expect(retried).toMatchObject({ problem: { errors: [expect.stringContaining(expected)] } });
  });

  test("is retried with all of them, whatever other name a registry has", () => {
    const registry_auths = { "ghcr.io": login, "https://index.docker.io/v1/": login };
    const given = { ...supplied, registry_auths };
    expect(retry(recorded(job), given)).toMatchObject({ message: given });
  });
});

test.each([
  [{ state: "BUILDING", result: undefined }, "Job has not ended", "job old is BUILDING"],
  [{ state: "QUEUED", result: undefined }, "Job has not ended", "cancel it first"],
] as const)("a job that is %p is not retried", (changes, title, detail) => {
  const problem = { status: 409, title, detail: expect.stringContaining(detail) };
  expect(retry(recorded({}, changes))).toMatchObject({ problem });
});

test.each([
  [{ job: {} }, "its record was lost with the data of Redis"],
  [{}, "an earlier version of Blacktree"],
])("a record that lacks what a retry needs is named (%p)", (changes, detail) => {
  const [record, source] = recorded({ build_args: { MODE: "fast" } }, changes);
  expect(retry([record, { ...source, basis: undefined }])).toMatchObject({
    problem: { status: 409, detail: expect.stringContaining(detail) },
  });
});

test("a build argument that contains a secret is not stored, and is named", () => {
  const [record, source] = recorded({
    git_token: "hush-hush",
    secrets: { short: "1" },
    build_args: { URL: "https://x:hush-hush@example.com", DEBUG: "1" },
  });
  expect(JSON.stringify([record, source])).not.toContain("hush");
  expect(source.basis?.buildArgs).toEqual({ DEBUG: "1" });
  const retried = retry([record, source], { git_token: "hush-hush", secrets: { short: "1" } });
  expect(retried).toMatchObject({
    problem: { status: 409, detail: expect.stringContaining("its build_args URL,") },
  });
});

test("the id of the retried job is not a new id", () => {
  const errors = [expect.stringMatching(/^job_id: expected another id/)];
  expect(retry(recorded({}), { job_id: "old" })).toMatchObject({ problem: { status: 409, errors } });
});

test.each([
  [{ build_args: {} }, ["build_args: unknown; expected git_token, secrets, registry_auths or job_id"]],
  [[], ["expected a JSON object, or no body"]],
  [{ git_token: "a b" }, [expect.stringContaining("expected 1 to 4096 characters")]],
  [{ job_id: "a/b" }, [expect.stringContaining("expected 1 to 200 of letters")]],
])("a body like %p is refused", (body, messages) => {
  const issues = RETRY_BODY.safeParse(body).error?.issues ?? [];
  expect(issues.map(({ message }) => message)).toEqual(messages);
});
