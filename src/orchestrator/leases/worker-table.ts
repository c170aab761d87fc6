/** The workers known to InProcessLeases: registration, liveness and status. */
import type { ControlMemory } from "./control-memory.ts";
import type {
  MachineLoad,
  Observation,
  RegisterOutcome,
  WorkerRegistration,
  WorkerStatus,
} from "./leases.ts";

const FORGET_WORKER_MS = 60 * 60 * 1000;

export interface Worker extends Omit<Required<WorkerRegistration>, "runs"> {
  status: Observation["status"];
  refusal: string | undefined;
  load: MachineLoad | undefined;
  /** The orchestrator's last ping, until a lease time after it. */
  lastPing: { readonly wasAnswered: boolean; untilMs: number } | undefined;
  lastSeen: Date;
  leaseUntilMs: number;
  /** The higher, the more recently a job was assigned to the worker or ended on it. */
  used: number;
}

export class WorkerTable {
  readonly #workers = new Map<string, Worker>();
  #uses = 0;

  constructor(
    private readonly leaseTtlMs: number,
    private readonly nowMs: () => number,
    private readonly controls: Pick<ControlMemory, "isInService">,
  ) {}

  register(registration: Omit<WorkerRegistration, "runs">): Worker | Exclude<RegisterOutcome, "registered"> {
    const known = this.#workers.get(registration.workerId);
    const isSame = known?.incarnation === registration.incarnation;
    if (known && !isSame && this.isAlive(known)) return "id-in-use";
    const other = this.all().find(
      ({ workerId, address }) => address === registration.address && workerId !== registration.workerId,
    );
    // One that missed the last ping may be an earlier process at this address, which does not answer there any more.
    if (other && this.isAlive(other) && !this.#hasMissed(other)) return { addressOf: other.workerId };
    const worker: Worker = {
      labels: {},
      keepsId: false,
      ...registration,
      status: isSame ? known.status : "FREE",
      refusal: isSame ? known.refusal : undefined,
      load: isSame ? known.load : undefined,
      lastPing: isSame ? known.lastPing : undefined,
      lastSeen: new Date(),
      leaseUntilMs: this.nowMs() + this.leaseTtlMs,
      used: isSame ? known.used : ++this.#uses,
    };
    this.#workers.set(worker.workerId, worker);
    return worker;
  }

  /** Of any incarnation. */
  get(workerId: string): Worker | undefined {
    return this.#workers.get(workerId);
  }

  find(workerId: string, incarnation: string): Worker | undefined {
    const worker = this.#workers.get(workerId);
    return worker?.incarnation === incarnation ? worker : undefined;
  }

  all(): readonly Worker[] {
    return [...this.#workers.values()];
  }

  remove(workerId: string): void {
    this.#workers.delete(workerId);
  }

  /** The worker has answered a ping. */
  observe(worker: Worker, { status, refusal, load }: Omit<Observation, "runs">): void {
    worker.status = status;
    worker.refusal = refusal;
    worker.load = load;
    this.#notePing(worker, { wasAnswered: true });
    worker.lastSeen = new Date();
    worker.leaseUntilMs = this.nowMs() + this.leaseTtlMs;
  }

  /** See `Leases.suspect`. */
  suspect(worker: Worker): void {
    this.#notePing(worker, { wasAnswered: false });
  }

  /** A job was assigned to the worker, or ended on it. */
  markUsed(worker: Worker): void {
    worker.used = ++this.#uses;
  }

  isAlive(worker: Worker): boolean {
    return worker.leaseUntilMs > this.nowMs();
  }

  isSchedulable(worker: Worker): boolean {
    const isFree = this.isAlive(worker) && worker.status === "FREE" && this.isReached(worker);
    return isFree && this.controls.isInService(worker);
  }

  isReached(worker: Worker): boolean {
    return this.#isLastPing(worker, { wasAnswered: true });
  }

  statusOf(worker: Worker, claims: number): WorkerStatus {
    if (!this.isAlive(worker) || this.#hasMissed(worker)) return "LOST";
    if (worker.status === "DRAINING") return "DRAINING";
    return worker.status === "BUSY" || claims >= worker.slots ? "BUSY" : "FREE";
  }

  prolongLeases(byMs: number): void {
    for (const worker of this.#workers.values()) {
      worker.leaseUntilMs += byMs;
      if (worker.lastPing) worker.lastPing.untilMs += byMs;
    }
  }

  /** By the clock of the leases: the time of day may be set, and goes on while the machine is suspended. */
  removeLongLost(): void {
    const lostSinceMs = this.nowMs() - FORGET_WORKER_MS;
    for (const [workerId, { leaseUntilMs }] of this.#workers) {
      if (leaseUntilMs - this.leaseTtlMs < lostSinceMs) this.#workers.delete(workerId);
    }
  }

  #hasMissed(worker: Worker): boolean {
    return this.#isLastPing(worker, { wasAnswered: false });
  }

  #isLastPing({ lastPing }: Worker, { wasAnswered }: { wasAnswered: boolean }): boolean {
    return lastPing !== undefined && lastPing.wasAnswered === wasAnswered && lastPing.untilMs > this.nowMs();
  }

  #notePing(worker: Worker, { wasAnswered }: { wasAnswered: boolean }): void {
    worker.lastPing = { wasAnswered, untilMs: this.nowMs() + this.leaseTtlMs };
  }
}
