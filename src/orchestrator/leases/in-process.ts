/** Leases in this process's memory, by the rules of scripts/common.lua. */
import type { RunRef } from "../../shared/job.ts";
import { covers } from "./capabilities.ts";
import {
  type CancelledJob,
  type Claim,
  type ClaimOutcome,
  type ClaimRequest,
  type JobAtCancel,
  type Leases,
  LeasesUnavailable,
  type Observation,
  type SlotGroup,
  unproven,
  type WorkerRegistration,
  type WorkerStatus,
  type WorkerView,
} from "./leases.ts";

const FORGET_WORKER_MS = 60 * 60 * 1000;
const FORGET_INCAPABLE_MS = 60 * 60 * 1000;
const FORGET_WARM_MS = 7 * 24 * 60 * 60 * 1000;

interface Worker extends Omit<WorkerRegistration, "runs"> {
  status: Observation["status"];
  refusal: string | undefined;
  isSuspect: boolean;
  lastSeen: Date;
  leaseUntilMs: number;
  /** The higher, the more recently it had a job. */
  used: number;
}

interface TimedClaim {
  readonly claim: Claim;
  untilMs: number;
}

interface Attempts {
  /** The highest attempt known. */
  last: number;
  /** The highest attempt released. */
  done: number;
  forgetAtMs: number;
}

interface Cancellation {
  readonly reason: string;
  hasEnded: boolean;
  readonly forgetAtMs: number;
}

interface Incapable {
  readonly sinceMs: number;
  readonly forgetAtMs: number;
}

/** Who built something last. */
interface Warm {
  /** Worker id -> its `used` then. */
  readonly byWorker: ReadonlyMap<string, number>;
  readonly forgetAtMs: number;
}

export interface InProcessLeasesOptions {
  readonly leaseTtlMs: number;
  /** Attempt numbers are remembered this long after a job's last claim. */
  readonly jobMemoryMs: number;
  /** See `ClaimRequest.mayBeRunning`. 0 when the workers start and end with this process. */
  readonly settleMs: number;
  /** A monotonic clock; default `performance.now`. */
  readonly nowMs?: () => number;
}

export class InProcessLeases implements Leases {
  readonly #workers = new Map<string, Worker>();
  readonly #claims = new Map<string, TimedClaim>();
  readonly #attempts = new Map<string, Attempts>();
  /** Attempts by job that nothing is known of but their worker's word. */
  readonly #unproven = new Map<string, number>();
  readonly #cancellations = new Map<string, Cancellation>();
  /** By job id. */
  readonly #incapable = new Map<string, Incapable>();
  /** By `ClaimRequest.source`. */
  readonly #warm = new Map<string, Warm>();
  readonly #listeners: (() => void)[] = [];
  readonly #nowMs: () => number;
  readonly #sinceMs: number;
  #usedAtMs: number;
  #uses = 0;
  #started = false;

  constructor(private readonly options: InProcessLeasesOptions) {
    this.#nowMs = options.nowMs ?? (() => performance.now());
    this.#sinceMs = this.#nowMs();
    this.#usedAtMs = this.#sinceMs;
  }

  start(): void {
    this.#started = true;
  }

  get isReady(): boolean {
    return this.#started;
  }

