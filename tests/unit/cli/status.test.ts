import { expect, test } from "bun:test";
import { describeStatus } from "../../../src/cli/status.ts";

const STATUS = {
  version: "0.1.0",
  commit: "abc",
  region: "us-east-1",
  started_at: "2026-01-31T12:00:00.000Z",
  connected: { rabbitmq: true, redis: true },
  workers: { FREE: 2, BUSY: 0, DRAINING: 0, LOST: 1 },
};

test("shows the orchestrator, its servers and the workers by status", () => {
  expect(describeStatus(STATUS).split("\n")).toEqual([
    "orchestrator  0.1.0 (abc) of us-east-1, since 2026-01-31 12:00:00Z",
    "servers       rabbitmq connected, redis connected",
    "workers       2 FREE, 1 LOST",
  ]);
});

test.each([
  [{ FREE: 0, BUSY: 0 }, "workers       none"],
  [null, "workers       unknown"],
])("workers %j", (workers, line) => {
  const shown = describeStatus({ ...STATUS, connected: { rabbitmq: true, redis: false }, workers });
  expect(shown.split("\n").slice(1)).toEqual(["servers       rabbitmq connected, redis NOT CONNECTED", line]);
});
