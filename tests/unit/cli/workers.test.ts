import { expect, test } from "bun:test";
import { describeWorkers, type ShownWorker } from "../../../src/cli/workers.ts";

const WORKER: ShownWorker = {
  id: "w1",
  region: "us-east-1",
  address: "10.0.0.1:6000",
  status: "DRAINING",
  refusal: null,
  control: null,
  jobs: [],
  labels: {},
  last_seen: "2026-11-26T09:00:00.000Z",
};
const CONTROL = { reason: "new disk", since: "2026-11-26T08:00:00.000Z" };

test("an empty fleet is explained", () => {
  expect(describeWorkers([])).toMatch(/^no workers are registered\. A worker registers when /);
});

test("workers are shown in columns with headings", () => {
  const worker = { ...WORKER, status: "BUSY" };
  const shown = describeWorkers([
    { ...worker, id: "a", address: "10.0.0.1:6000", refusal: null, jobs: ["job-1"] },
    { ...worker, id: "long-id", address: "10.0.0.20:6000", refusal: "disk full", jobs: [] },
  ]);
  expect(shown.split("\n")).toEqual([
    "ID       REGION     ADDRESS         STATUS  LAST SEEN                 JOBS   REFUSES JOBS BECAUSE",
    "a        us-east-1  10.0.0.1:6000   BUSY    2026-11-26T09:00:00.000Z  job-1",
    "long-id  us-east-1  10.0.0.20:6000  BUSY    2026-11-26T09:00:00.000Z         disk full",
  ]);
});

test.each([
  [{ ...CONTROL, kind: "drained", scope: "worker" }, null, "drained by an operator: new disk"],
  [
    { ...CONTROL, kind: "drained", scope: "region" },
    null,
    "region us-east-1 is drained by an operator: new disk",
  ],
  [
    { ...CONTROL, kind: "paused", scope: "worker" },
    "paused by an operator: new disk; low disk space",
    "paused by an operator: new disk; low disk space",
  ],
  [{ ...CONTROL, kind: "paused", scope: "worker" }, null, "paused by an operator: new disk"],
] as const)("a worker that is out of service is shown with the reason: %j", (control, refusal, reason) => {
  expect(describeWorkers([{ ...WORKER, control, refusal }])).toEndWith(`  ${reason}`);
});

test("labels are shown if a worker has any", () => {
  const shown = describeWorkers([{ ...WORKER, labels: { rack: "7", team: "web" } }, WORKER]);
  expect(shown.split("\n")[0]).toContain("  LABELS");
  expect(shown).toContain("  rack=7,team=web");
  expect(describeWorkers([WORKER])).not.toContain("LABELS");
});
