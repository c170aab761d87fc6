import { expect, test } from "bun:test";
import * as fc from "fast-check";
import { journalOf, problemOf, SEED, testSchedules } from "./checked-schedules.ts";
import kept from "./kept-schedules.json";
import { type Plan, plans } from "./plan.ts";

testSchedules({
  name: "schedules: the guarantees hold when orchestrators and their connections fail as well",
  file: import.meta.path,
  isPolled: true,
});

test.each(kept)("schedules: one that failed: $found", async ({ plan }) => {
  expect(await problemOf(plan as Plan)).toBeUndefined();
});

test("schedules: the same one has the same course", async () => {
  for (const plan of fc.sample(plans(true), { numRuns: 20, seed: SEED }))
    expect(await journalOf(plan)).toEqual([...(await journalOf(plan))]);
});