  async register(registration: WorkerRegistration): Promise<"registered" | "id-in-use"> {
    this.#assertReady();
    const { runs, ...rest } = registration;
    const known = this.#workers.get(rest.workerId);
    const isSame = known?.incarnation === rest.incarnation;
    if (known && !isSame && this.#isAlive(known)) return "id-in-use";
    const worker: Worker = {
      ...rest,
      status: isSame ? known.status : "FREE",
      refusal: isSame ? known.refusal : undefined,
      isSuspect: false,
      lastSeen: new Date(),
      leaseUntilMs: this.#nowMs() + this.options.leaseTtlMs,
      used: isSame ? known.used : ++this.#uses,
    };
    this.#workers.set(worker.workerId, worker);
    for (const run of runs) this.#holdRun(worker, run);
    this.#forgetWhatIsOver();
    this.#announceChange();
    return "registered";
  }

  async deregister(workerId: string, incarnation: string): Promise<void> {
    const worker = this.#find(workerId, incarnation);
    if (!worker) return;
    for (const { claim } of this.#claimsOf(worker)) this.#claims.delete(claim.jobId);
    this.#workers.delete(workerId);
    this.#announceChange();
  }

  async observe(
    workerId: string,
    incarnation: string,
    { status, runs, refusal }: Observation,
  ): Promise<readonly RunRef[] | undefined> {
    const worker = this.#find(workerId, incarnation);
    if (!worker) return undefined;
    const wasSchedulable = this.#isSchedulable(worker);
    worker.status = status;
    worker.refusal = refusal;
    worker.isSuspect = false;
    worker.lastSeen = new Date();
    worker.leaseUntilMs = this.#nowMs() + this.options.leaseTtlMs;
    const stale = runs.filter((run) => !this.#holdRun(worker, run));
    if (!wasSchedulable && this.#isSchedulable(worker)) this.#announceChange();
    return stale;
  }

  async suspect(workerId: string, incarnation: string): Promise<void> {
    const worker = this.#find(workerId, incarnation);
    if (worker) worker.isSuspect = true;
  }

  async workers(): Promise<readonly WorkerView[]> {
    this.#assertReady();
    this.#forgetWhatIsOver();
    return [...this.#workers.values()].map((worker) => {
      const { workerId, incarnation, region, address, slots, version, capabilities, refusal, lastSeen } =
        worker;
      const jobs = this.#claimsOf(worker).map(({ claim }) => claim.jobId);
      const status = this.#statusOf(worker, jobs.length);
      const described = { workerId, incarnation, region, address, slots, version, capabilities };
      return { ...described, status, jobs, refusal, lastSeen };
    });
  }

  async freeSlots(): Promise<readonly SlotGroup[]> {
    this.#assertReady();
    const groups = new Map<string, SlotGroup>();
    for (const worker of this.#workers.values()) {
      const free = this.#isSchedulable(worker) ? this.#freeSlotsOf(worker) : 0;
      if (free === 0) continue;
      const { region, capabilities } = worker;
      const name = `${region} ${capabilities.join(",")}`;
      groups.set(name, { region, capabilities, free: free + (groups.get(name)?.free ?? 0) });
    }
    return [...groups.values()];
  }

  async claim(request: ClaimRequest): Promise<ClaimOutcome> {
    const { jobId, source, mayBeRunning = false, attempts = 0, avoidWorkerId } = request;
    this.#assertReady();
    const held = this.#claimOf(jobId);
    if (held) {
      this.#unproven.delete(jobId);
      return { kind: "held", claim: held };
    }
    if (mayBeRunning && this.#isSettling()) return { kind: "none" };
    const ended = Math.max(this.#attemptsOf(jobId).last, attempts);
    const reason = this.#cancellationOf(jobId);
    if (reason !== undefined) return { kind: "cancelled", reason, attempts: ended };
    const worker = this.#bestOfRegions(request, avoidWorkerId) ?? this.#bestOfRegions(request, undefined);
    if (!worker && this.#isIncapable(request)) {
      return { kind: "incapable", forMs: this.#incapableForMs(jobId), attempts: ended };
    }
    this.#incapable.delete(jobId);
    if (!worker) return { kind: "none" };
    worker.used = ++this.#uses;
    this.#unproven.delete(jobId);
    if (source !== undefined) this.#noteWarm(source, worker);
    return { kind: "claimed", claim: this.#putClaim(worker, { jobId, attempt: ended + 1 }) };
  }

  async cancel(jobId: string, reason: string): Promise<JobAtCancel> {
    this.#assertReady();
    const known = this.#cancellationOf(jobId);
    const forgetAtMs = this.#nowMs() + this.options.jobMemoryMs;
    if (known === undefined) this.#cancellations.set(jobId, { reason, hasEnded: false, forgetAtMs });
    this.#announceChange();
    const claim = this.#claimOf(jobId);
    if (claim) return { kind: "claimed", claim };
    if (this.#isSettling()) return { kind: "unknown" };
    return { kind: "unclaimed", attempts: this.#attemptsOf(jobId).last };
  }

  async cancellation(jobId: string): Promise<string | undefined> {
    this.#assertReady();
    return this.#cancellationOf(jobId);
  }

  async cancelling(): Promise<readonly CancelledJob[]> {
    this.#assertReady();
    this.#forgetWhatIsOver();
    const underWay = [...this.#cancellations].filter(([, { hasEnded }]) => !hasEnded);
    return underWay.map(([jobId, { reason }]) => ({ jobId, reason }));
  }

  async cancelEnded(jobId: string): Promise<void> {
    this.#assertReady();
    const cancellation = this.#cancellations.get(jobId);
    if (cancellation) cancellation.hasEnded = true;
  }

  async find(jobId: string): Promise<Claim | undefined> {
    this.#assertReady();
    return this.#claimOf(jobId);
  }

  async holds(claim: Claim): Promise<boolean> {
    this.#assertReady();
    const current = this.#claimOf(claim.jobId);
    if (current) return isSameClaim(current, claim);
    const { last, done } = this.#attemptsOf(claim.jobId);
    return claim.attempt >= last && claim.attempt > done && this.#isSettling();
  }

  async confirm(run: RunRef, workerId: string, incarnation: string): Promise<number | undefined> {
    this.#assertReady();
    if (this.#cancellationOf(run.jobId) !== undefined) return undefined;
    const worker = this.#workers.get(workerId);
    if (worker?.incarnation === incarnation) {
      if (!this.#holdRun(worker, run)) return undefined;
      if (this.#unproven.get(run.jobId) === run.attempt) throw unproven(run);
      return this.options.leaseTtlMs;
    }
    if (worker || !this.#isOpenTo(run)) return undefined;
    throw new LeasesUnavailable(`worker ${workerId} is not registered, so nothing is known of its runs`);
  }

  async release(claim: Claim): Promise<void> {
    this.#end(claim, ({ last, done }, attempt) => {
      // A ping on its way may still report the run; it must not get the claim back.
      this.#rememberAttempts(claim.jobId, Math.max(last, attempt), Math.max(done, attempt));
    });
  }

  async retract(claim: Claim): Promise<void> {
    this.#end(claim, ({ last, done }, attempt) => {
      if (last === attempt && done < attempt) this.#rememberAttempts(claim.jobId, attempt - 1, done);
    });
  }

  #end(claim: Claim, remember: (known: { last: number; done: number }, attempt: number) => void): void {
    this.#assertReady();
    const { jobId, attempt, workerId, incarnation } = claim;
    const current = this.#claimOf(jobId);
    if (current && !isSameClaim(current, claim)) return;
    this.#claims.delete(jobId);
    remember(this.#attemptsOf(jobId), attempt);
    const worker = this.#find(workerId, incarnation);
    if (worker) {
      // What the last ping said is older than this. If it is busy all the same, it refuses the next job.
      if (worker.status === "BUSY" && worker.refusal === undefined) worker.status = "FREE";
      worker.used = ++this.#uses;
    }
    this.#forgetWhatIsOver();
    this.#announceChange();
  }

  onChange(listener: () => void): void {
    this.#listeners.push(listener);
  }

  async close(): Promise<void> {
    this.#started = false;
  }

  #assertReady(): void {
    if (!this.#started) throw new LeasesUnavailable("the leases are not started, or closed");
    this.#bridgeStandstill();
  }

  /**
   * Somebody asks every few moments; when nobody did for a lease time, this process has stood still, and its workers could
   * not be heard.
   */
  #bridgeStandstill(): void {
    const silentMs = this.#nowMs() - this.#usedAtMs;
    this.#usedAtMs = this.#nowMs();
    if (silentMs < this.options.leaseTtlMs) return;
    for (const worker of this.#workers.values()) worker.leaseUntilMs += silentMs;
    for (const claim of this.#claims.values()) claim.untilMs += silentMs;
  }

  #find(workerId: string, incarnation: string): Worker | undefined {
    this.#assertReady();
    const worker = this.#workers.get(workerId);
    return worker?.incarnation === incarnation ? worker : undefined;
  }

  #claimOf(jobId: string): Claim | undefined {
    const timed = this.#claims.get(jobId);
    return timed && timed.untilMs > this.#nowMs() ? timed.claim : undefined;
  }

  #claimsOf(worker: Worker): TimedClaim[] {
    return [...this.#claims.values()].filter(
      ({ claim, untilMs }) =>
        untilMs > this.#nowMs() &&
        claim.workerId === worker.workerId &&
        claim.incarnation === worker.incarnation,
    );
  }

  #isAlive(worker: Worker): boolean {
    return worker.leaseUntilMs > this.#nowMs();
  }

  #isSchedulable(worker: Worker): boolean {
    return this.#isAlive(worker) && !worker.isSuspect && worker.status === "FREE";
  }

  #statusOf(worker: Worker, claims: number): WorkerStatus {
    if (worker.isSuspect || !this.#isAlive(worker)) return "LOST";
    if (worker.status === "DRAINING") return "DRAINING";
    return worker.status === "BUSY" || claims >= worker.slots ? "BUSY" : "FREE";
  }

  #freeSlotsOf(worker: Worker): number {
    return worker.slots - this.#claimsOf(worker).length;
  }

  #bestOfRegions(request: ClaimRequest, excludedId: string | undefined): Worker | undefined {
    for (const region of request.regions) {
      const worker = this.#bestWorker(region, request, excludedId);
      if (worker) return worker;
    }
    return undefined;
  }

  /** Most free slots first, then the one that built this last, then the one that has been without a new job for longest. */
  #bestWorker(
    region: string,
    { needs = [], source }: ClaimRequest,
    excludedId: string | undefined,
  ): Worker | undefined {
    const warm = source === undefined ? undefined : this.#warm.get(source)?.byWorker;
    const candidates = [...this.#workers.values()]
      .filter(
        (worker) => worker.region === region && worker.workerId !== excludedId && this.#isSchedulable(worker),
      )
      .filter((worker) => covers(worker.capabilities, needs))
      .map((worker) => ({
        worker,
        free: this.#freeSlotsOf(worker),
        warmth: warm?.get(worker.workerId) ?? 0,
      }))
      .filter(({ free }) => free > 0)
      .toSorted(
        (one, other) =>
          other.free - one.free || other.warmth - one.warmth || one.worker.used - other.worker.used,
      );
    return candidates[0]?.worker;
  }

  /** There are workers, and none that could build it if it were free. */
  #isIncapable({ regions, needs = [] }: ClaimRequest): boolean {
    const there = [...this.#workers.values()].filter(
      (worker) => this.#isAlive(worker) && regions.includes(worker.region),
    );
    return there.length > 0 && !there.some(({ capabilities }) => covers(capabilities, needs));
  }

  #incapableForMs(jobId: string): number {
    const nowMs = this.#nowMs();
    const { sinceMs } = this.#incapable.get(jobId) ?? { sinceMs: nowMs };
    this.#incapable.set(jobId, { sinceMs, forgetAtMs: nowMs + FORGET_INCAPABLE_MS });
    return nowMs - sinceMs;
  }

  #noteWarm(source: string, { workerId, used }: Worker): void {
    const byWorker = new Map([...(this.#warm.get(source)?.byWorker ?? []), [workerId, used] as const]);
    this.#warm.set(source, { byWorker, forgetAtMs: this.#nowMs() + FORGET_WARM_MS });
  }

  #putClaim(worker: Worker, { jobId, attempt }: RunRef): Claim {
    const { workerId, incarnation, address } = worker;
    const claim = { jobId, attempt, workerId, incarnation, address };
    this.#claims.set(jobId, { claim, untilMs: this.#nowMs() + this.options.leaseTtlMs });
    const { last, done } = this.#attemptsOf(jobId);
    this.#rememberAttempts(jobId, Math.max(last, attempt), done);
    return claim;
  }

  /** As in scripts/common.lua: true when the run has the claim. */
  #holdRun(worker: Worker, run: RunRef): boolean {
    const { workerId, incarnation } = worker;
    const current = this.#claimOf(run.jobId);
    const isHeld = current !== undefined && isSameClaim(current, { ...run, workerId, incarnation });
    if (!isHeld && !this.#isOpenTo(run)) return false;
    if (!isHeld && this.#attemptsOf(run.jobId).last === 0) this.#unproven.set(run.jobId, run.attempt);
    this.#putClaim(worker, run);
    return true;
  }

  /** Nobody else has the job under this attempt or a higher one, it was not cancelled, nor this attempt released. */
  #isOpenTo({ jobId, attempt }: RunRef): boolean {
    if (this.#cancellationOf(jobId) !== undefined) return false;
    const current = this.#claimOf(jobId);
    if (current && current.attempt >= attempt) return false;
    const { last, done } = this.#attemptsOf(jobId);
    return attempt >= last && attempt > done;
  }

  #isSettling(): boolean {
    return this.#nowMs() < this.#sinceMs + this.options.settleMs;
  }

  #cancellationOf(jobId: string): string | undefined {
    const known = this.#cancellations.get(jobId);
    return known && known.forgetAtMs > this.#nowMs() ? known.reason : undefined;
  }

  #attemptsOf(jobId: string): { last: number; done: number } {
    return this.#attempts.get(jobId) ?? { last: 0, done: 0 };
  }

  #rememberAttempts(jobId: string, last: number, done: number): void {
    const { jobMemoryMs, leaseTtlMs } = this.options;
    this.#attempts.set(jobId, { last, done, forgetAtMs: this.#nowMs() + Math.max(jobMemoryMs, leaseTtlMs) });
  }

  #forgetWhatIsOver(): void {
    for (const [workerId, { lastSeen }] of this.#workers) {
      if (Date.now() - lastSeen.getTime() > FORGET_WORKER_MS) this.#workers.delete(workerId);
    }
    for (const [jobId, { untilMs }] of this.#claims) if (untilMs <= this.#nowMs()) this.#claims.delete(jobId);
    for (const memory of [this.#attempts, this.#cancellations, this.#incapable, this.#warm])
      for (const [key, { forgetAtMs }] of memory) if (forgetAtMs <= this.#nowMs()) memory.delete(key);
    for (const jobId of this.#unproven.keys()) if (!this.#attempts.has(jobId)) this.#unproven.delete(jobId);
  }

  #announceChange(): void {
    for (const listener of this.#listeners) listener();
  }
}

function isSameClaim(one: Claim, other: Omit<Claim, "address">): boolean {
  return (
    one.workerId === other.workerId && one.incarnation === other.incarnation && one.attempt === other.attempt
  );
}
