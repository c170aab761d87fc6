/** One job's lease on one worker: runs it there, follows it, and gives the slot back. */
import { status } from "@grpc/grpc-js";
import { sleep } from "../../shared/abort.ts";
import { Backoff } from "../../shared/backoff.ts";
import type { Job, JobState, KnownImage, Outcome } from "../../shared/job.ts";
import type { Logger } from "../../shared/logging.ts";
import { RunState } from "../../shared/rpc/generated/blacktree/v1/run.ts";
import type { JobRequest } from "../../shared/rpc/generated/blacktree/v1/worker.ts";
import { fromJobResponse } from "../../shared/rpc/outcome.ts";
import { hasStatus, isTransportFault } from "../../shared/rpc/status.ts";
import type { JobEvents } from "../job/events.ts";
import { emptyLog } from "../job/result.ts";
import { type Claim, type Leases, LeasesUnavailable } from "../leases/leases.ts";
import type { WorkerClient } from "./worker-client.ts";

/** The worker takes nothing new now, though the claim was free: it knows of a run that the leases have lost. */
export class WorkerRefused extends Error {
  override readonly name = "WorkerRefused";
}

/** The claim is gone, whether or not the worker can be reached. */
class ClaimEnded extends Error {
  override readonly name = "ClaimEnded";
}

export interface LeaseParts {
  readonly leases: Leases;
  readonly events: JobEvents;
  readonly logger: Logger;
  /** Upper bound of every job's own timeout, in ms. */
  readonly jobTimeoutMs: number;
  connect(address: string): WorkerClient;
}

/** How long the last states of a run may lag behind its response. */
const LAST_STATES_MS = 2000;
const CLAIM_LOOK_INTERVAL_MS = 1000;

export class Lease {
  readonly assignedAt = new Date();

  constructor(
    readonly claim: Claim,
    readonly job: Job,
    /** States that were told before, by whoever held the job's message then. */
    private readonly toldStates: ReadonlySet<JobState>,
    /** One of these may be all that the job needs. */
    private readonly knownImages: readonly KnownImage[],
    private readonly parts: LeaseParts,
  ) {}

