/** Leases in the memory of this process. The rules are those of scripts/common.lua. */
import type { RunRef } from "../../shared/job.ts";
import { Listeners } from "../../shared/listeners.ts";
import type { Logger } from "../../shared/logging.ts";
import { covers } from "./capabilities.ts";
import type { Control, ControlOrder, ControlOutcome, ControlTarget } from "./control.ts";
import { ControlMemory } from "./control-memory.ts";
import { withControls } from "./controlled-view.ts";
import { type Attempts, JobMemory } from "./job-memory.ts";
import {
  type CancelledJob,
  type Claim,
  type ClaimOutcome,
  type ClaimRequest,
  type Fence,
  type JobAtCancel,
  type Leases,
  LeasesUnavailable,
  type Observation,
  type RegisterOutcome,
  type SlotGroup,
  unproven,
  unregistered,
  type WorkerRegistration,
  type WorkerView,
} from "./leases.ts";
import { type Worker, WorkerTable } from "./worker-table.ts";

interface TimedClaim {
  readonly claim: Claim;
  /** Undefined for a claim that was restored from a worker's report. */
  readonly since: Date | undefined;
  untilMs: number;
}

const TOUCHES_PER_LEASE = 10;

export interface InProcessLeasesOptions {
  readonly leaseTtlMs: number;
  /** Attempt numbers are remembered this long after a job's last claim. */
  readonly jobMemoryMs: number;
  /** See `ClaimRequest.mayBeRunning`. 0 when the workers start and end with this process. */
  readonly settleMs: number;
  readonly logger: Logger;
  /** A monotonic clock; default `performance.now`. */
  readonly nowMs?: () => number;
}

export class InProcessLeases implements Leases {
  readonly #workers: WorkerTable;
  readonly #jobs: JobMemory;
  readonly #controls = new ControlMemory();
  readonly #claims = new Map<string, TimedClaim>();
  readonly #changes: Listeners;
  readonly #registrations: Listeners;
  readonly #nowMs: () => number;
  readonly #sinceMs: number;
  #lastCallAtMs: number;
  #started = false;
  #touching: NodeJS.Timeout | undefined;

  constructor(private readonly options: InProcessLeasesOptions) {
    const { leaseTtlMs, jobMemoryMs, nowMs = () => performance.now() } = options;
    this.#nowMs = nowMs;
    this.#workers = new WorkerTable(leaseTtlMs, nowMs, this.#controls);
    this.#jobs = new JobMemory({ jobMemoryMs, leaseTtlMs, nowMs });
    const onError = (error: unknown) => options.logger.error({ err: error }, "lease change listener failed");
    this.#changes = new Listeners(onError);
    this.#registrations = new Listeners(onError);
    this.#sinceMs = this.#nowMs();
    this.#lastCallAtMs = this.#sinceMs;
  }

  start(): void {
    this.#started = true;
    this.#touching = setInterval(() => this.#ignoreSuspension(), this.options.leaseTtlMs / TOUCHES_PER_LEASE);
  }

  get isReady(): boolean {
    return this.#started;
  }

  async register(registration: WorkerRegistration): Promise<RegisterOutcome> {
    this.#assertReady();
    const { runs, ...rest } = registration;
    const worker = this.#workers.register(rest);
    if (typeof worker === "string") return worker;
    if ("addressOf" in worker) return worker;
    for (const run of runs) this.#holdRun(worker, run);
    this.#forgetExpired();
    this.#changes.notify();
    this.#registrations.notify();
    return "registered";
  }

