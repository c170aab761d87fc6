/** `bun run bench build`: the plain script and Blacktree in turn, on the same repositories and kinds of servers. */
import { cpus } from "node:os";
import { removeAbandoned } from "../../support/machine/abandoned.ts";
import { ensurePrerequisites } from "../../support/machine/prerequisites.ts";
import { missingDockerEngine } from "../../support/servers/docker-engines.ts";
import type { Bench, Log } from "../bench-command.ts";
import { CASES } from "./cases.ts";
import type { Sample } from "./measurement.ts";
import { type BuildBenchOptions, FLAGS, readOptions } from "./options.ts";
import { asJson, type BuildOutcome, describe } from "./report.ts";
import type { Size } from "./repositories.ts";
import { runRound } from "./rounds.ts";
import { type BuildSite, startSite } from "./site.ts";

/** With all cases, on two idle cores. */
const MINUTES_PER_ROUND: Readonly<Record<Size, number>> = { small: 0.5, large: 4 };

export const buildBench: Bench = { flags: FLAGS, run };

async function run(args: readonly string[], log: Log, interrupted: AbortSignal): Promise<readonly string[]> {
  const options = readOptions(args);
  await removeAbandoned();
  await ensurePrerequisites("bench", log);
  const missing = await missingDockerEngine("26.1");
  if (missing !== undefined) throw new Error(missing);
  log(
    `rounds: ${options.rounds}; with all cases about ${expectedMinutes(options)} minutes on an idle machine`,
  );
  log("starting RabbitMQ, Redis, 3 Docker engines, a registry, a git server, an orchestrator and a worker");
  const site = await startSite();
  try {
    const outcome = await measure(site, options, log, interrupted);
    if (options.report !== undefined) await Bun.write(options.report, asJson(outcome));
    return describe(outcome);
  } finally {
    await site.stop();
  }
}

function expectedMinutes({ rounds, sizes }: BuildBenchOptions): number {
  return Math.ceil(1 + sizes.reduce((minutes, size) => minutes + rounds * MINUTES_PER_ROUND[size], 0));
}

async function measure(
  site: BuildSite,
  { rounds, sizes, cases, seed }: BuildBenchOptions,
  log: Log,
  interrupted: AbortSignal,
): Promise<BuildOutcome> {
  const beganAt = Date.now();
  const samples: Sample[] = [];
  const round = (size: Size, number: number, of: typeof cases) =>
    runRound(site, { size, number, cases: of, seed }, log, interrupted);
  log("warming up both sides, not counted");
  await round(
    "small",
    0,
    CASES.map(({ name }) => name),
  );
  for (const size of sizes) {
    for (let number = 1; number <= rounds; number++) samples.push(...(await round(size, number, cases)));
  }
  return {
    sizes,
    cases,
    hasRegistryCache: site.hasRegistryCache,
    samples,
    circumstances: {
      rounds,
      seed,
      cores: cpus().length,
      docker: site.engineVersion,
      registry_cache: site.hasRegistryCache ? "on" : "not available: the worker does not have the setting",
      seconds: Math.round((Date.now() - beganAt) / 1000),
    },
  };
}
