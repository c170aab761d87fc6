import { expect, test } from "bun:test";
import { toWireStep } from "../../../../src/shared/rpc/build-step.ts";
import { RunDescription } from "../../../../src/shared/rpc/generated/blacktree/v1/worker.ts";
import type { BuildStepEnd } from "../../../../src/worker/buildkit/progress/progress.ts";
import { BuildSteps, viewOf } from "../../../../src/worker/runs/build-steps.ts";

const STARTED_AT = new Date("2026-01-20T10:00:00.000Z");
const END: BuildStepEnd = {
  at: new Date("2026-01-20T10:00:01.500Z"),
  durationMs: 1500,
  isCached: false,
  error: "",
};

const started = (number: number, name = "RUN make") => viewOf({ number, name, startedAt: STARTED_AT });

function ended(number: number, end: Partial<BuildStepEnd> = {}, name = "RUN make") {
  return viewOf({ number, name, startedAt: STARTED_AT, end: { ...END, ...end } });
}

test("build steps: a step appears at its start, and gets its end", () => {
  const steps = new BuildSteps();
  steps.add(started(1));
  steps.add(started(2));
  steps.add(ended(1));
  steps.add(ended(2, { isCached: true, error: "exit code 2" }));
  const common = { name: "RUN make", started_at: "2026-01-20T10:00:00.000Z" };
  const end = { ended_at: "2026-01-20T10:00:01.500Z", duration_ms: 1500 };
  expect(steps.list()).toEqual([
    { number: 1, ...common, ...end, cached: false },
    { number: 2, ...common, ...end, cached: true, error: "exit code 2" },
  ]);
  steps.add(started(3));
  expect(steps.list()[2]).toEqual({ number: 3, ...common });
});

test("build steps: when a build is repeated, its steps follow those of the first build", () => {
  const steps = new BuildSteps();
  for (const step of [started(1), ended(1, { error: "lost" }), started(1), ended(1)]) steps.add(step);
  expect(steps.list().map(({ error }) => error)).toEqual(["lost", undefined]);
});

test("build steps: there are at most 500, whose texts fit into one message", () => {
  const steps = new BuildSteps();
  const long = "é".repeat(16_384);
  for (let number = 1; number <= 2000; number++) {
    steps.add(started(number, long));
    steps.add(ended(number, { error: long }, long));
  }
  expect(steps.list()).toHaveLength(500);
  const message = RunDescription.encode({ steps: steps.list().map(toWireStep) }).finish();
  expect(message.length).toBeLessThan(3_000_000);
});
