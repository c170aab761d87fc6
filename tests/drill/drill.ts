/**
 * `bun run drill`: jobs are built while every part of the deployment is killed, frozen, cut off and restarted, as
 * planned from a seed; afterwards the drill checks from outside that each job had one result, and that nothing is
 * left. Exits 1 if any promise was broken.
 */
import { mkdir, mkdtemp } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { removeAbandoned } from "../support/machine/abandoned.ts";
import { ensurePrerequisites } from "../support/machine/prerequisites.ts";
import { waitFor } from "../support/machine/wait-for.ts";
import { missingDockerEngine } from "../support/servers/docker-engines.ts";
import type { Breach } from "./breach.ts";
import { checkAfterStop, checkWhileIdle } from "./cleanup-checks.ts";
import { FaultRunner } from "./fault-runner.ts";
import { planFaults } from "./faults.ts";
import { checkGrowth, type Footprints, footprintsOf, grownBetween } from "./footprint.ts";
import { checkJobs } from "./job-checks.ts";
import { JobClient } from "./job-client.ts";
import { readJournal } from "./journal.ts";
import { recoveriesOf } from "./recovery.ts";
import { asJson, type DrillOutcome, describe } from "./report.ts";
import { SeededRandom } from "./seeded-random.ts";
import { type Site, startSite } from "./site.ts";
import { createRepositories, type DrillJob, planJob, planJobs } from "./workload.ts";

const USAGE =
  "bun run drill [--jobs 100] [--faults 30] [--seed blacktree] [--clocks-apart SECONDS] [--report FILE] [--logs FOLDER]";

/** Twice the number of slots, so that every part has jobs when a fault hits it. */
const MAX_IN_FLIGHT = 12;
/** Enough that every program has executed each of its functions. */
const WARM_UP_JOBS = 18;
/** The longest pause between two attempts is a minute; a result is lost after three minutes without any new result. */
const LOST_AFTER_MS = 200_000;

interface Options {
  readonly jobs: number;
  readonly faults: number;
  readonly seed: string;
  readonly clocksApartSeconds: number;
  readonly report: string | undefined;
  /** Where the programs' logs are always kept; by default only a failed drill keeps them. */
  readonly logs: string | undefined;
}

const startedAt = Date.now();

function log(line: string): void {
  const seconds = ((Date.now() - startedAt) / 1000).toFixed(0);
  console.log(`${seconds.padStart(5)} s  ${line}`);
}

class UsageError extends Error {
  override readonly name = "UsageError";
}

function readOptions(): Options {
  try {
    const { values } = parseArgs({
      options: {
        jobs: { type: "string", default: "100" },
        faults: { type: "string", default: "30" },
        seed: { type: "string", default: "blacktree" },
        "clocks-apart": { type: "string", default: "0" },
        report: { type: "string" },
        logs: { type: "string" },
      },
    });
    const { seed, report, logs } = values;
    const clocksApartSeconds = count(values["clocks-apart"]);
    return { jobs: count(values.jobs), faults: count(values.faults), seed, clocksApartSeconds, report, logs };
  } catch (cause) {
    throw new UsageError(`${cause instanceof Error ? cause.message : cause}\n${USAGE}`, { cause });
  }
}

function count(text: string): number {
  if (!/^\d+$/.test(text)) throw new Error(`${text} is not a number`);
  return Number(text);
}

class Drill {
  readonly #jobs: DrillJob[] = [];
  readonly #runner: FaultRunner;
  readonly #jobClient: JobClient;

  constructor(
    private readonly site: Site,
    private readonly options: Options,
    private readonly interrupted: AbortSignal,
  ) {
    this.#jobClient = new JobClient(site.backends.rabbitmq);
    const plan = planFaults(options.faults, options.seed);
    this.#runner = new FaultRunner(site, plan, (number) => this.#keepPace(number), log);
  }

  async run(): Promise<DrillOutcome> {
    this.#jobClient.start();
    try {
      await createRepositories(this.site);
      const before = await this.#warmUp();
      await this.#jobsAndFaults();
      await this.#untilResults();
      return await this.#judge(before);
    } finally {
      await this.#jobClient.stop();
    }
  }

