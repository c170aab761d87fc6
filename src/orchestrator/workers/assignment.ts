/** Assignment of one job to one claimed slot of a worker: runs the job there, follows the run and releases the slot. */
import { status } from "@grpc/grpc-js";
import { orAbort, sleep, waitAtMost } from "../../shared/abort.ts";
import { Backoff } from "../../shared/backoff.ts";
import type { ErrorCode, Job, JobState, KnownImage, Outcome } from "../../shared/job.ts";
import type { Logger } from "../../shared/logging.ts";
import { NotConnected } from "../../shared/rpc/call.ts";
import { RunState } from "../../shared/rpc/generated/blacktree/v1/run.ts";
import type {
  JobRequest,
  RegistryLogin as WireLogin,
} from "../../shared/rpc/generated/blacktree/v1/worker.ts";
import { fromJobResponse } from "../../shared/rpc/outcome.ts";
import { hasStatus, isTransportFault, RpcError } from "../../shared/rpc/status.ts";
import type { JobEvents } from "../job/events.ts";
import { emptyLog } from "../job/result.ts";
import { type Claim, type Leases, LeasesUnavailable } from "../leases/leases.ts";
import type { Placed } from "./placement-reason.ts";
import type { WorkerClient } from "./worker-client.ts";

/** The worker has no free slot although the claim succeeded: it has a run that the leases have lost. */
export class WorkerRefused extends Error {
  override readonly name = "WorkerRefused";
}

/** No call of this orchestrator has reached the worker, and no run of the attempt exists: the claim was retracted. */
export class WorkerUnreachable extends Error {
  override readonly name = "WorkerUnreachable";
}

/**
 * For a lease time no connection to the worker was possible, but its claim is alive: another orchestrator reaches the
 * worker, and can follow the run.
 */
export class RunOutOfReach extends Error {
  override readonly name = "RunOutOfReach";
}

/** The claim has ended, whether or not the worker is reachable. */
class ClaimEnded extends Error {
  override readonly name = "ClaimEnded";
}

export interface AssignmentParts {
  readonly leases: Leases;
  readonly events: JobEvents;
  readonly logger: Logger;
  /** Upper bound of a job's timeout, in ms. */
  readonly jobTimeoutMs: number;
  readonly leaseTtlMs: number;
  connect(address: string): WorkerClient;
}

/** Images that the job records know. */
export interface RecordedImages {
  /** Those that had the job's version. */
  readonly versionImages: readonly KnownImage[];
  /** Those of the job's repository, for a job that may reuse one. */
  readonly knownImages: readonly KnownImage[];
}

/** How long to wait, after a run's response, for its last states: longer than a busy machine delays them. */
const MAX_STATE_LAG_MS = 10_000;
const CLAIM_POLL_INTERVAL_MS = 1000;

export class Assignment {
  readonly assignedAt = new Date();
  /** A RunJob of this assignment may have reached the worker. */
  #isSent = false;
  /** Since when no connection to the worker is possible. */
  #unreachableSinceMs: number | undefined;
  #hasOutcome = false;

  constructor(
    readonly claim: Claim,
    readonly job: Job,
    private readonly placed: Placed,
    /** States of this attempt that an earlier holder of the job's message has already published. */
    private readonly publishedStates: ReadonlySet<JobState>,
    private readonly images: RecordedImages,
    private readonly parts: AssignmentParts,
  ) {}

