import { expect, test } from "bun:test";
import { describeJob, type ShownJob } from "../../../src/cli/job-view.ts";

const AT = "2026-01-31T12:00:00.000Z";
const EVENT = { job_id: "web-42", tenant: "acme", seq: 1, at: AT } as const;

const JOB: ShownJob = {
  job_id: "web-42",
  state: "RETRYING",
  accepted_at: AT,
  repo_url: "owner/name",
  branch: "main",
  deployment_version: "v1",
  tenant: "acme",
  platforms: ["linux/amd64"],
  target: null,
  events: [
    { ...EVENT, attempt: 0, state: "QUEUED" },
    {
      ...EVENT,
      attempt: 1,
      state: "RETRYING",
      at: "2026-01-31T12:01:30.000Z",
      worker_id: "builder-1",
      error: { code: "WORKER_LOST", message: "unreachable" },
    },
  ],
  result: null,
};

test("a job is its fields, events and steps", () => {
  const steps = [
    { number: 1, name: "[1/2] FROM", duration_ms: 0, cached: true, error: null },
    { number: 2, name: "[2/2] RUN make", duration_ms: null, cached: false, error: null },
  ];
  expect(describeJob({ ...JOB, steps }).split("\n")).toEqual([
    "web-42  RETRYING  owner/name@main as v1",
    "",
    "accepted   2026-01-31 12:00:00Z",
    "tenant     acme",
    'platforms  ["linux/amd64"]',
    "",
    "EVENT AT              AFTER        STATE     ATTEMPT  WORKER     DETAIL",
    "2026-01-31 12:00:00Z  +0.0 s       QUEUED",
    "2026-01-31 12:01:30Z  +1 min 30 s  RETRYING  1        builder-1  WORKER_LOST: unreachable",
    "",
    "STEP  DURATION          NAME",
    "#1    0.0 s     cached  [1/2] FROM",
    "#2    running           [2/2] RUN make",
  ]);
});

test("a job whose record was lost has no fields", () => {
  const { repo_url, branch, deployment_version, ...rest } = JOB;
  expect(describeJob({ ...rest, events: [] })).toStartWith("web-42  RETRYING  ?@? as ?\n\naccepted ");
});
