import { expect, test } from "bun:test";
import { describeWorkers } from "../../../src/cli/workers.ts";

test("an empty fleet is explained", () => {
  expect(describeWorkers([])).toMatch(/^no workers are registered\. A worker registers when /);
});

test("workers are shown in columns with headings", () => {
  const worker = { region: "us-east-1", status: "BUSY", last_seen: "2026-11-26T09:00:00.000Z" };
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
