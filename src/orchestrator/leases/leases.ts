/**
 * Leases: which job may run on which worker. Every entry has a time to live and can be lost; lost entries are rebuilt
 * from registrations and pings. Redis (redis.ts) and one process's memory (in-process.ts) implement this interface,
 * and both pass tests/integration/orchestrator/leases/leases-contract.ts.
 *
 * Glossary. Worker lease: the time a worker counts as alive after its last answered ping. Region index: the workers
 * of a region. Claim: one job's right to one slot of one worker, `job -> worker, incarnation, attempt`; a claim lives
 * as long as its worker keeps reporting the run (observe), or one lease time from its creation. Reached: the worker
 * answered this orchestrator's last ping, within the lease time; each orchestrator claims only workers that it reaches.
 *
 * A claim that has ended or was lost is created again when a worker reports or confirms its run, unless the job has
 * another claim by then, has a higher attempt, was cancelled, or this attempt was released.
 */
import type { RunRef } from "../../shared/job.ts";
import type { Control, ControlOrder, ControlOutcome, ControlTarget, EffectiveControl } from "./control.ts";

export interface WorkerRegistration {
  readonly workerId: string;
  /** A new value at each start of the worker. */
  readonly incarnation: string;
  readonly region: string;
  /** `host:port` of its gRPC server. */
  readonly address: string;
  readonly slots: number;
  readonly version: string;
  /** Names as in capabilities.ts. */
  readonly capabilities: readonly string[];
  /** Chosen by the operator of the worker, and only shown; none by default. */
  readonly labels?: Readonly<Record<string, string>>;
  /** It has the same id after a restart; false by default. */
  readonly keepsId?: boolean;
  readonly runs: readonly RunRef[];
}

/** As of the worker's last answered ping. */
export interface MachineLoad {
  /** Of the last minute. */
  readonly loadAverage: number;
  readonly processors: number;
  readonly memoryBytes: number;
  readonly memoryAvailableBytes: number;
  /** Of the file system of the work folder. */
  readonly diskBytes: number;
  readonly diskFreeBytes: number;
  /** Size of the checkout cache. */
  readonly cacheBytes: number;
}

export interface ClaimedRun extends RunRef {
  /** When the worker was claimed for it; undefined after a loss of the data. */
  readonly since: Date | undefined;
}

export type RegisterOutcome =
  | "registered"
  /** Another incarnation of the worker's id has a live lease. */
  | "id-in-use"
  /** The worker of this id has the address, and has answered its last ping there. */
  | { readonly addressOf: string };

export type WorkerStatus = "FREE" | "BUSY" | "DRAINING" | "LOST";

export interface WorkerView extends Omit<Required<WorkerRegistration>, "runs"> {
  /**
   * LOST: its lease has ended, or it missed this orchestrator's last ping. BUSY: every slot is claimed or in use, or it
   * has a `refusal`. DRAINING: it is stopping, or was drained by an operator.
   */
  readonly status: WorkerStatus;
  /** Ids of the jobs that are claimed on it. */
  readonly jobs: readonly string[];
  /** The claims of these jobs. */
  readonly runs: readonly ClaimedRun[];
  /** Why it gets no new jobs although a slot may be free: its last report, or that it was paused. */
  readonly refusal: string | undefined;
  readonly control: EffectiveControl | undefined;
  /** Undefined until it has reported it. */
  readonly load: MachineLoad | undefined;
  readonly lastSeen: Date;
  /** Its lease has not ended, by the clock of the leases: `lastSeen` is not comparable with other clocks. */
  readonly hasLease: boolean;
  readonly isReached: boolean;
}

/** The free slots of a region's workers that have the same capabilities. */
export interface SlotGroup {
  readonly region: string;
  readonly capabilities: readonly string[];
  readonly free: number;
}

export interface Claim extends RunRef {
  readonly workerId: string;
  readonly incarnation: string;
  readonly address: string;
}

