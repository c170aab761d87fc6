/** The programs and servers of one schedule: orchestrators and workers, and the stores that they share. */
import { Database } from "bun:sqlite";
import { InProcessLeases } from "../../../../src/orchestrator/leases/in-process.ts";
import { type Leases, LeasesUnavailable } from "../../../../src/orchestrator/leases/leases.ts";
import { RecordsUnavailable } from "../../../../src/orchestrator/records/job-records.ts";
import { SqliteJobRecords } from "../../../../src/orchestrator/records/sqlite.ts";
import { Broker } from "./broker.ts";
import { Store, throughCalls } from "./calls.ts";
import { Choices } from "./delays.ts";
import { Invariants } from "./invariants.ts";
import { Journal } from "./journal.ts";
import { Network } from "./network.ts";
import { type Orchestrator, SETTINGS, startOrchestrator } from "./orchestrator.ts";
import type { Plan } from "./plan.ts";
import { Registry } from "./registry.ts";
import { Process, type Simulation } from "./simulation.ts";
import { watchedLeases } from "./watched-leases.ts";
import { attemptIn, type Build, startWorker, type Worker } from "./worker.ts";

const POLL_INTERVAL_MS = 1000;
const NEVER_MS = 1e9;
export const REGIONS = ["us-east-1", "us-west-2"] as const;

/** One for all schedules: its tables take longer to create than a schedule takes. */
const database = new Database(":memory:", { strict: true });

/** A program, which is started again after it was killed. */
export class Program<Parts> {
  process: Process;
  parts: Parts;
  #starts = 1;

  constructor(
    readonly name: string,
    readonly address: string,
    private readonly simulation: Simulation,
    private readonly start: (process: Process, starts: number) => Parts,
  ) {
    this.process = new Process(name);
    this.parts = simulation.run(this.process, () => start(this.process, 1));
  }