  /** @returns the programs' memory and open files after the warm-up, before any fault. */
  async #warmUp(): Promise<Footprints> {
    const random = new SeededRandom("warm-up");
    log(`${WARM_UP_JOBS} jobs to warm up`);
    const jobs = Array.from({ length: WARM_UP_JOBS }, (_, index) =>
      planJob("quick", 9001 + index, random, this.site.mark),
    );
    await this.#send(jobs, () => 1);
    await this.#untilResults();
    await this.#idle();
    return footprintsOf(this.site);
  }

  async #jobsAndFaults(): Promise<void> {
    const { jobs, faults, seed } = this.options;
    log(`${jobs} jobs and ${faults} faults, seed ${seed}`);
    const planned = planJobs(jobs, new SeededRandom(`jobs ${seed}`), this.site.mark);
    await Promise.all([
      this.#runner.run(this.interrupted),
      this.#send(planned, () => (faults === 0 ? 1 : this.#runner.progress)),
    ]);
    log("all faults have ended, all jobs are sent");
  }

  async #send(jobs: readonly DrillJob[], progress: () => number): Promise<void> {
    for (const [index, job] of jobs.entries()) {
      const isTime = () => index < jobs.length * progress() && this.#inFlight < MAX_IN_FLIGHT;
      while (!isTime() && !this.interrupted.aborted) await Bun.sleep(50);
      if (this.interrupted.aborted) return;
      this.#jobs.push(job);
      await this.#jobClient.send(job);
    }
  }

  /** On a slow machine the last jobs would otherwise run without faults. */
  #keepPace(fault: number): boolean {
    const { jobs, faults } = this.options;
    const answered = this.#jobs.length - WARM_UP_JOBS - this.#inFlight;
    return answered >= (jobs * (fault - 1)) / faults - MAX_IN_FLIGHT;
  }

  get #inFlight(): number {
    return this.#missing.length;
  }

  get #missing(): DrillJob[] {
    return this.#jobs.filter(({ message }) => !this.#jobClient.results.has(message.job_id));
  }

  /** Waits as long as results arrive. */
  async #untilResults(): Promise<void> {
    let [known, sinceMs] = [-1, Date.now()];
    while (this.#inFlight > 0 && !this.interrupted.aborted) {
      if (known !== this.#inFlight) [known, sinceMs] = [this.#inFlight, Date.now()];
      if (Date.now() - sinceMs > LOST_AFTER_MS) return;
      await Bun.sleep(100);
    }
  }

  async #idle(): Promise<void> {
    const what = "the deployment to be idle after the warm-up";
    await waitFor(async () => (await checkWhileIdle(this.site)).length === 0, { timeoutMs: 60_000, what });
  }

  async #judge(before: Footprints): Promise<DrillOutcome> {
    const { site } = this;
    this.interrupted.throwIfAborted();
    log("all results have arrived, checking what is left");
    const whileIdle = await checkWhileIdle(site);
    const grown = grownBetween(before, await footprintsOf(site));
    const afterStop = await checkAfterStop(site);
    const journal = readJournal(site.programs);
    const { records } = this.#runner;
    const verdict = await checkJobs({ site, jobs: this.#jobs, jobClient: this.#jobClient, journal, records });
    return {
      seed: this.options.seed,
      jobs: this.options.jobs,
      seconds: (Date.now() - startedAt) / 1000,
      records,
      recoveries: recoveriesOf(records, journal),
      verdict,
      grown,
      breaches: [...this.#unhealed(), ...verdict.breaches, ...whileIdle, ...checkGrowth(grown), ...afterStop],
    };
  }

  #unhealed(): Breach[] {
    return this.#runner.records.flatMap(({ planned: { number, kind, target }, failure }) =>
      failure === undefined
        ? []
        : [
            {
              rule: "did not recover",
              what: `fault ${number}, ${kind.name}, ${target}: ${failure}`,
              evidence: [],
            },
          ],
    );
  }
}

async function keepLogs(site: Site, folder: string): Promise<void> {
  await mkdir(folder, { recursive: true });
  for (const { launches } of site.programs) {
    for (const { program, number, process } of launches) {
      await Bun.write(join(folder, `${program}.${number}.log`), `${process.lines.join("\n")}\n`);
    }
  }
}

async function drill(options: Options, interrupted: AbortSignal): Promise<number> {
  await removeAbandoned();
  await ensurePrerequisites("drill", log);
  const missing = await missingDockerEngine("26.1");
  if (missing !== undefined) throw new Error(missing);
  log("starting RabbitMQ, Redis, Docker, a registry, a git server, 2 orchestrators and 4 workers");
  const site = await startSite(options);
  let isPassed = false;
  try {
    const outcome = await new Drill(site, options, interrupted).run();
    isPassed = outcome.breaches.length === 0;
    if (options.report !== undefined) await Bun.write(options.report, asJson(outcome));
    for (const line of describe(outcome)) console.log(line);
    return isPassed ? 0 : 1;
  } finally {
    if (!isPassed || options.logs !== undefined) {
      const folder = options.logs ?? (await mkdtemp(join(tmpdir(), "blacktree-drill-")));
      await keepLogs(site, folder);
      console.log(`logs of all programs: ${folder}`);
    }
    await site.stop();
  }
}

async function main(): Promise<number> {
  const interruption = new AbortController();
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
    process.on(signal, () => {
      // On the second signal, exit at once; the kernel ends the remaining child processes.
      if (interruption.signal.aborted) process.exit(1);
      console.log("stopping, and cleaning up; send the signal again to stop at once");
      interruption.abort(new Error("interrupted"));
    });
  }
  try {
    return await drill(readOptions(), interruption.signal);
  } catch (error) {
    console.error(`drill: ${error instanceof Error ? error.message : error}`);
    return error instanceof UsageError ? 2 : 1;
  }
}

process.exit(await main());
