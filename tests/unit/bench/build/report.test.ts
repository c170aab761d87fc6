/** The bench's report: no figure may look better than the measurement. */
import { expect, test } from "bun:test";
import { CASES, type CaseName, type ScriptCase } from "../../../bench/build/cases.ts";
import { stepsOf } from "../../../bench/build/jobs.ts";
import type { Sample } from "../../../bench/build/measurement.ts";
import { asJson, type BuildOutcome, describe, resultsOf } from "../../../bench/build/report.ts";

const size = "small";

const script = (name: ScriptCase, totalMs: number, stepsMs = {}): Sample => ({
  size,
  round: 1,
  side: "script",
  case: name,
  measured: { totalMs, stepsMs },
});

const blacktree = (name: CaseName, totalMs: number, stepsMs = {}): Sample => ({
  size,
  round: 1,
  side: "blacktree",
  case: name,
  measured: { totalMs, stepsMs },
});

function outcome(samples: readonly Sample[], changes: Partial<BuildOutcome> = {}): BuildOutcome {
  const cases = CASES.map(({ name }) => name);
  return { sizes: [size], cases, hasRegistryCache: true, samples, circumstances: {}, ...changes };
}

const resultOf = (name: CaseName, of: BuildOutcome) =>
  resultsOf(of).find((result) => result.case.name === name);
const lineOf = (name: CaseName, of: BuildOutcome) => describe(of).find((line) => line.startsWith(`${name} `));

test("bench report: the ratio is the ratio of the medians", () => {
  const samples = [1000, 5000, 1100].map((totalMs) => script("changed", totalMs));
  samples.push(...[440, 9000, 400].map((totalMs) => blacktree("changed", totalMs)));
  expect(resultOf("changed", outcome(samples))?.ratio).toBe(0.4);
});

test("bench report: each case is compared with the script's time for the same situation", () => {
  const samples = [script("cold", 4000), script("changed", 2000), script("unchanged", 1000)];
  samples.push(...CASES.map(({ name }) => blacktree(name, 500)));
  const ratios = resultsOf(outcome(samples)).map((result) => [result.case.name, result.ratio]);
  expect(Object.fromEntries(ratios)).toEqual({
    cold: 0.125,
    changed: 0.25,
    rebuilt: 0.5,
    unchanged: 0.5,
    again: 0.5,
    "second-worker": 0.125,
    "second-worker-changed": 0.125,
  });
});

test.each([
  ["changed", 600, ": met"],
  ["changed", 601, ": NOT met"],
  ["unchanged", 200, ": met"],
  ["unchanged", 201, ": NOT met"],
  ["second-worker", 500, ": met"],
  ["second-worker", 501, ": NOT met"],
  ["cold", 1000, ": met"],
  ["cold", 1001, ": NOT met"],
] as const)("bench report: %s in %d of the script's 1000 ms%s", (name, totalMs, verdict) => {
  const samples = (["cold", "changed", "unchanged"] as const).map((of) => script(of, 1000));
  expect(lineOf(name, outcome([...samples, blacktree(name, totalMs)]))).toEndWith(verdict);
});

test("bench report: a case without a measurement has no ratio and no verdict", () => {
  const of = outcome([script("cold", 1000)]);
  expect(resultOf("cold", of)).toMatchObject({ ratio: undefined, blacktree: undefined });
  expect(lineOf("cold", of)).toEndWith("at most 1.00");
});

test("bench report: without a registry cache a second worker's cases are not available", () => {
  const of = outcome([script("cold", 1000)], { hasRegistryCache: false });
  expect(lineOf("second-worker", of)).toContain("not available");
  expect(lineOf("cold", of)).not.toContain("not available");
});

test("bench report: only selected cases are shown", () => {
  const of = outcome([script("cold", 1000), blacktree("cold", 900)], { cases: ["again"] });
  expect(resultsOf(of).map((result) => result.case.name)).toEqual(["again"]);
});

test("bench report: each step has its own median", () => {
  const samples = [10, 30, 20].map((clone) => script("cold", 100, { clone, push: clone * 2 }));
  expect(resultOf("cold", outcome(samples))?.script?.stepsMs).toEqual({
    clone: { median: 20, least: 10, most: 30 },
    push: { median: 40, least: 20, most: 60 },
  });
});

test("bench report: the JSON contains every measured time", () => {
  const samples = [script("cold", 1000), script("cold", 3000), blacktree("cold", 500)];
  const of = outcome(samples, { circumstances: { docker: "26.1.5" }, cases: ["cold"] });
  expect(JSON.parse(asJson(of))).toMatchObject({
    docker: "26.1.5",
    results: [
      {
        size,
        case: "cold",
        target_ratio: 1,
        ratio: 0.25,
        is_met: true,
        script: { total_ms: { median: 2000, least: 1000, most: 3000 }, totals_ms: [1000, 3000] },
        blacktree: { totals_ms: [500] },
      },
    ],
  });
});

test("bench report: time outside the steps is shown as between the steps, or around the worker's time", () => {
  const timings = { queued: 5, clone: 100, auth: 30, build: 200, push: 50, total: 365 };
  expect(stepsOf(timings, 400)).toEqual({
    queued: 5,
    clone: 100,
    auth: 30,
    build: 200,
    push: 50,
    between: 10,
    around: 35,
  });
});
