/** Worker Manager: knows the workers through the leases, and gives a job the right one. */
import type { Job, JobState, KnownImage, RunRef } from "../shared/job.ts";
import type { Logger } from "../shared/logging.ts";
import { repositoryOf } from "./job/result.ts";
import { neededBy } from "./leases/capabilities.ts";
import { type Claim, type Leases, LeasesUnavailable, type WorkerRegistration } from "./leases/leases.ts";
import type { ReadyDelivery } from "./queue/queue.ts";
import { type JobRecords, RecordsUnavailable } from "./records/job-records.ts";
import { Lease, type LeaseParts } from "./workers/assignment.ts";
import type { SlotWish } from "./workers/free-slots.ts";

export interface WorkerManagerParts extends LeaseParts {
  readonly records: JobRecords;
  /** Regions to try, in this order, when a job's own has no free worker. */
  readonly regionFallback: readonly string[];
  readonly leaseTtlMs: number;
  /** How long a job waits for a worker that can build it while there are only others. */
  readonly unsupportedAfterMs: number;
}

export type Placement =
  /** On a free worker, or on the one that runs the job already. */
  | { readonly kind: "leased"; readonly lease: Lease }
  /** There is no worker to be had now. */
  | { readonly kind: "none" }
  /** The job is not to run any more. */
  | { readonly kind: "cancelled"; readonly reason: string; readonly attempts: number }
  /** The workers there cannot build it, and it has waited for another one for long enough. */
  | { readonly kind: "unsupported"; readonly reason: string; readonly attempts: number };

export class WorkerManager {
  readonly #leases: Leases;
  readonly #logger: Logger;

  /** By job id: leases of the jobs whose unacked messages this orchestrator holds. */
  readonly #held = new Map<string, Lease>();

  constructor(private readonly parts: WorkerManagerParts) {
    this.#leases = parts.leases;
    this.#logger = parts.logger;
  }

  /** The regions in which this job may be built, the preferred one first, and what its worker has to be able to do. */
  wishOf(job: Job): SlotWish {
    const fallback = job.regionPolicy === "require" ? [] : this.parts.regionFallback;
    return { regions: [...new Set([job.workerRegion, ...fallback])], needs: neededBy(job) };
  }

  async place(job: Job, delivery: Pick<ReadyDelivery, "redelivered" | "envelope">): Promise<Placement> {
    const { retry } = delivery.envelope;
    const wish = this.wishOf(job);
    const outcome = await this.#leases.claim({
      jobId: job.jobId,
      ...wish,
      source: `${job.awsAccount} ${job.repoUrl}`,
      mayBeRunning: delivery.redelivered,
      attempts: retry?.attempts,
      avoidWorkerId: retry?.lastWorkerId,
    });
    if (outcome.kind === "none" || outcome.kind === "cancelled") return outcome;
    if (outcome.kind === "incapable") {
      if (outcome.forMs < this.parts.unsupportedAfterMs) return { kind: "none" };
      const reason = await this.#whyUnsupported(wish);
      return { kind: "unsupported", reason, attempts: outcome.attempts };
    }
    const { claim } = outcome;
    const told = outcome.kind === "held" ? await this.#toldStates(claim) : new Set<JobState>();
    const fields = { job_id: job.jobId, attempt: claim.attempt, worker_id: claim.workerId };
    this.#logger.info(fields, outcome.kind === "held" ? "attaching to a running job" : "job assigned");
    const lease = new Lease(claim, job, told, await this.#knownImages(job), this.parts);
    this.#held.set(job.jobId, lease);
    return { kind: "leased", lease };
  }

  /** The job's message is no longer in this orchestrator's hands. */
  letGo(lease: Lease): void {
    if (this.#held.get(lease.job.jobId) === lease) this.#held.delete(lease.job.jobId);
  }

  /** "id-in-use": another live process has this worker's id. */
  async register(worker: WorkerRegistration): Promise<"registered" | "id-in-use"> {
    const outcome = await this.#leases.register(worker);
    const { workerId: worker_id, incarnation, region, address, slots } = worker;
    const fields = { worker_id, incarnation, region, address, slots };
    if (outcome === "registered") this.#logger.info(fields, "worker registered");
    else this.#logger.warn(fields, "worker refused: another live worker has its id");
    return outcome;
  }

  async deregister(workerId: string, incarnation: string): Promise<void> {
    await this.#leases.deregister(workerId, incarnation);
    this.#logger.info({ worker_id: workerId, incarnation }, "worker deregistered");
  }

  /** The time this run's lease still holds, in ms; undefined when the job is not, or no longer, its. */
  async confirm(run: RunRef, workerId: string, incarnation: string): Promise<number | undefined> {
    const remainingMs = await this.#confirmedMs(run, workerId, incarnation);
    const fields = { job_id: run.jobId, attempt: run.attempt, worker_id: workerId };
    if (remainingMs === undefined) this.#logger.warn(fields, "lease refused: the run is not the job's");
    return remainingMs;
  }

  /**
   * While the leases are away, the job's unacked message is what fences: whoever holds it knows that no other attempt
   * has begun. @throws LeasesUnavailable when neither can tell.
   */
  async #confirmedMs(run: RunRef, workerId: string, incarnation: string): Promise<number | undefined> {
    try {
      return await this.#leases.confirm(run, workerId, incarnation);
    } catch (error) {
      const claim = this.#held.get(run.jobId)?.claim;
      const isOurs =
        claim?.attempt === run.attempt && claim.workerId === workerId && claim.incarnation === incarnation;
      if (!(error instanceof LeasesUnavailable) || !isOurs) throw error;
      this.#logger.warn(
        { job_id: run.jobId, attempt: run.attempt },
        "leases are away; confirmed by the message in hand",
      );
      return this.parts.leaseTtlMs;
    }
  }

  /** Without them it is built. */
  async #knownImages(job: Job): Promise<readonly KnownImage[]> {
    if (job.reuse === "never") return [];
    try {
      return await this.parts.records.knownImages(repositoryOf(job));
    } catch (error) {
      if (!(error instanceof RecordsUnavailable)) throw error;
      this.#logger.warn({ err: error, job_id: job.jobId }, "no image can be reused: none is remembered now");
      return [];
    }
  }

  async #whyUnsupported({ regions, needs }: SlotWish): Promise<string> {
    const there = (await this.#leases.workers()).filter(
      ({ region, status }) => regions.includes(region) && status !== "LOST",
    );
    const offers = new Set(there.map(({ capabilities }) => capabilities.join(", ") || "nothing special"));
    const [needed, where] = [needs.join(" and "), regions.join(", ")];
    return `no worker in ${where} can build this: it needs ${needed}; the workers there offer ${[...offers].join("; or ")}`;
  }

  async #toldStates(claim: Claim): Promise<ReadonlySet<JobState>> {
    const record = await this.parts.records.find(claim.jobId);
    const events = record?.events.filter((event) => event.attempt === claim.attempt) ?? [];
    return new Set(events.map((event) => event.state));
  }
}
