/** Runs one schedule: submits its jobs, causes its faults, and waits until everything is at rest. */
import { LeasesUnavailable } from "../../../../src/orchestrator/leases/leases.ts";
import { RecordsUnavailable } from "../../../../src/orchestrator/records/job-records.ts";
import { Cluster, nameOf, type Program, REGIONS } from "./cluster.ts";
import type { Orchestrator } from "./orchestrator.ts";
import type { Plan, PlannedFault } from "./plan.ts";
import { Process, Simulation } from "./simulation.ts";

/** A job, slot or wake-up counts as lost when it is missing after so long without faults. */
const REST_MS = 100_000;
const CHECK_INTERVAL_MS = 250;
const MIN_RESTART_MS = 1000;

export class BrokenGuarantee extends Error {
  override readonly name = "BrokenGuarantee";

  constructor(
    problem: string,
    /** Empty unless it was asked for. */
    readonly journal: readonly string[],
  ) {
    super(problem);
  }
}

/** Returns the journal, if `isWritten`. @throws BrokenGuarantee */
export async function runSchedule(plan: Plan, isWritten = false): Promise<readonly string[]> {
  const simulation = new Simulation();
  const restore = simulation.install();
  try {
    return await new Schedule(plan, simulation, isWritten).run();
  } finally {
    restore();
  }
}

class Schedule {
  readonly #cluster: Cluster;
  /** Clients, operators, and the causes of faults. */
  readonly #outside = new Process("");
  readonly #submitted = new Set<number>();
  /** Planned events that have not happened, with the restarts of killed programs. */
  #pending = 0;

  constructor(
    private readonly plan: Plan,
    private readonly simulation: Simulation,
    isWritten: boolean,
  ) {
    this.#cluster = new Cluster(plan, simulation, isWritten);
  }

  async run(): Promise<readonly string[]> {
    const { simulation, plan } = this;
    const { problems, journal } = this.#cluster;
    for (const [index, { atMs }] of plan.jobs.entries()) this.#at(atMs, () => this.#submit(index));
    for (const fault of plan.faults) this.#at(fault.atMs, () => this.#cause(fault));
    await simulation.runUntil(() => this.#pending === 0 || problems.length > 0, Number.POSITIVE_INFINITY);
    if (problems.length === 0) await this.#untilAtRest();
    if (problems[0] !== undefined) throw new BrokenGuarantee(problems[0], journal.lines);
    return journal.lines;
  }

  async #untilAtRest(): Promise<void> {
    const { problems } = this.#cluster;
    const jobIds = [...this.plan.jobs.keys()].map(nameOf);
    let unrest: string | undefined = "not checked";
    const check = async () => {
      // A fault that waits for calls of its process may still happen.
      unrest = this.#pending > 0 ? "a program is down" : await this.#cluster.unrest(jobIds);
      this.simulation.after(CHECK_INTERVAL_MS, this.#outside, () => void check());
    };
    this.simulation.post(0, this.#outside, () => void check());
    const isOver = () => unrest === undefined || problems.length > 0;
    if (!(await this.simulation.runUntil(isOver, this.simulation.nowMs + REST_MS)))
      this.#cluster.report(`not at rest after ${REST_MS / 1000} s without faults: ${unrest}`);
    else if (problems.length === 0) this.#checkTags(jobIds);
  }

  #at(delayMs: number, act: () => void): void {
    this.#pending += 1;
    this.simulation.after(delayMs, this.#outside, () => {
      this.#pending -= 1;
      act();
    });
  }

