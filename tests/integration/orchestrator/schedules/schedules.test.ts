/**
 * Every order of events: arrivals, answers of calls, timers, kills, freezes, lost connections, cancellations and
 * duplicates, in thousands of generated schedules. The components are the real ones, in one process, under simulated
 * time; only gRPC, the registry and the pipeline's build are replaced.
 *
 * A failure is printed as its shortest schedule, with the command that runs it again.
 */
import { describe, expect, test } from "bun:test";
import * as fc from "fast-check";
import { fullCheckVariable } from "../../../support/machine/full-check.ts";
import { type Plan, plans } from "./plan.ts";
import { BrokenGuarantee, runSchedule } from "./schedule.ts";

/** Of each property. */
const SCHEDULES = Number(
  process.env.BLACKTREE_SCHEDULES ?? (process.env[fullCheckVariable] === undefined ? 1000 : 100_000),
);
const TIMEOUT_MS = process.env[fullCheckVariable] === undefined ? 600_000 : 6 * 3_600_000;
/** Then the shortest schedule found so far is printed: fast-check does not try to shorten schedules that pass. */
const MAX_SHRINK_MS = 120_000;
/** The same schedules in every check; a search for new ones sets another seed. */
const SEED = Number(process.env.BLACKTREE_SCHEDULE_SEED ?? 2026);
const PATH = process.env.BLACKTREE_SCHEDULE_PATH;

async function problemOf(plan: Plan): Promise<string | undefined> {
  try {
    await runSchedule(plan);
    return undefined;
  } catch (error) {
    if (error instanceof BrokenGuarantee) return error.message;
    throw error;
  }
}

async function journalOf(plan: Plan): Promise<readonly string[]> {
  try {
    return await runSchedule(plan, true);
  } catch (error) {
    if (error instanceof BrokenGuarantee) return error.journal;
    throw error;
  }
}

async function checkSchedules(name: string, isPolled: boolean): Promise<void> {
  let shrinkUntilMs = Number.POSITIVE_INFINITY;
  const holds = fc.asyncProperty(plans(isPolled), async (plan) => {
    if (performance.now() > shrinkUntilMs) return;
    const problem = await problemOf(plan);
    if (problem === undefined) return;
    shrinkUntilMs = Math.min(shrinkUntilMs, performance.now() + MAX_SHRINK_MS);
    throw new Error(problem);
  });
  const found = await fc.check(holds, { numRuns: SCHEDULES, seed: SEED, path: PATH });
  if (!found.failed) return;
  const [plan] = found.counterexample ?? [];
  if (!plan) throw new Error("no schedule was run");
  const variables = `BLACKTREE_SCHEDULE_SEED=${found.seed} BLACKTREE_SCHEDULE_PATH=${found.counterexamplePath}`;
  const command = `${variables} bun test ${import.meta.path.replace(`${process.cwd()}/`, "")} -t "${name}"`;
  const lines = [String(found.errorInstance), `run again: ${command}`, `schedule: ${JSON.stringify(plan)}`];
  throw new Error([...lines, ...(await journalOf(plan))].join("\n"));
}

function testSchedules(name: string, isPolled: boolean): void {
  test(name, () => checkSchedules(name, isPolled), TIMEOUT_MS);
}

describe("schedules", () => {
  testSchedules(
    "the guarantees hold, and no job needs the poll, while orchestrators and servers work",
    false,
  );
  testSchedules("the guarantees hold when orchestrators and their connections fail as well", true);

  test("the same schedule has the same course", async () => {
    for (const plan of fc.sample(plans(true), { numRuns: 20, seed: SEED }))
      expect(await journalOf(plan)).toEqual([...(await journalOf(plan))]);
  });
});
