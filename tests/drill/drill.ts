/**
 * `bun run drill`: jobs are built while every part of the deployment is killed, frozen, cut off and restarted, as
 * planned from a seed; afterwards the drill checks from outside that each job had one result, and that nothing is
 * left. Exits 1 if any promise was broken.
 */
import { mkdir, mkdtemp } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { removeAbandoned } from "../support/machine/abandoned.ts";
import { ensurePrerequisites } from "../support/machine/prerequisites.ts";
import { waitFor } from "../support/machine/wait-for.ts";
import { missingDockerEngine } from "../support/servers/docker-engines.ts";
import type { Breach } from "./checks/breach.ts";
import { checkAfterStop, checkWhileIdle } from "./checks/cleanup.ts";
import { checkGrowth, type Footprints, footprintsOf, grownBetween } from "./checks/footprint.ts";
import { checkJobs } from "./checks/job-checks.ts";
import { planFaults } from "./faults/kinds.ts";
import { FaultRunner } from "./faults/runner.ts";
import { JobClient, messagesLeft } from "./jobs/client.ts";
import type { DrillJob } from "./jobs/job.ts";
import { type Phase, planJob, planPhases } from "./jobs/plan.ts";
import { createRepositories } from "./jobs/repository.ts";
import { Sender } from "./jobs/sender.ts";
import { type Options, readOptions, UsageError } from "./options.ts";
import { recoveriesOf } from "./recovery.ts";
import { asJson, type DrillOutcome, describe } from "./report.ts";
import { SeededRandom } from "./seeded-random.ts";
import { readJournal } from "./site/journal.ts";
import { MachineWatch } from "./site/machine-watch.ts";
import { type Site, startSite } from "./site/site.ts";

/** In a steady phase: twice the number of slots, so that every part has jobs when a fault hits it. */
const MAX_IN_FLIGHT = 12;
/** Enough that every program has executed each of its functions; in a short drill no program grows much. */
const WARM_UP_JOBS = { long: 18, short: 6 };
const LONG_DRILL_JOBS = 100;
/** The longest pause between two attempts is a minute; a result is lost after three minutes without any new result. */
const LOST_AFTER_MS = 200_000;
/** A result is also lost if the broker has had no message for this long: longer than it takes to count them again. */
const LOST_WITHOUT_MESSAGES_MS = 30_000;

const startedAt = Date.now();

function log(line: string): void {
  const seconds = ((Date.now() - startedAt) / 1000).toFixed(0);
  console.log(`${seconds.padStart(5)} s  ${line}`);
}

class Drill {
  readonly #runner: FaultRunner;
  readonly #jobClient: JobClient;
  readonly #sender: Sender;
  readonly #machine = new MachineWatch();
  readonly #warmUpJobs: number;