  #submit(index: number): void {
    const { invariants, journal, broker } = this.#cluster;
    const jobId = nameOf(index);
    const job = this.plan.jobs[index];
    const body = {
      repo_url: "owner/name",
      branch: "main",
      deployment_version: jobId,
      aws_account: "123456789012",
      ecr_repo: "images",
      worker_region: REGIONS[job?.region ?? 0],
      priority: job?.isHigh ? "high" : "normal",
    };
    this.#submitted.add(index);
    invariants.accepted(jobId);
    journal.note(`${jobId} is submitted`);
    void this.simulation.run(broker.store.process, () => broker.submit(jobId, body));
  }

  #cause(fault: PlannedFault): void {
    const { orchestrators, workers, network } = this.#cluster;
    const { kind, target, forMs } = fault;
    const orchestrator = orchestrators[target % orchestrators.length];
    const worker = workers[target % workers.length];
    const jobIndex = target % this.plan.jobs.length;
    if (!orchestrator || !worker) throw new Error("the plan has no orchestrator or no worker");
    if (kind === "duplicate" && this.#submitted.has(jobIndex)) this.#submit(jobIndex);
    if (kind === "cancel" && this.#submitted.has(jobIndex)) this.#cancel(jobIndex, orchestrator);
    if (kind === "stop worker") this.#stopAtStep(worker, fault, () => worker.parts.stop(forMs));
    if (kind === "stop orchestrator") this.#stopAtStep(orchestrator, fault, () => orchestrator.parts.stop());
    if (kind === "kill worker") this.#killAtStep(worker, fault);
    if (kind === "kill orchestrator") this.#killAtStep(orchestrator, fault);
    if (kind === "freeze worker") this.#atStep(worker, fault, () => this.#freeze(worker, forMs));
    if (kind === "freeze orchestrator")
      this.#atStep(orchestrator, fault, () => this.#freeze(orchestrator, forMs));
    if (kind === "reset connection")
      this.#atStep(orchestrator, fault, () => orchestrator.parts.connection.reset());
    if (kind === "cut")
      this.#atStep(orchestrator, fault, () => network.cut(worker.address, orchestrator.name, forMs));
  }

  #atStep(program: Program<unknown>, { kind, steps, forMs }: PlannedFault, act: () => void): void {
    program.process.planFault(steps, () => {
      this.#cluster.journal.note(`FAULT: ${kind} ${program.name} (${forMs} ms)`);
      act();
    });
  }

  #killAtStep(program: Program<unknown>, fault: PlannedFault): void {
    this.#atStep(program, fault, () => this.#kill(program, fault.forMs));
  }

  /** A fault that kills the program before it has stopped also starts it again. */
  #stopAtStep(program: Program<unknown>, fault: PlannedFault, stop: () => Promise<void>): void {
    const { process } = program;
    const stopped = () => this.simulation.post(0, this.#outside, () => this.#kill(program, 0));
    this.#atStep(program, fault, () => this.simulation.post(0, process, () => void stop().then(stopped)));
  }

  #kill(program: Program<unknown>, forMs: number): void {
    program.process.kill();
    this.#at(Math.max(forMs, MIN_RESTART_MS), () => program.restart());
  }

  #freeze(program: Program<unknown>, forMs: number): void {
    this.simulation.freeze(program.process, forMs);
  }

  /** Once: a cancellation that no orchestrator has recorded does not count. */
  #cancel(jobIndex: number, { process, parts }: Program<Orchestrator>): void {
    this.#cluster.journal.note(`${nameOf(jobIndex)} is cancelled`);
    this.simulation.post(0, process, () => {
      parts.cancel(nameOf(jobIndex)).catch((error: unknown) => {
        if (!(error instanceof LeasesUnavailable || error instanceof RecordsUnavailable)) throw error;
      });
    });
  }

  /**
   * Without a fault, the tag exists only for a job that has succeeded. Slow calls alone can make a worker count as lost
   * after it has put the tag: a job that is cancelled then has no attempt that would find the tag.
   */
  #checkTags(jobIds: readonly string[]): void {
    if (this.plan.faults.some(({ kind }) => kind !== "cancel" && kind !== "duplicate")) return;
    const { invariants } = this.#cluster;
    for (const jobId of jobIds) {
      const result = invariants.resultOf(jobId);
      const mayMiss = invariants.isCancelled(jobId) && invariants.wasLost(jobId);
      if (invariants.isTagged(jobId) && result?.status !== "SUCCESS" && !mayMiss)
        this.#cluster.report(`job ${jobId} has a tag, but its result is ${result?.status}`);
    }
  }
}