  restart(): void {
    this.#starts += 1;
    this.process = new Process(this.name);
    this.parts = this.simulation.run(this.process, () => this.start(this.process, this.#starts));
  }
}

/** Those of one process are notified together. */
type ProcessListeners = Map<Process, readonly (() => void)[]>;

export class Cluster {
  readonly network: Network;
  readonly broker: Broker;
  readonly journal: Journal;
  readonly invariants: Invariants;
  readonly orchestrators: readonly Program<Orchestrator>[];
  readonly workers: readonly Program<Worker>[];
  /** What broke a guarantee, in the order of its discovery. */
  readonly problems: string[] = [];
  readonly #choices: Choices;
  readonly #leases: Leases;
  readonly #leaseStore: Store;
  readonly #changeListeners: ProcessListeners = new Map();
  readonly #registrationListeners: ProcessListeners = new Map();
  readonly #records: SqliteJobRecords;
  readonly #recordStore: Store;
  readonly #registry: Registry;

  constructor(
    private readonly plan: Plan,
    private readonly simulation: Simulation,
    isWritten: boolean,
  ) {
    emptyDatabase();
    this.#choices = new Choices(plan.choices);
    this.journal = new Journal(simulation, (problem) => this.report(problem), isWritten);
    this.network = new Network(simulation, this.#choices);
    const logger = this.journal.logger();
    const announceReturnedAfterMs = plan.isPolled ? undefined : POLL_INTERVAL_MS;
    const events = this.#brokerEvents();
    this.broker = new Broker(this.#store("broker"), database, events, logger, announceReturnedAfterMs);
    this.invariants = new Invariants({
      nowMs: () => simulation.nowMs,
      messagesOf: (jobId) => this.broker.messagesOf(jobId),
      report: (problem) => this.report(problem),
    });
    this.#registry = new Registry(this.#store("registry"), ({ tag, digest }) => {
      this.journal.note(`tag ${tag} is ${digest}`);
      this.invariants.tagged(tag, attemptIn(digest), digest);
    });
    this.#recordStore = this.#store("records");
    this.#records = new SqliteJobRecords({ database, jobMemoryMs: SETTINGS.jobMemoryMs });
    this.#leaseStore = this.#store("leases");
    this.#leases = new InProcessLeases({ ...SETTINGS, settleMs: 0, logger, nowMs: () => simulation.nowMs });
    this.#startStores();
    this.orchestrators = [...Array(plan.orchestrators).keys()].map((index) => this.#orchestrator(index));
    this.workers = plan.workers.map((slots, index) => this.#worker(index, slots));
  }

  report(problem: string): void {
    this.journal.note(`BROKEN: ${problem}`);
    this.problems.push(problem);
  }

  /** Undefined: these jobs have their results, and no message, run, claim or cancellation is left. */
  async unrest(jobIds: readonly string[]): Promise<string | undefined> {
    const unfinished = jobIds.filter((jobId) => !this.invariants.resultOf(jobId));
    if (unfinished.length > 0) return `no result of ${unfinished.join(" and ")}`;
    if (this.broker.messages() > 0) return `${this.broker.messages()} messages are left`;
    const held = this.workers.flatMap(({ parts }) => parts.runs.held());
    if (held.length > 0) return `runs are left: ${JSON.stringify(held)}`;
    const cancelling = await this.#leases.cancelling();
    if (cancelling.length > 0) return `cancellations are left: ${JSON.stringify(cancelling)}`;
    const slots = this.plan.workers.reduce((sum, each) => sum + each, 0);
    const free = (await this.#leases.freeSlots()).reduce((sum, group) => sum + group.free, 0);
    return free === slots ? undefined : `${free} of ${slots} slots are free`;
  }

  #store(name: string): Store {
    return new Store(this.simulation, this.#choices, name, (problem) => this.report(problem));
  }

  #startStores(): void {
    const { simulation } = this;
    simulation.run(this.broker.store.process, () => this.broker.start());
    simulation.run(this.#leaseStore.process, () => this.#leases.start());
    this.#records.start();
    this.#leases.onChange(() => this.#notify(this.#changeListeners));
    this.#leases.onRegistered(() => this.#notify(this.#registrationListeners));
  }

  #notify(listeners: ProcessListeners): void {
    for (const [process, all] of listeners)
      this.simulation.post(this.#choices.fate().requestMs, process, () => {
        for (const listener of all) listener();
      });
  }

  #brokerEvents() {
    return {
      published: (result: Parameters<Invariants["published"]>[0]) => {
        this.journal.note(`result ${result.job_id} ${result.status} of attempt ${result.attempt}`);
        this.invariants.published(result);
      },
      acked: (jobId: string) => this.invariants.acked(jobId),
    };
  }

  #orchestrator(index: number): Program<Orchestrator> {
    const address = orchestratorAddress(index);
    const watched = watchedLeases(this.#leases, this.invariants);
    const { isPolled } = this.plan;
    const noLease = isPolled ? () => new LeasesUnavailable("no answer") : undefined;
    const noRecord = isPolled ? () => new RecordsUnavailable("no answer") : undefined;
    return new Program(`o${index + 1}`, address, this.simulation, (process) => {
      process.onEnd(() => {
        this.#changeListeners.delete(process);
        this.#registrationListeners.delete(process);
      });
      return startOrchestrator({
        address,
        network: this.network,
        connection: this.broker.connect(process),
        leases: throughCalls(this.#leaseStore, watched, noLease, {
          onChange: (listener) => listen(this.#changeListeners, process, listener),
          onRegistered: (listener) => listen(this.#registrationListeners, process, listener),
        }),
        records: throughCalls(this.#recordStore, this.#records, noRecord, {}),
        logger: this.journal.logger(),
        pollIntervalMs: isPolled ? POLL_INTERVAL_MS : NEVER_MS,
      });
    });
  }

  #worker(index: number, slots: number): Program<Worker> {
    const workerId = `w${index + 1}`;
    const address = `10.0.1.${index + 1}:6000`;
    return new Program(workerId, address, this.simulation, (process, starts) =>
      startWorker({
        process,
        workerId,
        incarnation: `${workerId}.${starts}`,
        region: REGIONS[index] ?? REGIONS[0],
        address,
        slots,
        orchestratorAddresses: [...Array(this.plan.orchestrators).keys()].map(orchestratorAddress),
        network: this.network,
        registry: this.#registry,
        invariants: this.invariants,
        logger: this.journal.logger(),
        buildOf: (jobId) => this.#buildOf(jobId),
      }),
    );
  }

  #buildOf(jobId: string): Build {
    const index = this.plan.jobs.findIndex((_, each) => nameOf(each) === jobId);
    const build = this.plan.jobs[index];
    if (!build) throw new Error(`job ${jobId} is not planned`);
    return build;
  }
}

function listen(listeners: ProcessListeners, process: Process, listener: () => void): void {
  listeners.set(process, [...(listeners.get(process) ?? []), listener]);
}

export function nameOf(jobIndex: number): string {
  return `j${jobIndex + 1}`;
}

function orchestratorAddress(index: number): string {
  return `10.0.0.${index + 1}:5051`;
}

function emptyDatabase(): void {
  database.run("PRAGMA foreign_keys = OFF");
  const tables = database
    .query<{ name: string }, []>(
      "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'",
    )
    .all();
  for (const { name } of tables) database.run(`DELETE FROM ${name}`);
}