export interface ClaimRequest {
  readonly jobId: string;
  /** Worker regions in the order of preference. */
  readonly regions: readonly string[];
  /** The capabilities that the worker must have, named as in capabilities.ts. */
  readonly needs?: readonly string[];
  /** Key of the build's source: of workers that are equally free, the one that built this source last is preferred. */
  readonly source?: string;
  /**
   * The job's message was delivered before, so the job may be running. During the settle time (after a loss of the
   * data, the very first start, or half a lease time without any orchestrator) such a job gets "none", until every worker
   * has had time to report its runs. A job that was never delivered before need not wait.
   */
  readonly mayBeRunning?: boolean;
  /** The number of ended attempts according to the job's message; the new attempt gets a higher number. */
  readonly attempts?: number;
  /** This worker is chosen only when no other one is free. */
  readonly avoidWorkerId?: string;
}

/** What of the worker decided that it got the claim. */
export interface WorkerChoice {
  readonly region: string;
  /** It has built `ClaimRequest.source`. */
  readonly hasBuiltSource: boolean;
  /** The job's platforms were not among the needs: see platform-preference.ts. */
  readonly missesPlatforms?: true;
}

export type ClaimOutcome =
  /** A slot was free and is now this job's; the attempt is one higher than any earlier claim's of this job. */
  | { readonly kind: "claimed"; readonly claim: Claim; readonly choice: WorkerChoice }
  /** The job runs already (a redelivery): attach to it. */
  | { readonly kind: "held"; readonly claim: Claim }
  /** No live, free, reached worker in service in any of the regions can build it; or see `mayBeRunning`. */
  | { readonly kind: "none" }
  /** The regions have had live workers, but none that can build it, for `forMs`; `attempts` have ended. */
  | { readonly kind: "incapable"; readonly forMs: number; readonly attempts: number }
  /** The job can no longer be claimed; it had `attempts` claims. */
  | { readonly kind: "cancelled"; readonly reason: string; readonly attempts: number };

export type Fence =
  | { readonly kind: "alive" }
  /** The run cannot get the version's tag any more, except within a confirmation that is valid this long, in ms. */
  | { readonly kind: "fenced"; readonly confirmedForMs: number };

/** The state of a job that has just been cancelled. */
export type JobAtCancel =
  /** Its run has to be ended. */
  | { readonly kind: "claimed"; readonly claim: Claim }
  /** It does not run, and will not; it had `attempts` claims. */
  | { readonly kind: "unclaimed"; readonly attempts: number }
  /** The settle time has not passed: a worker may still report a run of it. See `ClaimRequest.mayBeRunning`. */
  | { readonly kind: "unknown" };

export interface CancelledJob {
  readonly jobId: string;
  readonly reason: string;
}

/** A worker's answer to a ping. */
export interface Observation {
  readonly status: "FREE" | "BUSY" | "DRAINING";
  readonly runs: readonly RunRef[];
  /** Why it is BUSY although a slot may be free. */
  readonly refusal?: string;
  readonly load?: MachineLoad;
}

export interface Leases {
  /** Connects, and keeps reconnecting with growing delay until `close`. Does not fail without a server. */
  start(): void;
  /** The server answers now. Every other method rejects with LeasesUnavailable while this is false. */
  readonly isReady: boolean;

  /** Registers the worker for one lease time. */
  register(worker: WorkerRegistration): Promise<RegisterOutcome>;
  /** Ends the worker's lease and its claims at once; does nothing for another incarnation. */
  deregister(workerId: string, incarnation: string): Promise<void>;
  /**
   * A ping was answered: extends the worker's lease and the claims of the runs it reports, and makes it schedulable
   * for this orchestrator. Claims are extended only for the same worker, incarnation and attempt. Returns the reported runs that are
   * stale: the job has another attempt, or has ended. Undefined: the worker is not, or no longer, known under that
   * incarnation and has to register again. BUSY holds until the worker's next release; with a refusal, until
   * the next `observe`.
   */
  observe(
    workerId: string,
    incarnation: string,
    observation: Observation,
  ): Promise<readonly RunRef[] | undefined>;
  /**
   * A ping or a call did not reach the worker, or it refused a job because no slot was free: this orchestrator does not
   * claim it until its next `observe`. Its lease, and other orchestrators, are not affected.
   */
  suspect(workerId: string, incarnation: string): Promise<void>;
  /**
   * Pauses, drains or resumes a worker, or drains or resumes a region. Once this has resolved, no orchestrator's `claim`
   * chooses a worker that is out of service, also after its restart or when it registers later. When a target is
   * paused or drained again, `since` stays unless the kind changes. See control.ts.
   */
  control(target: ControlTarget, order: ControlOrder): Promise<ControlOutcome>;
  /** By region. */
  drainedRegions(): Promise<ReadonlyMap<string, Control>>;
  /** All known workers; lost ones for an hour after their last ping. */
  workers(): Promise<readonly WorkerView[]>;
  /** Free slots of the workers that this orchestrator could claim; groups without any are absent. */
  freeSlots(): Promise<readonly SlotGroup[]>;

