import { heapStats } from "bun:jsc";
import { expect, test } from "bun:test";
import pino from "pino";
import { UnknownFields } from "../../../src/orchestrator/unknown-fields.ts";

function logged() {
  const fields: string[] = [];
  const logger = pino({}, { write: (line: string) => void fields.push(...JSON.parse(line).fields) });
  return { fields, unknown: new UnknownFields(logger) };
}

test("each name is logged once", () => {
  const { fields, unknown } = logged();
  unknown.log(["a", "b"]);
  unknown.log([]);
  unknown.log(["b", "c"]);
  expect(fields).toEqual(["a", "b", "c"]);
});

test("a line has at most 20 names, each cut after 100 characters, and a limited number of names is ever logged", () => {
  const { fields, unknown } = logged();
  unknown.log(Array.from({ length: 30 }, (_, index) => `${index}`.padEnd(200, "x")));
  expect(fields).toHaveLength(20);
  expect(fields.every(({ length }) => length === 100)).toBe(true);
  for (let index = 0; index < 2000; index++) unknown.log([`name-${index}`]);
  expect(fields).toHaveLength(1000);
});

test("the memory that is used does not depend on the length of the names", () => {
  const { unknown } = logged();
  const [names, nameBytes] = [50, 1_000_000];
  Bun.gc(true);
  const before = heapStats();
  for (let index = 0; index < names; index++) unknown.log([Buffer.alloc(nameBytes, `${index},`).toString()]);
  Bun.gc(true);
  const after = heapStats();
  const usedBytes = after.heapSize + after.extraMemorySize - before.heapSize - before.extraMemorySize;
  expect(usedBytes).toBeLessThan((names * nameBytes) / 2);
  unknown.log(["the log is still in use"]);
});
