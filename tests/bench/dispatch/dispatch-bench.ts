/**
 * `bun run bench dispatch`: jobs that do nothing, through Blacktree and through the least program that hands messages to
 * a worker, in turn. Measures one job at a time, and many that are submitted at once.
 */
import { parseArgs } from "node:util";
import { ensurePrerequisites } from "../../support/machine/prerequisites.ts";
import { type Bench, type Log, UsageError } from "../bench-command.ts";
import { type Spread, spreadOf } from "../statistics.ts";
import { type DispatchSite, SIDES, type Side, SLOTS, startSite } from "./site.ts";

const FLAGS = "[--rounds 5] [--jobs 2000]";
const SINGLE_JOBS = 50;
const WARM_UP_JOBS = 500;

type Times = Record<Side, number[]>;

interface Options {
  readonly rounds: number;
  readonly jobs: number;
}

export const dispatchBench: Bench = { flags: FLAGS, run };

async function run(args: readonly string[], log: Log, interrupted: AbortSignal): Promise<readonly string[]> {
  const options = readOptions(args);
  await ensurePrerequisites("bench", log);
  log("starting RabbitMQ, Redis, two workers, an orchestrator and the plain program");
  const site = await startSite();
  try {
    return await measure(site, options, log, interrupted);
  } finally {
    await site.stop();
  }
}

async function measure(
  site: DispatchSite,
  { rounds, jobs }: Options,
  log: Log,
  interrupted: AbortSignal,
): Promise<readonly string[]> {
  const [single, perJob]: [Times, Times] = [
    { plain: [], blacktree: [] },
    { plain: [], blacktree: [] },
  ];
  log("warming up both sides, not counted");
  for (const side of SIDES) await site.run(side, WARM_UP_JOBS);
  for (let round = 1; round <= rounds; round += 1) {
    log(`round ${round}`);
    for (const side of SIDES) {
      for (let job = 0; job < SINGLE_JOBS; job += 1) {
        interrupted.throwIfAborted();
        single[side].push(await site.run(side, 1));
      }
      perJob[side].push((await site.run(side, jobs)) / jobs);
    }
  }
  return [
    `${rounds} rounds; ms per job: median (least to most)`,
    described("one job at a time", single),
    described(`${jobs} jobs at once, ${SLOTS} slots`, perJob),
  ];
}

function described(what: string, times: Times): string {
  const [plain, blacktree] = SIDES.map((side) => spreadOf(times[side]));
  if (!plain || !blacktree) return `${what}: not measured`;
  const show = ({ median, least, most }: Spread) =>
    `${median.toFixed(2)} (${least.toFixed(2)} to ${most.toFixed(2)})`;
  const ratio = (blacktree.median / plain.median).toFixed(1);
  return `${what}: plain ${show(plain)}, Blacktree ${show(blacktree)}, ratio ${ratio}`;
}

function readOptions(args: readonly string[]): Options {
  try {
    const { values } = parseArgs({
      args: [...args],
      options: { rounds: { type: "string", default: "5" }, jobs: { type: "string", default: "2000" } },
    });
    return { rounds: positive("rounds", values.rounds, 100), jobs: positive("jobs", values.jobs, 100_000) };
  } catch (cause) {
    throw new UsageError(cause instanceof Error ? cause.message : String(cause), { cause });
  }
}

function positive(flag: string, text: string, maximum: number): number {
  const value = Number(text);
  if (Number.isInteger(value) && value >= 1 && value <= maximum) return value;
  throw new Error(`--${flag} ${text}: expected a number from 1 to ${maximum}`);
}
