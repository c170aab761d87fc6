import { expect, test } from "bun:test";
import { FAULT_KINDS, planFaults } from "../../drill/faults.ts";
import { percentile } from "../../drill/recovery.ts";
import { SeededRandom } from "../../drill/seeded-random.ts";
import { planJobs } from "../../drill/workload.ts";

const jobsOf = (seed: string) => planJobs(100, new SeededRandom(seed), "drill-test");

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

test("drill plan: most jobs are quick, some long, a few fail, and each has a different version", () => {
  const jobs = jobsOf("mix");
  const countOf = (wanted: string) => jobs.filter(({ kind }) => kind === wanted).length;
  expect([countOf("quick"), countOf("long"), countOf("failing")]).toEqual([70, 25, 5]);
  expect(new Set(jobs.map(({ message }) => message.deployment_version)).size).toBe(100);
});

test("drill report: percentiles are measured values", () => {
  const values = [5, 1, 4, 2, 3];
  expect([0.5, 0.99, 1].map((part) => percentile(values, part))).toEqual([3, 5, 5]);
  expect(percentile([], 0.5)).toBeUndefined();
});
