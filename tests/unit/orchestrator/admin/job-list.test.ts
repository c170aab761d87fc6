import { describe, expect, test } from "bun:test";
import { cursorOf, JOBS_QUERY, listingOf } from "../../../../src/orchestrator/admin/job-list.ts";
import type { JobListing, JobSummary } from "../../../../src/orchestrator/records/job-records.ts";

const COMMIT = `8c1f0f6${"0".repeat(33)}`;
const JOB: JobSummary = {
  jobId: "j",
  job: { repo_url: "owner/name", branch: "main", tenant: "acme", region: "us-east-1", commit: COMMIT },
  acceptedAt: new Date("2026-01-31T12:00:00Z"),
  state: "BUILDING",
  result: undefined,
};

const GIT = { baseUrl: "https://github.com", allowedHosts: ["git.example.com"] };

function listing(query: Record<string, string>): JobListing {
  return listingOf(JOBS_QUERY.parse(query), GIT);
}

/** `name: problem` of each parameter. */
function problems(query: Record<string, string>): string[] {
  const { error } = JOBS_QUERY.safeParse(query);
  return (error?.issues ?? []).map(({ path, message }) => [...path, message].join(": "));
}

describe("a job matches", () => {
  test.each([
    [{}, true],
    [{ state: "BUILDING" }, true],
    [{ state: "queued,building" }, true],
    [{ state: "QUEUED" }, false],
    [{ tenant: "acme" }, true],
    [{ tenant: "other" }, false],
    [{ region: "us-east-1" }, true],
    [{ region: "eu-west-1" }, false],
    [{ branch: "main" }, true],
    [{ branch: "mai" }, false],
    [{ repo: "owner/name" }, true],
    [{ repo: "name" }, true],
    [{ repo: "ame" }, false],
    [{ repo: "owner/name.git" }, true],
    [{ commit: "8c1f" }, true],
    [{ commit: "8C1F" }, true],
    [{ commit: COMMIT }, true],
    [{ commit: "9c1f" }, false],
    [{ state: "BUILDING", tenant: "other" }, false],
  ])("%j: %p", (query, expected) => {
    expect(listing(query).matches(JOB)).toBe(expected);
  });

  test("by the region of its workers, if it has one", () => {
    const job = { ...JOB, job: { ...JOB.job, worker_region: "eu-west-1" } };
    expect(listing({ region: "eu-west-1" }).matches(job)).toBe(true);
    expect(listing({ region: "us-east-1" }).matches(job)).toBe(false);
  });

  test.each([
    "owner/name",
    "owner/name.git",
    "https://github.com/owner/name",
    "https://github.com/owner/name.git/",
    "HTTPS://GitHub.com/owner/name",
  ])("by its whole URL, and by owner and name, when it was submitted as %s", (repo_url) => {
    const job = { ...JOB, job: { ...JOB.job, repo_url } };
    for (const repo of [
      "owner/name",
      "owner/name/",
      "github.com/owner/name",
      "https://github.com/owner/name",
      "https://github.com/owner/name/",
      "https://github.com/owner/name.git",
      "https://GitHub.com/owner/name",
    ])
      expect(listing({ repo }).matches(job)).toBe(true);
    for (const repo of [
      "wner/name",
      "https://git.example.com/owner/name",
      "https://owner/name",
      "Owner/name",
    ])
      expect(listing({ repo }).matches(job)).toBe(false);
  });

  test("by a URL whose host is not allowed any more", () => {
    const job = { ...JOB, job: { ...JOB.job, repo_url: "https://old.example.com/owner/name" } };
    for (const repo of ["owner/name", "https://old.example.com/owner/name"])
      expect(listing({ repo }).matches(job)).toBe(true);
  });

  test("by a commit that was submitted in upper case", () => {
    const job = { ...JOB, job: { ...JOB.job, commit: COMMIT.toUpperCase() } };
    for (const commit of ["8c1f", "8C1F0F6"]) expect(listing({ commit }).matches(job)).toBe(true);
  });
});

test("times are times, or ages", () => {
  expect(listing({ since: "2026-01-31T12:00:00+01:00" }).sinceMs).toBe(Date.parse("2026-01-31T11:00:00Z"));
  const before = Date.now() - 90 * 60_000;
  expect(listing({ since: "90m" }).sinceMs).toBeWithin(before, Date.now() - 90 * 60_000 + 1);
  expect(listing({ until: "2026-01-31T12:00:00Z" }).after).toEqual({
    acceptedAtMs: Date.parse("2026-01-31T12:00:00Z") + 1,
    jobId: "",
  });
});

test("29 February is a day of leap years", () => {
  expect(problems({ since: "2028-02-29T12:00:00Z" })).toEqual([]);
});

test("a cursor leads back to its place, whatever the job's id is", () => {
  const place = { acceptedAtMs: 1_769_860_800_000, jobId: "a:b.c-1" };
  expect(listing({ cursor: cursorOf(place), until: "1h" }).after).toEqual(place);
});

test.each([
  [{ state: "RUNNING" }, "state: expected one or more of QUEUED, "],
  [{ state: "" }, "state: expected one or more of QUEUED, "],
  [{ state: "QUEUED," }, "state: expected one or more of QUEUED, "],
  [{ limit: "0" }, "limit: expected a number from 1 to 500"],
  [{ limit: "501" }, "limit: expected a number from 1 to 500"],
  [{ limit: "ten" }, "limit: expected a number from 1 to 500"],
  [{ limit: "" }, "limit: expected a number from 1 to 500"],
  [{ tenant: "" }, "tenant: expected a value"],
  [{ region: "" }, "region: expected a value"],
  [{ repo: "" }, "repo: expected a value"],
  [{ branch: "" }, "branch: expected a value"],
  [{ since: "yesterday" }, "since: expected a time such as "],
  [{ since: "2026-13-31T12:00:00Z" }, "since: expected a time such as "],
  [{ since: "2026-02-31T12:00:00Z" }, "since: expected a time such as "],
  [{ until: "2026-04-31T12:00+02:00" }, "until: expected a time such as "],
  [{ until: "2025-02-29T12:00:00Z" }, "until: expected a time such as "],
  [{ commit: "main" }, "commit: expected 4 to 64 hex digits"],
])("%j is refused", (query, problem) => {
  expect(problems(query as Record<string, string>)).toEqual([expect.stringContaining(problem)]);
});

const encoded = (place: string) => Buffer.from(place).toString("base64url");

test.each([
  ["empty", ""],
  ["not a place", encoded("x")],
  ["without an id", encoded("7:")],
  ["with an id that no job can have", encoded("7:a/b\0")],
  ["with a time that is not a number", encoded("-7:j")],
  ["with characters that the decoder skips", `${encoded("7:job-1")}!`],
  ["with bits that the decoder drops", `${encoded("7:job-1").slice(0, -1)}R`],
  ["longer than any", encoded(`7:${"a".repeat(201)}`)],
])("a cursor is refused that is %s", (_, cursor) => {
  expect(problems({ cursor })).toEqual(["cursor: expected the next_cursor of an earlier answer"]);
});

test("all problems are named", () => {
  expect(problems({ limit: "0", since: "x" })).toHaveLength(2);
});