  /** Decides in one atomic step, so two orchestrators never assign one slot twice nor run one job twice. */
  claim(request: ClaimRequest): Promise<ClaimOutcome>;
  /** The job's claim, if it has one. */
  find(jobId: string): Promise<Claim | undefined>;
  /**
   * Decides whether the claim's run is lost, and if so ends its attempt in the same step, so that nothing can confirm,
   * extend or restore the claim after the decision. "alive": the claim is valid, again or still; or it is missing
   * during the settle time, and its worker may still report it (see `ClaimRequest.mayBeRunning`). With `evenIfAlive` the
   * attempt ends in any case.
   */
  fence(claim: Claim, options?: { readonly evenIfAlive?: boolean }): Promise<Fence>;
  /**
   * If this run still belongs to the job, extends its claim to a full lease time and returns the time left, in ms.
   * Undefined: it does not, and never will again, as for a cancelled job. Rejects with LeasesUnavailable when this is
   * unknown after a loss: when the worker has not registered again; and when the run is known only from its worker's
   * report, until an orchestrator that holds the job's message has called `claim`. Until then the job may have ended in
   * another attempt with a published result.
   */
  confirm(run: RunRef, workerId: string, incarnation: string): Promise<number | undefined>;
  /**
   * For the job memory from now on the job gets no claim, and no run of it is confirmed. A claim that it has stays, and
   * is extended, until its run has ended. When called again for the same job, the first reason stays.
   */
  cancel(jobId: string, reason: string): Promise<JobAtCancel>;
  /** Why the job was cancelled; undefined when it was not. */
  cancellation(jobId: string): Promise<string | undefined>;
  /** The cancelled jobs that have not ended yet. */
  cancelling(): Promise<readonly CancelledJob[]>;
  /** A cancelled job has ended; it stays cancelled. */
  cancelEnded(jobId: string): Promise<void>;
  /** Ends the claim permanently and frees the slot; does nothing when the job has another claim by now. */
  release(claim: Claim): Promise<void>;
  /** As `release`, for a run that its worker has refused and never began: the next claim has the same attempt. */
  retract(claim: Claim): Promise<void>;
  /**
   * As `retract`, for a claim of which no call of this orchestrator has reached the worker. False, and nothing is done,
   * when a run of this attempt may exist in spite of that: another caller has got the claim as "held", its worker has
   * reported or confirmed the run, or the data of the leases were lost.
   */
  retractUnsent(claim: Claim): Promise<boolean>;
  /** Calls back when a slot may be free or a worker available again, whichever orchestrator caused it. Only a hint. */
  onChange(listener: () => void): void;
  /** Calls back when a worker may have registered, with any orchestrator. Only a hint. */
  onRegistered(listener: () => void): void;

  close(): Promise<void>;
}

/** The server behind the leases does not answer; nothing was decided, or the decision is unknown. */
export class LeasesUnavailable extends Error {
  override readonly name = "LeasesUnavailable";
}

/** See `Leases.confirm`. */
export function unproven({ jobId, attempt }: RunRef): LeasesUnavailable {
  return new LeasesUnavailable(
    `attempt ${attempt} of job ${jobId} is known only from its worker's report: only an orchestrator that holds the job's message can confirm it`,
  );
}

/** See `Leases.confirm`. */
export function unregistered(workerId: string): LeasesUnavailable {
  return new LeasesUnavailable(
    `worker ${workerId} has not registered again, so its runs cannot be confirmed yet`,
  );
}
