import { expect, test } from "bun:test";
import { shrinkingBodies } from "../../../../../src/orchestrator/queue/rabbitmq/result-body.ts";
import type { JobResult } from "../../../../../src/shared/job.ts";
import { sampleResult } from "../../../../integration/orchestrator/sample-result.ts";

const logsOf = (body: Buffer) => (JSON.parse(body.toString()) as JobResult).logs;

test("each body has about half the log lines of the one before, the last ones, down to none", () => {
  const logs = ["1", "2", "3", "4", "5"];
  const bodies = [...shrinkingBodies({ ...sampleResult("job-1"), logs })].map(logsOf);
  expect(bodies.map((lines) => lines.filter((line) => !line.startsWith("[")))).toEqual([
    logs,
    ["4", "5"],
    ["5"],
    [],
  ]);
  expect(bodies[1]?.[0]).toStartWith("[3 lines left out");
});

test("a result without a log has one body", () => {
  expect([...shrinkingBodies({ ...sampleResult("job-1"), logs: [] })]).toHaveLength(1);
});
