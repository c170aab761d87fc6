import { expect, test } from "bun:test";
import { describeJobs } from "../../../src/cli/jobs.ts";

const now = new Date("2026-01-31T12:00:00Z");
const JOB = { repo_url: "owner/name", branch: "main", deployment_version: "v1" };

test("jobs are shown in columns with headings", () => {
  const shown = describeJobs(
    [
      { ...JOB, job_id: "a", state: "QUEUED", accepted_at: "2026-01-31T11:59:58Z" },
      { ...JOB, job_id: "long-id", state: "SUCCEEDED", accepted_at: "2026-01-31T10:00:00Z" },
      { job_id: "b", state: "BUILDING", accepted_at: "2026-01-27T12:00:00Z" },
      { ...JOB, job_id: "c", state: "FAILED", accepted_at: "2026-01-31T11:00:00Z" },
      { ...JOB, job_id: "d", state: "FAILED", accepted_at: "2026-01-31T12:00:01Z" },
    ],
    now,
  );
  expect(shown.split("\n")).toEqual([
    "ID       STATE      AGE  REPOSITORY  BRANCH  VERSION",
    "a        QUEUED     2s   owner/name  main    v1",
    "long-id  SUCCEEDED  2h   owner/name  main    v1",
    "b        BUILDING   4d   ?           ?       ?",
    "c        FAILED     60m  owner/name  main    v1",
    "d        FAILED     0s   owner/name  main    v1",
  ]);
});
