/**
 * Leases: which worker may be given which job. Everything in here has a time to live and can be lost; what is lost
 * is rebuilt from registrations and pings. Redis (redis.ts) and one process's memory (in-process.ts) stand behind
 * this interface, and both pass tests/integration/orchestrator/leases/leases-contract.ts.
 *
 * Glossary. Worker lease: the time a worker counts as alive after its last answered ping. Region index: the workers
 * of a region. Claim: one job's right to one slot of one worker, `job -> worker, incarnation, attempt`; a claim lives
 * as long as its worker keeps reporting the run (observe), or one lease time from its making.
 *
 * A claim that ended or was lost is made anew when a worker reports or confirms its run, unless the job has another
 * claim by then, was given a higher attempt, was cancelled, or this attempt was released.
 */
import type { RunRef } from "../../shared/job.ts";

export interface WorkerRegistration {
  readonly workerId: string;
  /** Made anew at each start of the worker. */
  readonly incarnation: string;
  readonly region: string;
  /** `host:port` of its gRPC server. */
  readonly address: string;
  readonly slots: number;
  readonly version: string;
  /** In the words of ../capabilities.ts. */
  readonly capabilities: readonly string[];
  readonly runs: readonly RunRef[];
}

export type WorkerStatus = "FREE" | "BUSY" | "DRAINING" | "LOST";

export interface WorkerView extends Omit<WorkerRegistration, "runs"> {
  /** LOST: its lease has ended, or its last ping was missed. BUSY: every slot is claimed or in use. */
  readonly status: WorkerStatus;
  /** Ids of the jobs that are claimed on it. */
  readonly jobs: readonly string[];
  /** Why it takes nothing new though a slot may be free, as it said last. */
  readonly refusal: string | undefined;
  readonly lastSeen: Date;
}

/** The free slots of a region's workers that can do the same. */
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
  /** What its worker has to be able to do, in the words of ../capabilities.ts. */
  readonly needs?: readonly string[];
  /** What is built, by a name of its own: of workers that are equally free, the one that built it last is preferred. */
  readonly source?: string;
  /**
   * Its message was in somebody's hands before. When the data began anew (a loss, the very first start, or a lease time
   * without any orchestrator), such a job gets "none" for as long as workers need to report what they run; a job that
   * nobody ever held need not wait.
   */
  readonly mayBeRunning?: boolean;
  /** As many attempts have ended, as far as the job's message knows; the attempt gets a higher number. */
  readonly attempts?: number;
  /** This worker only when no other one is free. */
  readonly avoidWorkerId?: string;
}

export type ClaimOutcome =
  /** A slot was free and is now this job's; the attempt is one more than any claimed before for this job. */
  | { readonly kind: "claimed"; readonly claim: Claim }
  /** The job runs already (a redelivery): attach to it. */
  | { readonly kind: "held"; readonly claim: Claim }
  /** No live, free, reachable, not draining worker that can build it in any of the regions; or see `mayBeRunning`. */
  | { readonly kind: "none" }
  /** The regions have live workers, and for so long none was seen there that can build it; `attempts` have ended. */
  | { readonly kind: "incapable"; readonly forMs: number; readonly attempts: number }
  /** The job gets no claim any more; `attempts` were given one. */
  | { readonly kind: "cancelled"; readonly reason: string; readonly attempts: number };

/** What stands in the way of a job that has just been cancelled. */
export type JobAtCancel =
  /** Its run is to be ended. */
  | { readonly kind: "claimed"; readonly claim: Claim }
  /** It does not run, and will not; `attempts` were given a claim. */
  | { readonly kind: "unclaimed"; readonly attempts: number }
  /** The data began anew a short time ago: a worker may still report a run of it. See `ClaimRequest.mayBeRunning`. */
  | { readonly kind: "unknown" };

export interface CancelledJob {
  readonly jobId: string;
  readonly reason: string;
}

/** What a worker answered to a ping. */
export interface Observation {
  readonly status: "FREE" | "BUSY" | "DRAINING";
  readonly runs: readonly RunRef[];
  /** Why it is BUSY though a slot may be free. */
  readonly refusal?: string;
}

