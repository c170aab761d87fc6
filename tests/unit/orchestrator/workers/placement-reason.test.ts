import { expect, test } from "bun:test";
import { placedByChoice } from "../../../../src/orchestrator/workers/placement-reason.ts";

const CLAIM = { jobId: "j", attempt: 2, workerId: "w-2", incarnation: "i", address: "w-2:1" };

const reasonOf = (choice: object, request: object = {}) =>
  placedByChoice(
    CLAIM,
    { region: "us-east-1", hasBuiltSource: false, ...choice },
    { regions: ["us-east-1", "eu-west-1", "eu-west-2"], ...request },
  ).reason;

test.each([
  [{}, {}, "free in us-east-1"],
  [{ hasBuiltSource: true }, {}, "free in us-east-1, has built this repository before"],
  [{ region: "eu-west-2" }, {}, "no free worker in us-east-1, eu-west-1: fallback eu-west-2"],
  [{}, { avoidWorkerId: "w-1" }, "free in us-east-1, another worker than w-1 of the last attempt"],
  [
    {},
    { avoidWorkerId: "w-2" },
    "free in us-east-1, the worker of the last attempt, since no other one is free",
  ],
  [
    { region: "eu-west-1" },
    { avoidWorkerId: "w-1" },
    "no other free worker in us-east-1: fallback eu-west-1, another worker than w-1 of the last attempt",
  ],
  [{ missesPlatforms: true }, {}, "free in us-east-1, no worker runs programs of the job's platforms"],
])("a placement by %p for %p is explained", (choice, request, reason) => {
  expect(reasonOf(choice, request)).toBe(reason);
});
