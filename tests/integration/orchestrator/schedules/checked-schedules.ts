/**
 * Every order of events: arrivals, answers of calls, timers, kills, freezes, lost connections, cancellations and
 * duplicates, in thousands of generated schedules. The components are the real ones, in one process, under simulated
 * time; only gRPC, the registry and the pipeline's build are replaced.
 *
 * A failure is printed as its shortest schedule, with the command that runs it again.
 */
import { test } from "bun:test";
import { relative } from "node:path";
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
export const SEED = Number(process.env.BLACKTREE_SCHEDULE_SEED ?? 2026);
const PATH = process.env.BLACKTREE_SCHEDULE_PATH;

export interface Property {
  readonly name: string;
  /** Each property has a file, since files run at the same time. */
  readonly file: string;
  /** Orchestrators poll for jobs that nobody announces. */
  readonly isPolled: boolean;
}

export async function problemOf(plan: Plan): Promise<string | undefined> {
  try {
    await runSchedule(plan);
    return undefined;
  } catch (error) {
    if (error instanceof BrokenGuarantee) return error.message;
    throw error;
  }
}

export async function journalOf(plan: Plan): Promise<readonly string[]> {
  try {
    return await runSchedule(plan, true);
  } catch (error) {
    if (error instanceof BrokenGuarantee) return error.journal;
    throw error;
  }
}

async function checkSchedules({ name, file, isPolled }: Property): Promise<void> {
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
  const command = `${variables} bun test ${relative(process.cwd(), file)} -t "${name}"`;
  const lines = [String(found.errorInstance), `run again: ${command}`, `schedule: ${JSON.stringify(plan)}`];
  throw new Error([...lines, ...(await journalOf(plan))].join("\n"));
}

export function testSchedules(property: Property): void {
  test(property.name, () => checkSchedules(property), TIMEOUT_MS);
}
