/** Worker Manager: keeps the workers registered in the leases, and claims a suitable one for each job. */
import type { Job, JobState, RunRef } from "../shared/job.ts";
import type { Logger } from "../shared/logging.ts";
import { repositoryOf, versionOf } from "./job/result.ts";
import {
  type Claim,
  type Leases,
  LeasesUnavailable,
  type RegisterOutcome,
  type WorkerRegistration,
} from "./leases/leases.ts";
import type { ReadyDelivery } from "./queue/queue.ts";
import { type JobRecords, RecordsUnavailable } from "./records/job-records.ts";
import { Assignment, type AssignmentParts, type RecordedImages } from "./workers/assignment.ts";
import { type PlacementRequirements, requirementsOf } from "./workers/free-slots.ts";
import { PLACED_BEFORE, placedByChoice } from "./workers/placement-reason.ts";
import { PlatformPreference } from "./workers/platform-preference.ts";

export interface WorkerManagerParts extends AssignmentParts {
  readonly records: JobRecords;
  /** Regions to try, in this order, when a job's worker region has no free worker. */
  readonly regionFallback: readonly string[];
  /** How long a job waits while its regions have workers but none that can build it. */
  readonly unsupportedAfterMs: number;
}

type HeldDelivery = Pick<ReadyDelivery, "redelivered" | "envelope" | "heldForMs">;

export type Placement =
  /** To a free worker, or to the one that already runs the job. */
  | { readonly kind: "assigned"; readonly assignment: Assignment }
  /** No worker is available now. */
  | { readonly kind: "none" }
  /** The job was cancelled; `attempts` have been made. */
  | { readonly kind: "cancelled"; readonly reason: string; readonly attempts: number }
  /** The available workers cannot build it, and it has waited `unsupportedAfterMs` for another one. */
  | { readonly kind: "unsupported"; readonly reason: string; readonly attempts: number };

export class WorkerManager {
  readonly #leases: Leases;
  readonly #logger: Logger;

  /** By job id: the jobs whose unacked messages this orchestrator holds. */
  readonly #held = new Map<string, { readonly assignment: Assignment; readonly delivery: HeldDelivery }>();

  readonly #preference: PlatformPreference;

  constructor(private readonly parts: WorkerManagerParts) {
    this.#leases = parts.leases;
    this.#logger = parts.logger;
    this.#preference = new PlatformPreference({ leases: parts.leases, waitMs: parts.unsupportedAfterMs });
  }

  requirementsOf(job: Job): PlacementRequirements {
    return requirementsOf(job, this.parts.regionFallback);
  }

  async place(job: Job, delivery: HeldDelivery): Promise<Placement> {
    const { retry } = delivery.envelope;
    const requirements = this.requirementsOf(job);
    const request = {
      jobId: job.jobId,
      ...requirements,
      source: `${job.tenant} ${job.repoUrl}`,
      mayBeRunning: delivery.redelivered,
      attempts: retry?.attempts,
      avoidWorkerId: retry?.lastWorkerId,
    };
    const outcome = await this.#preference.claim(job, request, delivery);
    if (outcome.kind === "none" || outcome.kind === "cancelled") return outcome;
    if (outcome.kind === "incapable") {
      if (outcome.forMs < this.parts.unsupportedAfterMs) return { kind: "none" };
      const reason = await this.#whyUnsupported(requirements);
      return { kind: "unsupported", reason, attempts: outcome.attempts };
    }
    const { claim } = outcome;
    const isHeld = outcome.kind === "held";
    const placed = isHeld ? PLACED_BEFORE : placedByChoice(claim, outcome.choice, request);
    const published = isHeld ? await this.#publishedStates(claim) : new Set<JobState>();
    const fields = { job_id: job.jobId, attempt: claim.attempt, worker_id: claim.workerId };
    if (isHeld) this.#logger.info(fields, "attaching to a running job");
    else this.#logger.info({ ...fields, ...placed }, "job assigned");
    const images = await this.#recordedImages(job);
    const assignment = new Assignment(claim, job, placed, published, images, this.parts);
    this.#held.set(job.jobId, { assignment, delivery });
    return { kind: "assigned", assignment };
  }