  async deregister(workerId: string, incarnation: string): Promise<void> {
    const worker = this.#find(workerId, incarnation);
    if (!worker) return;
    for (const { claim } of this.#claimsOf(worker)) this.#claims.delete(claim.jobId);
    this.#workers.remove(workerId);
    this.#changes.notify();
  }

  async observe(
    workerId: string,
    incarnation: string,
    { status, runs, refusal, load }: Observation,
  ): Promise<readonly RunRef[] | undefined> {
    const worker = this.#find(workerId, incarnation);
    if (!worker) return undefined;
    const wasSchedulable = this.#workers.isSchedulable(worker);
    this.#workers.observe(worker, { status, refusal, load });
    const stale = runs.filter((run) => !this.#holdRun(worker, run));
    if (!wasSchedulable && this.#workers.isSchedulable(worker)) this.#changes.notify();
    return stale;
  }

  async suspect(workerId: string, incarnation: string): Promise<void> {
    const worker = this.#find(workerId, incarnation);
    if (worker) this.#workers.suspect(worker);
  }

  async control(target: ControlTarget, order: ControlOrder): Promise<ControlOutcome> {
    this.#assertReady();
    const isKnown = target.kind === "region" || this.#workers.get(target.name) || this.#controls.get(target);
    if (!isKnown) return { kind: "unknown" };
    this.#controls.set(target, order);
    this.#changes.notify();
    return { kind: "done", control: this.#controls.get(target), lasts: "until-exit" };
  }

  async drainedRegions(): Promise<ReadonlyMap<string, Control>> {
    this.#assertReady();
    return this.#controls.drainedRegions();
  }

  async workers(): Promise<readonly WorkerView[]> {
    this.#assertReady();
    this.#forgetExpired();
    return this.#workers.all().map((worker) => this.#viewOf(worker));
  }

  #viewOf(worker: Worker): WorkerView {
    const { status: _, lastPing: __, leaseUntilMs: ___, used: ____, refusal, ...described } = worker;
    const claims = this.#claimsOf(worker);
    return {
      ...described,
      ...withControls({
        status: this.#workers.statusOf(worker, claims.length),
        refusal,
        ofWorker: this.#controls.get({ kind: "worker", name: worker.workerId }),
        ofRegion: this.#controls.get({ kind: "region", name: worker.region }),
      }),
      hasLease: this.#workers.isAlive(worker),
      isReached: this.#workers.isReached(worker),
      jobs: claims.map(({ claim }) => claim.jobId),
      runs: claims.map(({ claim: { jobId, attempt }, since }) => ({ jobId, attempt, since })),
    };
  }

  async freeSlots(): Promise<readonly SlotGroup[]> {
    this.#assertReady();
    const groups = new Map<string, SlotGroup>();
    for (const worker of this.#workers.all()) {
      const free = this.#workers.isSchedulable(worker) ? this.#freeSlotsOf(worker) : 0;
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
      this.#jobs.prove(jobId);
      this.#jobs.markBegun(held);
      return { kind: "held", claim: held };
    }
    if (mayBeRunning && this.#isSettling()) return { kind: "none" };
    const ended = Math.max(this.#jobs.attemptsOf(jobId).last, attempts);
    const reason = this.#jobs.cancellationOf(jobId);
    if (reason !== undefined) return { kind: "cancelled", reason, attempts: ended };
    const worker = this.#bestOfRegions(request, avoidWorkerId) ?? this.#bestOfRegions(request, undefined);
    if (!worker && this.#isIncapable(request)) {
      return { kind: "incapable", forMs: this.#jobs.noteIncapable(jobId), attempts: ended };
    }
    this.#jobs.forgetIncapable(jobId);
    if (!worker) return { kind: "none" };
    this.#workers.markUsed(worker);
    this.#jobs.prove(jobId);
    const hasBuiltSource = source !== undefined && this.#jobs.warmWorkers(source).has(worker.workerId);
    if (source !== undefined) this.#jobs.noteWarm(source, worker.workerId, worker.used);
    const choice = { region: worker.region, hasBuiltSource };
    const claim = this.#putClaim(worker, { jobId, attempt: ended + 1 }, new Date());
    return { kind: "claimed", choice, claim };
  }

  async cancel(jobId: string, reason: string): Promise<JobAtCancel> {
    this.#assertReady();
    this.#jobs.cancel(jobId, reason);
    this.#changes.notify();
    const claim = this.#claimOf(jobId);
    if (claim) return { kind: "claimed", claim };
    if (this.#isSettling()) return { kind: "unknown" };
    return { kind: "unclaimed", attempts: this.#jobs.attemptsOf(jobId).last };
  }

  async cancellation(jobId: string): Promise<string | undefined> {
    this.#assertReady();
    return this.#jobs.cancellationOf(jobId);
  }

  async cancelling(): Promise<readonly CancelledJob[]> {
    this.#assertReady();
    this.#forgetExpired();
    return this.#jobs.cancelling();
  }

  async cancelEnded(jobId: string): Promise<void> {
    this.#assertReady();
    this.#jobs.cancelEnded(jobId);
  }

  async find(jobId: string): Promise<Claim | undefined> {
    this.#assertReady();
    return this.#claimOf(jobId);
  }

  async fence(claim: Claim, { evenIfAlive = false } = {}): Promise<Fence> {
    this.#assertReady();
    const { jobId, attempt } = claim;
    const current = this.#claimOf(jobId);
    if (current && !isSameClaim(current, claim)) return { kind: "fenced", confirmedForMs: 0 };
    const { last, done } = this.#jobs.attemptsOf(jobId);
    const isOver = attempt < last || attempt <= done;
    if (!isOver && !evenIfAlive && (current || this.#isSettling())) return { kind: "alive" };
    if (!isOver) this.#jobs.rememberAttempts(jobId, { last: Math.max(last, attempt), done: attempt });
    const untilMs = current ? (this.#claims.get(jobId)?.untilMs ?? 0) : 0;
    return { kind: "fenced", confirmedForMs: Math.max(0, untilMs - this.#nowMs()) };
  }

  async confirm(run: RunRef, workerId: string, incarnation: string): Promise<number | undefined> {
    this.#assertReady();
    if (this.#jobs.cancellationOf(run.jobId) !== undefined) return undefined;
    const worker = this.#workers.get(workerId);
    if (worker?.incarnation === incarnation) {
      if (!this.#holdRun(worker, run)) return undefined;
      if (this.#jobs.isUnproven(run)) throw unproven(run);
      return this.options.leaseTtlMs;
    }
    if (worker || !this.#isOpenTo(run)) return undefined;
    throw unregistered(workerId);
  }

  async release(claim: Claim): Promise<void> {
    this.#end(claim, ({ last, done }, attempt) => {
      // A ping in flight may still report the run, which must not get the claim back.
      this.#jobs.rememberAttempts(claim.jobId, {
        last: Math.max(last, attempt),
        done: Math.max(done, attempt),
      });
    });
  }

  async retract(claim: Claim): Promise<void> {
    this.#end(claim, ({ last, done }, attempt) => {
      if (last === attempt && done < attempt)
        this.#jobs.rememberAttempts(claim.jobId, { last: attempt - 1, done });
    });
  }

  async retractUnsent(claim: Claim): Promise<boolean> {
    this.#assertReady();
    const current = this.#claimOf(claim.jobId);
    const { last, done } = this.#jobs.attemptsOf(claim.jobId);
    const isLast =
      last === claim.attempt && done < claim.attempt && !(current && !isSameClaim(current, claim));
    if (!isLast || this.#jobs.mayHaveBegun(claim)) return false;
    await this.retract(claim);
    return true;
  }

  #end(claim: Claim, remember: (known: Attempts, attempt: number) => void): void {
    this.#assertReady();
    const { jobId, attempt, workerId, incarnation } = claim;
    const current = this.#claimOf(jobId);
    if (current && !isSameClaim(current, claim)) return;
    this.#claims.delete(jobId);
    remember(this.#jobs.attemptsOf(jobId), attempt);
    const worker = this.#find(workerId, incarnation);
    if (worker) {
      // The last ping is older than this release. If the worker is still busy, it refuses the next job.
      if (worker.status === "BUSY" && worker.refusal === undefined) worker.status = "FREE";
      this.#workers.markUsed(worker);
    }
    this.#forgetExpired();
    this.#changes.notify();
  }

  onChange(listener: () => void): void {
    this.#changes.add(listener);
  }

  onRegistered(listener: () => void): void {
    this.#registrations.add(listener);
  }

  async close(): Promise<void> {
    this.#started = false;
    clearInterval(this.#touching);
  }

  #assertReady(): void {
    if (!this.#started) throw new LeasesUnavailable("the leases have not been started, or are closed");
    this.#ignoreSuspension();
  }

  /**
   * Called several times per lease time. Half a lease time without a call means that this process was suspended and
   * could not ping its workers, so that time does not count against their leases.
   */
  #ignoreSuspension(): void {
    const suspendedMs = this.#nowMs() - this.#lastCallAtMs;
    this.#lastCallAtMs = this.#nowMs();
    if (suspendedMs < this.options.leaseTtlMs / 2) return;
    this.#workers.prolongLeases(suspendedMs);
    for (const claim of this.#claims.values()) claim.untilMs += suspendedMs;
  }

  #find(workerId: string, incarnation: string): Worker | undefined {
    this.#assertReady();
    return this.#workers.find(workerId, incarnation);
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

  /** Prefers the most free slots, then the worker that built this source last, then the one least recently used. */
  #bestWorker(
    region: string,
    { needs = [], source }: ClaimRequest,
    excludedId: string | undefined,
  ): Worker | undefined {
    const warm = source === undefined ? undefined : this.#jobs.warmWorkers(source);
    const candidates = this.#workers
      .all()
      .filter(
        (worker) =>
          worker.region === region && worker.workerId !== excludedId && this.#workers.isSchedulable(worker),
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

  /** The regions have live workers, but none that could build it even if it were free. */
  #isIncapable({ regions, needs = [] }: ClaimRequest): boolean {
    const live = this.#workers
      .all()
      .filter((worker) => this.#workers.isAlive(worker) && regions.includes(worker.region));
    return live.length > 0 && !live.some(({ capabilities }) => covers(capabilities, needs));
  }

  #putClaim(worker: Worker, { jobId, attempt }: RunRef, since: Date | undefined): Claim {
    const { workerId, incarnation, address } = worker;
    const claim = { jobId, attempt, workerId, incarnation, address };
    this.#claims.set(jobId, { claim, since, untilMs: this.#nowMs() + this.options.leaseTtlMs });
    const { last, done } = this.#jobs.attemptsOf(jobId);
    this.#jobs.rememberAttempts(jobId, { last: Math.max(last, attempt), done });
    return claim;
  }

  /** As `holdRun` in scripts/common.lua: true when the run has the claim. */
  #holdRun(worker: Worker, run: RunRef): boolean {
    const { workerId, incarnation } = worker;
    const current = this.#claimOf(run.jobId);
    if (run.attempt <= this.#jobs.attemptsOf(run.jobId).done) return false;
    const isHeld = current !== undefined && isSameClaim(current, { ...run, workerId, incarnation });
    if (!isHeld && !this.#isOpenTo(run)) return false;
    if (!isHeld && this.#jobs.attemptsOf(run.jobId).last === 0) this.#jobs.markUnproven(run);
    this.#putClaim(worker, run, isHeld ? this.#claims.get(run.jobId)?.since : undefined);
    this.#jobs.markBegun(run);
    return true;
  }

  /** No other run of the job has this attempt or a higher one, the job was not cancelled, nor this attempt released. */
  #isOpenTo({ jobId, attempt }: RunRef): boolean {
    if (this.#jobs.cancellationOf(jobId) !== undefined) return false;
    const current = this.#claimOf(jobId);
    if (current && current.attempt >= attempt) return false;
    const { last, done } = this.#jobs.attemptsOf(jobId);
    return attempt >= last && attempt > done;
  }

  #isSettling(): boolean {
    return this.#nowMs() < this.#sinceMs + this.options.settleMs;
  }

  #forgetExpired(): void {
    this.#workers.removeLongLost();
    for (const [jobId, { untilMs }] of this.#claims) if (untilMs <= this.#nowMs()) this.#claims.delete(jobId);
    this.#jobs.forgetExpired();
  }
}

function isSameClaim(one: Claim, other: Omit<Claim, "address">): boolean {
  return (
    one.workerId === other.workerId && one.incarnation === other.incarnation && one.attempt === other.attempt
  );
}