  /**
   * Runs the job on the claimed worker, or attaches to its run, and returns the outcome that the worker reports, or
   * WORKER_LOST when the claim ends without one. Aborting ends only the waiting, not the run.
   * @throws WorkerRefused, WorkerUnreachable, RunOutOfReach; the signal's reason.
   */
  async run(signal: AbortSignal): Promise<Outcome> {
    await this.#publishAssigned();
    const delay = new Backoff({ initialMs: 100, maxMs: 2000 });
    for (;;) {
      const client = this.parts.connect(this.claim.address);
      const ended = new AbortController();
      const call = AbortSignal.any([signal, ended.signal]);
      try {
        await orAbort(client.connect(), call);
        this.#isSent = true;
        this.#unreachableSinceMs = undefined;
        const running = client.runJob(this.#request(), call);
        const watching = this.#publishStates(client, call);
        const outcome = fromJobResponse(await Promise.race([running, this.#untilClaimEnds(call)]));
        this.#hasOutcome = true;
        await waitAtMost(MAX_STATE_LAG_MS, watching);
        return outcome;
      } catch (error) {
        if (signal.aborted) {
          // Who gets the job's message next need not wait for the end of a claim that no run has.
          await this.#retractIfUnsent();
          throw error;
        }
        const outcome = await this.#outcomeOf(error, signal);
        if (outcome) return outcome;
        await sleep(delay.nextMs(), signal);
      } finally {
        ended.abort(new Error("the call has ended"));
        client.close();
      }
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
   * A call to a frozen worker continues until the transport detects the failure, which may be long after the worker's
   * lease has ended. @throws ClaimEnded; the signal's reason.
   */
  async #untilClaimEnds(signal: AbortSignal): Promise<never> {
    for (;;) {
      await sleep(CLAIM_POLL_INTERVAL_MS, signal);
      if ((await this.#claimState(signal)) === "fenced") throw new ClaimEnded("its lease has ended");
    }
  }

  /** Undefined: the call is worth another try. */
  async #outcomeOf(error: unknown, signal: AbortSignal): Promise<Outcome | undefined> {
    if (hasStatus(error, status.RESOURCE_EXHAUSTED)) throw new WorkerRefused(error.message, { cause: error });
    if (error instanceof NotConnected && (await this.#retractIfUnsent({ isUnreachable: true })))
      throw new WorkerUnreachable(error.message, { cause: error });
    if (error instanceof ClaimEnded) return this.#lost(error.message);
    if (isTransportFault(error)) {
      const state = await this.#claimState(signal);
      if (state === "fenced") return this.#lost(`not reachable: ${error.message}`);
      if (state === "alive" && this.#isOutOfReach(error))
        throw new RunOutOfReach(error.message, { cause: error });
      return undefined;
    }
    if (!(error instanceof RpcError)) throw error;
    // An earlier process of this worker may still run the job, and its claim may be valid.
    if (!(await this.#endAttempt(signal))) return undefined;
    return error.code === status.FAILED_PRECONDITION ? this.#lost(error.message) : this.#faulty(error);
  }

  /**
   * True: the attempt never began, and its number is free for the job's next claim, on another worker if there is one.
   * False: a run of it may exist, or the leases are unavailable.
   */
  async #retractIfUnsent({ isUnreachable = false } = {}): Promise<boolean> {
    if (this.#isSent) return false;
    const { claim, parts } = this;
    try {
      if (isUnreachable) await parts.leases.suspect(claim.workerId, claim.incarnation);
      return await parts.leases.retractUnsent(claim);
    } catch (error) {
      if (error instanceof LeasesUnavailable) return false;
      throw error;
    }
  }

  /** Only another orchestrator's pings keep a claim alive for a lease time without a connection. */
  #isOutOfReach(error: RpcError): boolean {
    if (!(error instanceof NotConnected)) return false;
    this.#unreachableSinceMs ??= performance.now();
    return performance.now() - this.#unreachableSinceMs >= this.parts.leaseTtlMs;
  }

  /**
   * Fenced: the claim has ended, and the run cannot get the tag any more. Waits until a confirmation from before another
   * orchestrator's fence has ended.
   */
  async #claimState(signal: AbortSignal): Promise<"alive" | "fenced" | "unknown"> {
    try {
      const fence = await this.parts.leases.fence(this.claim);
      if (fence.kind === "fenced") await sleep(fence.confirmedForMs, signal);
      return fence.kind;
    } catch (error) {
      if (error instanceof LeasesUnavailable) return "unknown";
      throw error;
    }
  }

  /** Resolves when no run of this attempt can get the tag any more. False: the leases are unavailable. */
  async #endAttempt(signal: AbortSignal): Promise<boolean> {
    try {
      const fence = await this.parts.leases.fence(this.claim, { evenIfAlive: true });
      if (fence.kind === "fenced") await sleep(fence.confirmedForMs, signal);
      return true;
    } catch (error) {
      if (error instanceof LeasesUnavailable) return false;
      throw error;
    }
  }

  #lost(why: string): Outcome {
    const { workerId, attempt } = this.claim;
    this.parts.logger.warn({ job_id: this.job.jobId, attempt, worker_id: workerId, why }, "worker lost");
    return { ...this.#failed("WORKER_LOST", `worker ${workerId} was lost: ${why}`), isWorkerLost: true };
  }

  /** The worker answered, and a repeated call would end the same way: another attempt may get another worker. */
  #faulty(error: RpcError): Outcome {
    const { workerId, attempt } = this.claim;
    const answer = status[error.code];
    this.parts.logger.warn(
      { err: error, job_id: this.job.jobId, attempt, worker_id: workerId },
      "worker failed to handle the call",
    );
    return this.#failed("INTERNAL", `worker ${workerId} answered RunJob with ${answer}: ${error.message}`);
  }

  #failed(code: ErrorCode, message: string): Outcome {
    return {
      status: "FAILED",
      failure: { code, step: "dispatch", retryable: true, message },
      logs: [],
      log: emptyLog(),
      timingsMs: { clone: 0, build: 0, auth: 0, push: 0, total: Date.now() - this.assignedAt.getTime() },
      startedAt: this.assignedAt,
      finishedAt: new Date(),
    };
  }

  /**
   * Publishes the run's states until the call ends. Best effort: a failure here is logged and does not end the run, and
   * once the outcome is known it is not worth another try, for which the result would have to wait.
   */
  async #publishStates(client: WorkerClient, signal: AbortSignal): Promise<void> {
    const delay = new Backoff({ initialMs: 50, maxMs: 2000 });
    let afterSeq = 0;
    while (!signal.aborted) {
      try {
        const options = { afterSeq, statesOnly: true };
        for await (const event of client.watchJob(this.claim, this.claim.incarnation, options, signal)) {
          afterSeq = event.seq;
          if (event.state !== undefined) await this.#publishState(event.state);
        }
        return;
      } catch (error) {
        this.parts.logger.debug({ err: error, job_id: this.job.jobId }, "failed to watch the run");
        if (this.#hasOutcome) return;
        await sleep(delay.nextMs(), signal).catch(() => undefined);
      }
    }
  }

  /** Not at the claim: a duplicate of an ended job is claimed too, and released without a run. */
  async #publishAssigned(): Promise<void> {
    if (this.publishedStates.has("ASSIGNED")) return;
    await this.#publish("ASSIGNED", { worker_id: this.claim.workerId, ...this.placed });
  }

  async #publishState(runState: RunState): Promise<void> {
    const state = PUBLISHED_STATES.get(runState);
    if (state === undefined || this.publishedStates.has(state)) return;
    await this.#publish(state);
  }

  async #publish(state: JobState, detail?: Readonly<Record<string, unknown>>): Promise<void> {
    const { jobId, tenant } = this.job;
    await this.parts.events.publish({ jobId, tenant, attempt: this.claim.attempt, state, detail });
  }

  #request(): JobRequest {
    const { job, claim } = this;
    const requestedTimeoutMs =
      job.timeoutSeconds === undefined ? Number.POSITIVE_INFINITY : job.timeoutSeconds * 1000;
    return {
      jobId: job.jobId,
      attempt: claim.attempt,
      incarnation: claim.incarnation,
      repoUrl: job.repoUrl,
      branch: job.branch,
      commit: job.commit ?? "",
      gitDepth: job.gitDepth,
      gitTags: job.gitTags,
      gitToken: job.gitToken ?? "",
      deploymentVersion: job.deploymentVersion,
      tenant: job.tenant,
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
      registryAuths: wireLogins(job.registryAuths),
      mayReuse: job.reuse !== "never",
      knownImages: [...this.images.knownImages],
      versionImages: [...this.images.versionImages],
      timeoutMs: Math.min(requestedTimeoutMs, this.parts.jobTimeoutMs),
    };
  }
}

function wireLogins(logins: Job["registryAuths"]): Record<string, WireLogin> {
  const absent = { username: "", password: "", identityToken: "" };
  return Object.fromEntries(Object.entries(logins).map(([host, login]) => [host, { ...absent, ...login }]));
}

/** Without the final states: the Result Publisher publishes those once the job has its result. */
const PUBLISHED_STATES: ReadonlyMap<RunState, JobState> = new Map([
  [RunState.RUN_STATE_CLONING, "CLONING"],
  [RunState.RUN_STATE_AUTHENTICATING, "AUTHENTICATING"],
  [RunState.RUN_STATE_BUILDING, "BUILDING"],
  [RunState.RUN_STATE_PUSHING, "PUSHING"],
]);