  /**
   * Runs the job on the leased worker, or attaches to its run, and comes back with its outcome: the worker's own, or
   * WORKER_LOST once the claim has ended without one. Aborting ends only the waiting.
   * @throws WorkerRefused; the signal's reason.
   */
  async run(signal: AbortSignal): Promise<Outcome> {
    await this.#tellAssigned();
    const delay = new Backoff({ initialMs: 100, maxMs: 2000 });
    for (;;) {
      const client = this.parts.connect(this.claim.address);
      const ended = new AbortController();
      const call = AbortSignal.any([signal, ended.signal]);
      try {
        const running = client.runJob(this.#request(), call);
        const watching = this.#tellStates(client, call);
        const outcome = fromJobResponse(await Promise.race([running, this.#claimEnds(call)]));
        await Promise.race([watching, sleep(LAST_STATES_MS)]);
        return outcome;
      } catch (error) {
        if (signal.aborted) throw error;
        const lost = await this.#judge(error);
        if (lost) return lost;
        await sleep(delay.nextMs(), signal);
      } finally {
        ended.abort(new Error("the call has ended"));
        client.close();
      }
    }
  }

  /** The result is safe: the worker may forget the run. */
  async acknowledge(): Promise<void> {
    const client = this.parts.connect(this.claim.address);
    try {
      await client.acknowledge(this.claim, this.claim.incarnation);
    } finally {
      client.close();
    }
  }

  release(): Promise<void> {
    return this.parts.leases.release(this.claim);
  }

  /** The worker has refused the run. */
  retract(): Promise<void> {
    return this.parts.leases.retract(this.claim);
  }

  /**
   * A call to a frozen worker goes on until the transport misses it, which may be long after its lease has ended.
   * @throws ClaimEnded; the signal's reason.
   */
  async #claimEnds(signal: AbortSignal): Promise<never> {
    for (;;) {
      await sleep(CLAIM_LOOK_INTERVAL_MS, signal);
      if (!(await this.#isStillOurs())) throw new ClaimEnded("its lease has ended");
    }
  }

  /** Undefined: worth another try. */
  async #judge(error: unknown): Promise<Outcome | undefined> {
    if (hasStatus(error, status.RESOURCE_EXHAUSTED)) throw new WorkerRefused(error.message, { cause: error });
    if (error instanceof ClaimEnded || hasStatus(error, status.FAILED_PRECONDITION))
      return this.#lost(error.message);
    if (!isTransportFault(error)) throw error;
    return (await this.#isStillOurs()) ? undefined : this.#lost(`it is not in reach: ${error.message}`);
  }

  async #isStillOurs(): Promise<boolean> {
    try {
      return await this.parts.leases.holds(this.claim);
    } catch (error) {
      if (error instanceof LeasesUnavailable) return true;
      throw error;
    }
  }

  #lost(why: string): Outcome {
    const { workerId, attempt } = this.claim;
    this.parts.logger.warn({ job_id: this.job.jobId, attempt, worker_id: workerId, why }, "worker lost");
    return {
      status: "FAILED",
      failure: {
        code: "WORKER_LOST",
        step: "dispatch",
        retryable: true,
        message: `worker ${workerId} was lost: ${why}`,
      },
      logs: [],
      log: emptyLog(),
      timingsMs: { clone: 0, build: 0, auth: 0, push: 0, total: Date.now() - this.assignedAt.getTime() },
      startedAt: this.assignedAt,
      finishedAt: new Date(),
    };
  }

  /** Follows the run as long as the call goes on; the states are a courtesy, so a fault here ends nothing. */
  async #tellStates(client: WorkerClient, signal: AbortSignal): Promise<void> {
    const delay = new Backoff({ initialMs: 50, maxMs: 2000 });
    let afterSeq = 0;
    while (!signal.aborted) {
      try {
        const options = { afterSeq, statesOnly: true };
        for await (const event of client.watchJob(this.claim, this.claim.incarnation, options, signal)) {
          afterSeq = event.seq;
          if (event.state !== undefined) await this.#tell(event.state);
        }
        return;
      } catch (error) {
        this.parts.logger.debug(
          { err: error, job_id: this.job.jobId },
          "run cannot be watched; trying again",
        );
        await sleep(delay.nextMs(), signal).catch(() => undefined);
      }
    }
  }

  /** Not at the claim: a copy of a job that has ended is claimed too, and let go of again without a run. */
  async #tellAssigned(): Promise<void> {
    if (this.toldStates.has("ASSIGNED")) return;
    const { jobId, attempt, workerId } = this.claim;
    await this.parts.events.tell({ jobId, attempt, state: "ASSIGNED", detail: { worker_id: workerId } });
  }

  async #tell(runState: RunState): Promise<void> {
    const state = TOLD_STATES.get(runState);
    if (state === undefined || this.toldStates.has(state)) return;
    await this.parts.events.tell({ jobId: this.job.jobId, attempt: this.claim.attempt, state });
  }

  #request(): JobRequest {
    const { job, claim } = this;
    const ownTimeoutMs =
      job.timeoutSeconds === undefined ? Number.POSITIVE_INFINITY : job.timeoutSeconds * 1000;
    return {
      jobId: job.jobId,
      attempt: claim.attempt,
      incarnation: claim.incarnation,
      repoUrl: job.repoUrl,
      branch: job.branch,
      commit: job.commit ?? "",
      gitToken: job.gitToken ?? "",
      deploymentVersion: job.deploymentVersion,
      awsAccount: job.awsAccount,
      ecrRepo: job.ecrRepo,
      region: job.region,
      dockerfile: job.dockerfile ?? "",
      context: job.context ?? "",
      target: job.target ?? "",
      buildArgs: { ...job.buildArgs },
      labels: { ...job.labels },
      provenance: job.provenance,
      platforms: [...job.platforms],
      secrets: { ...job.secrets },
      knownImages: [...this.knownImages],
      timeoutMs: Math.min(ownTimeoutMs, this.parts.jobTimeoutMs),
    };
  }
}

/** The ends are told by the Result Handler, once they are the job's. */
const TOLD_STATES: ReadonlyMap<RunState, JobState> = new Map([
  [RunState.RUN_STATE_CLONING, "CLONING"],
  [RunState.RUN_STATE_AUTHENTICATING, "AUTHENTICATING"],
  [RunState.RUN_STATE_BUILDING, "BUILDING"],
  [RunState.RUN_STATE_PUSHING, "PUSHING"],
]);