export interface Leases {
  /** Connects, and goes on reconnecting with growing delay until `close`. Never rejects for an absent server. */
  start(): void;
  /** Answers now. Every other method rejects with LeasesUnavailable while this is false. */
  readonly isReady: boolean;

  /** Makes the worker known for one lease time. "id-in-use": another incarnation of that id holds a live lease. */
  register(worker: WorkerRegistration): Promise<"registered" | "id-in-use">;
  /** Ends the worker's lease and its claims at once; does nothing for another incarnation. */
  deregister(workerId: string, incarnation: string): Promise<void>;
  /**
   * A ping was answered: extends the worker's lease and the claims of the runs it reports, and makes it schedulable
   * again. Claims are extended only for the same worker, incarnation and attempt. Gives the reported runs that are
   * stale: another attempt has the job, or it is over. Undefined: the worker is not known (any more) under that
   * incarnation and has to register again. BUSY holds until the worker's next release; with a refusal, until
   * the next `observe`.
   */
  observe(
    workerId: string,
    incarnation: string,
    observation: Observation,
  ): Promise<readonly RunRef[] | undefined>;
  /** A ping was missed, or a job refused for want of a slot: no new job for this worker until the next `observe`; its lease runs on. */
  suspect(workerId: string, incarnation: string): Promise<void>;
  /** All workers known, the lost ones for an hour after their last ping. */
  workers(): Promise<readonly WorkerView[]>;
  /** Free slots of schedulable workers; groups without any are absent. */
  freeSlots(): Promise<readonly SlotGroup[]>;

  /** Decides in one atomic step, so two orchestrators never give one slot twice nor run one job twice. */
  claim(request: ClaimRequest): Promise<ClaimOutcome>;
  /** The job's claim, if it has one. */
  find(jobId: string): Promise<Claim | undefined>;
  /**
   * False: the claim has ended, and its run is not the job's any more. While the data began anew a short time ago, a
   * claim that is missing may still come back; see `ClaimRequest.mayBeRunning`.
   */
  holds(claim: Claim): Promise<boolean>;
  /**
   * Is this run still the job's? Then its claim is extended to a full lease time and the time left is returned, in ms.
   * Undefined: no, for good; so for a cancelled job. Rejects with LeasesUnavailable when this cannot be known after a loss:
   * when the worker has not registered again; and when only its own word is known of the run, as long as nobody who has the
   * job's message has called `claim`. The job may have ended in another attempt, and its result be out.
   */
  confirm(run: RunRef, workerId: string, incarnation: string): Promise<number | undefined>;
  /**
   * From here on the job gets no claim, and no run of it is confirmed, for the job memory. A claim that it has stays,
   * and is extended, until its run has ended. Again for the same job: the first reason stays.
   */
  cancel(jobId: string, reason: string): Promise<JobAtCancel>;
  /** Why the job was cancelled; undefined when it was not. */
  cancellation(jobId: string): Promise<string | undefined>;
  /** The cancelled jobs that have not come to their end. */
  cancelling(): Promise<readonly CancelledJob[]>;
  /** A cancelled job has come to its end; it stays cancelled. */
  cancelEnded(jobId: string): Promise<void>;
  /** Ends the claim for good and frees the slot; does nothing when the job has another claim by now. */
  release(claim: Claim): Promise<void>;
  /** As `release`, for a run that its worker has refused and never began: the next claim has the same attempt. */
  retract(claim: Claim): Promise<void>;
  /** Calls back when a slot may have become free or a worker available, from whichever orchestrator. Hints only. */
  onChange(listener: () => void): void;

  close(): Promise<void>;
}

/** The server behind the leases does not answer; nothing was decided, or it is not known what. */
export class LeasesUnavailable extends Error {
  override readonly name = "LeasesUnavailable";
}

/** See `Leases.confirm`. */
export function unproven({ jobId, attempt }: RunRef): LeasesUnavailable {
  return new LeasesUnavailable(
    `nothing is known of attempt ${attempt} of job ${jobId} but its worker's word: whoever has the job's message decides`,
  );
}
