import { beforeEach, expect, test } from "bun:test";
import { FailedTries } from "../../../../src/orchestrator/admin/failed-tries.ts";

let nowMs = 0;
let tries: FailedTries;

beforeEach(() => {
  nowMs = 0;
  tries = new FailedTries({ burst: 3, intervalMs: 1000, maxClients: 2, nowMs: () => nowMs });
});

function fail(client: string, times: number): void {
  for (let time = 0; time < times; time += 1) tries.add(client);
}

test("a client waits only after the burst, and only until one failure is forgiven", () => {
  fail("a", 2);
  expect(tries.waitMs("a")).toBe(0);
  fail("a", 1);
  expect(tries.waitMs("a")).toBe(1000);
  nowMs = 400;
  expect(tries.waitMs("a")).toBe(600);
  nowMs = 1000;
  expect(tries.waitMs("a")).toBe(0);
  fail("a", 1);
  expect(tries.waitMs("a")).toBe(1000);
});

test("all failures are forgiven in time", () => {
  fail("a", 3);
  nowMs = 3000;
  fail("a", 2);
  expect(tries.waitMs("a")).toBe(0);
});

test("clients do not affect each other", () => {
  fail("a", 3);
  expect(tries.waitMs("b")).toBe(0);
});

test("only the clients that failed last are remembered", () => {
  fail("a", 3);
  fail("b", 3);
  fail("a", 1);
  fail("c", 3);
  expect(["a", "b", "c"].map((client) => tries.waitMs(client) > 0)).toEqual([true, false, true]);
});