  /** This orchestrator no longer holds the job's message. */
  forget(assignment: Assignment): void {
    const { jobId } = assignment.job;
    if (this.#held.get(jobId)?.assignment === assignment) this.#held.delete(jobId);
  }

  async register(worker: WorkerRegistration): Promise<RegisterOutcome> {
    const outcome = await this.#leases.register(worker);
    const { workerId: worker_id, incarnation, region, address, slots } = worker;
    const fields = { worker_id, incarnation, region, address, slots };
    if (outcome === "registered") this.#logger.info(fields, "worker registered");
    else if (outcome === "id-in-use")
      this.#logger.warn(fields, "worker refused: another live worker has its id");
    else {
      const { addressOf: other_worker_id } = outcome;
      this.#logger.warn(
        { ...fields, other_worker_id },
        "worker refused: another live worker has its address",
      );
    }
    return outcome;
  }

  async deregister(workerId: string, incarnation: string): Promise<void> {
    await this.#leases.deregister(workerId, incarnation);
    this.#logger.info({ worker_id: workerId, incarnation }, "worker deregistered");
  }

  /** Time left of the run's lease, in ms; undefined when the run does not have the job, or no longer has it. */
  async confirm(run: RunRef, workerId: string, incarnation: string): Promise<number | undefined> {
    const remainingMs = await this.#confirmedLeaseMs(run, workerId, incarnation);
    const fields = { job_id: run.jobId, attempt: run.attempt, worker_id: workerId };
    if (remainingMs === undefined)
      this.#logger.warn(fields, "lease not confirmed: the job is not assigned to this run");
    return remainingMs;
  }

  /**
   * While Redis is unavailable, the job's unacked message serves as the fence: while the broker does not deliver it to
   * another orchestrator, no other attempt begins. @throws LeasesUnavailable when this orchestrator does not hold it, or
   * the broker does not confirm that.
   */
  async #confirmedLeaseMs(run: RunRef, workerId: string, incarnation: string): Promise<number | undefined> {
    try {
      return await this.#leases.confirm(run, workerId, incarnation);
    } catch (error) {
      const held = this.#held.get(run.jobId);
      const claim = held?.assignment.claim;
      const isHeldHere =
        claim?.attempt === run.attempt && claim.workerId === workerId && claim.incarnation === incarnation;
      if (!(error instanceof LeasesUnavailable) || !held || !isHeldHere) throw error;
      const heldForMs = await held.delivery.heldForMs().catch((cause: unknown) => {
        throw new LeasesUnavailable("neither Redis nor the broker confirms the lease", { cause });
      });
      this.#logger.warn(
        { job_id: run.jobId, attempt: run.attempt },
        "leases unavailable; lease confirmed from the held delivery",
      );
      return Math.min(this.parts.leaseTtlMs, heldForMs);
    }
  }

  /** Empty when they cannot be read: an existing image then counts only if it has a valid HMAC. */
  async #recordedImages(job: Job): Promise<RecordedImages> {
    const { records } = this.parts;
    try {
      const [versionImages, knownImages] = await Promise.all([
        records.knownImages(versionOf(job)),
        job.reuse === "never" ? [] : records.knownImages(repositoryOf(job)),
      ]);
      return { versionImages, knownImages };
    } catch (error) {
      if (!(error instanceof RecordsUnavailable)) throw error;
      this.#logger.warn(
        { err: error, job_id: job.jobId },
        "records of images unavailable; only an HMAC proves an existing image",
      );
      return { versionImages: [], knownImages: [] };
    }
  }

  async #whyUnsupported({ regions, needs }: PlacementRequirements): Promise<string> {
    const candidates = (await this.#leases.workers()).filter(
      ({ region, hasLease }) => regions.includes(region) && hasLease,
    );
    const offers = new Set(
      candidates.map(({ capabilities }) => capabilities.join(", ") || "nothing special"),
    );
    const [needed, where] = [needs.join(" and "), regions.join(", ")];
    return `no worker in ${where} can build this: it needs ${needed}; the workers there offer ${[...offers].join("; or ")}`;
  }

  async #publishedStates(claim: Claim): Promise<ReadonlySet<JobState>> {
    const record = await this.parts.records.find(claim.jobId);
    const events = record?.events.filter((event) => event.attempt === claim.attempt) ?? [];
    return new Set(events.map((event) => event.state));
  }
}