  constructor(
    private readonly site: Site,
    private readonly options: Options,
    private readonly interrupted: AbortSignal,
  ) {
    const { jobs, faults, seed, faultKinds } = options;
    this.#warmUpJobs = jobs >= LONG_DRILL_JOBS ? WARM_UP_JOBS.long : WARM_UP_JOBS.short;
    this.#jobClient = new JobClient(site.backends.rabbitmq);
    this.#sender = new Sender(this.#jobClient, site.orchestrators, interrupted);
    const plan = planFaults(faults, seed, faultKinds);
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
      this.#machine.stop();
      await this.#jobClient.stop();
    }
  }

  /** @returns the programs' memory and open files after the warm-up, before any fault. */
  async #warmUp(): Promise<Footprints> {
    const random = new SeededRandom("warm-up");
    log(`${this.#warmUpJobs} jobs to warm up`);
    for (let index = 0; index < this.#warmUpJobs; index += 1) {
      while (this.#inFlight >= MAX_IN_FLIGHT && !this.interrupted.aborted) await Bun.sleep(50);
      await this.#sender.send(planJob("quick", 9001 + index, random, this.site.mark));
    }
    await this.#untilResults();
    await this.#idle();
    return footprintsOf(this.site);
  }

  async #jobsAndFaults(): Promise<void> {
    const { jobs, faults, seed } = this.options;
    log(`${jobs} jobs and ${faults} faults, seed ${seed}`);
    const phases = planPhases(jobs, new SeededRandom(`jobs ${seed}`), this.site.mark);
    await Promise.all([this.#runner.run(this.interrupted), this.#sendPhases(phases)]);
    await this.#sender.followedUp();
    log("all faults have ended, all jobs are sent");
  }

  /** A backlog is sent as fast as the broker confirms it; all other jobs at the pace of the faults. */
  async #sendPhases(phases: readonly Phase[]): Promise<void> {
    let sent = 0;
    for (const { kind, jobs, quietMs } of phases) {
      if (kind === "backlog") log(`a backlog of ${jobs.length} jobs`);
      for (const [index, job] of jobs.entries()) {
        if (kind === "steady" || index === 0) await this.#untilDue(sent, kind);
        if (this.interrupted.aborted) return;
        await this.#sender.send(job);
        sent += 1;
      }
      if (quietMs > 0) await this.#beQuiet(quietMs);
    }
  }

  async #untilDue(sent: number, kind: Phase["kind"]): Promise<void> {
    const { jobs, faults } = this.options;
    const isDue = () => faults === 0 || sent < jobs * this.#runner.progress;
    const hasRoom = () => kind === "backlog" || this.#inFlight < MAX_IN_FLIGHT;
    while (!(isDue() && hasRoom()) && !this.interrupted.aborted) await Bun.sleep(50);
  }

  async #beQuiet(quietMs: number): Promise<void> {
    await this.#untilResults();
    log("all jobs have ended; quiet");
    await sleep(quietMs, undefined, { signal: this.interrupted }).catch(() => undefined);
  }

  /** On a slow machine the last jobs would otherwise run without faults. */
  #keepPace(fault: number): boolean {
    const { jobs, faults } = this.options;
    const answered = this.#sender.sent.length - this.#warmUpJobs - this.#inFlight;
    return answered >= (jobs * (fault - 1)) / faults - MAX_IN_FLIGHT;
  }

  get #inFlight(): number {
    return this.#sender.missing.length;
  }

  /** Waits as long as results arrive, or messages exist from which they may still arrive. */
  async #untilResults(): Promise<void> {
    let [known, sinceMs, messageMs] = [-1, Date.now(), Date.now()];
    while (this.#inFlight > 0 && !this.interrupted.aborted) {
      if (known !== this.#inFlight) [known, sinceMs, messageMs] = [this.#inFlight, Date.now(), Date.now()];
      const left = await messagesLeft(this.site.backends.rabbitmq).catch(() => undefined);
      if (left === undefined || left.length > 0) messageMs = Date.now();
      if (Date.now() - sinceMs > LOST_AFTER_MS) return;
      if (Date.now() - messageMs > LOST_WITHOUT_MESSAGES_MS) return;
      await Bun.sleep(250);
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
    const { records, missed } = this.#runner;
    const { sent: jobs, cancellations } = this.#sender;
    const { periods: busy } = this.#machine;
    const jobClient = this.#jobClient;
    const verdict = await checkJobs({ site, jobs, cancellations, jobClient, journal, records, busy });
    return {
      seed: this.options.seed,
      jobs: this.options.jobs,
      jobsByKind: countBy(jobs.slice(this.#warmUpJobs), kindsOfJob),
      seconds: (Date.now() - startedAt) / 1000,
      records,
      missed,
      busy,
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

function kindsOfJob({ kind, followUps, message }: DrillJob): string[] {
  return [
    kind,
    ...followUps.map((each) => each.kind),
    ...(message.supersede === undefined ? [] : ["supersede"]),
  ];
}

function countBy(
  jobs: readonly DrillJob[],
  namesOf: (job: DrillJob) => readonly string[],
): ReadonlyMap<string, number> {
  const names = jobs.flatMap(namesOf);
  return new Map([...new Set(names)].map((name) => [name, names.filter((each) => each === name).length]));
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
    return await drill(readOptions(process.argv.slice(2)), interruption.signal);
  } catch (error) {
    console.error(`drill: ${error instanceof Error ? error.message : error}`);
    return error instanceof UsageError ? 2 : 1;
  }
}

process.exit(await main());
