import { expect, test } from "bun:test";
import { FAULT_KINDS, planFaults } from "../../drill/faults/kinds.ts";
import { bodyOf } from "../../drill/jobs/job.ts";
import { DECK_JOBS, planJobs, planPhases } from "../../drill/jobs/plan.ts";
import { percentile } from "../../drill/recovery.ts";
import { SeededRandom } from "../../drill/seeded-random.ts";

const jobsOf = (seed: string, count = 5 * DECK_JOBS) => planJobs(count, new SeededRandom(seed), "drill-test");

test("drill plan: the same seed plans the same faults and jobs, another seed other ones", () => {
  expect(planFaults(50, "one")).toEqual(planFaults(50, "one"));
  expect(planFaults(50, "one")).not.toEqual(planFaults(50, "two"));
  expect(jobsOf("one")).toEqual(jobsOf("one"));
  expect(jobsOf("one")).not.toEqual(jobsOf("two"));
});

test("drill plan: every kind of fault occurs if there are as many faults as kinds", () => {
  for (const seed of ["one", "two", "three"]) {
    const kinds = planFaults(FAULT_KINDS.length, seed).map(({ kind }) => kind.name);
    expect(new Set(kinds)).toEqual(new Set(FAULT_KINDS.map(({ name }) => name)));
  }
});

test("drill plan: a fault lasts within its kind's bounds, and hits one of its targets", () => {
  for (const { kind, target, lastsMs } of planFaults(200, "bounds")) {
    expect(lastsMs).toBeGreaterThanOrEqual(kind.lastsMs[0]);
    expect(lastsMs).toBeLessThanOrEqual(kind.lastsMs[1]);
    expect(kind.targets).toContain(target);
  }
});

test("drill plan: one orchestrator and one worker survive every drill", () => {
  const ends = FAULT_KINDS.filter(({ name }) => /killed|stopped|drained/.test(name));
  const hit = ends.flatMap(({ targets }) => targets.flat());
  expect(hit).not.toContain("orchestrator-2");
  expect(hit).not.toContain("worker-4");
});

test("drill plan: the jobs of one deck are of all kinds, each with a different version", () => {
  const jobs = jobsOf("mix");
  const kinds = new Set(jobs.map(({ kind }) => kind));
  expect(kinds).toEqual(new Set(["quick", "long", "failing", "foreign", "invalid", "malformed"]));
  const followUps = jobs.flatMap((job) => job.followUps.map(({ kind }) => kind));
  expect(new Set(followUps)).toEqual(new Set(["cancel", "duplicate", "conflict"]));
  const groups = Map.groupBy(
    jobs,
    ({ message: { tenant, supersede } }) => supersede && `${tenant} ${supersede}`,
  );
  groups.delete(undefined);
  expect([...groups.values()].map((group) => group.length)).toEqual([3, 3, 3, 3, 3]);
  expect(new Set(jobs.map(({ message }) => message.deployment_version)).size).toBe(jobs.length);
});

test("drill plan: jobs differ in tenant, region, policy, priority and needs, and can be built", () => {
  const messages = jobsOf("mix", 200).map(({ message }) => message);
  for (const field of [
    "tenant",
    "worker_region",
    "region_policy",
    "priority",
    "provenance",
    "secrets",
  ] as const) {
    const values = new Set(messages.map((message) => JSON.stringify(message[field])));
    expect(values.size).toBeGreaterThan(1);
  }
  // In a region without workers they would wait for ever.
  for (const { worker_region, region_policy } of messages)
    if (region_policy === "require") expect(["us-east-1", "eu-west-1"]).toContain(worker_region);
});

test("drill plan: steady phases and backlogs take turns, after a backlog all jobs end, and no job is left out", () => {
  const phases = planPhases(200, new SeededRandom("phases"), "drill-test");
  for (const [index, { kind, quietMs, jobs }] of phases.entries()) {
    expect(kind).toBe(index % 2 === 0 ? "steady" : "backlog");
    expect(quietMs > 0).toBe(kind === "backlog");
    expect(jobs.length).toBeGreaterThan(0);
  }
  expect(phases.flatMap(({ jobs }) => jobs)).toHaveLength(200);
});

test("drill plan: an invalid message has a wrong field, and a malformed one is not JSON", () => {
  for (const job of jobsOf("bodies").filter(({ kind }) => kind === "invalid"))
    expect(JSON.parse(bodyOf(job))).toMatchObject({ deployment_version: "not a tag" });
  for (const job of jobsOf("bodies").filter(({ kind }) => kind === "malformed"))
    expect(() => JSON.parse(bodyOf(job))).toThrow();
});

test("drill report: percentiles are measured values", () => {
  const values = [5, 1, 4, 2, 3];
  expect([0.5, 0.99, 1].map((part) => percentile(values, part))).toEqual([3, 5, 5]);
  expect(percentile([], 0.5)).toBeUndefined();
});
