/**
 * Health Checker: pings every worker with a live lease, a new one at once. Responses renew the lease and the claims of
 * reported runs, and show that this orchestrator reaches the worker: it assigns no jobs to others.
 */
import type { RunRef } from "../shared/job.ts";
import type { Logger } from "../shared/logging.ts";
import { type PingResponse, WorkerStatus } from "../shared/rpc/generated/blacktree/v1/worker.ts";
import { type Leases, LeasesUnavailable, type WorkerView } from "./leases/leases.ts";
import type { LogCollection, RunAtWorker } from "./logs/log-collector.ts";
import type { JobQueue } from "./queue/queue.ts";
import type { WorkerClient } from "./workers/worker-client.ts";

export interface HealthCheckerParts {
  readonly leases: Leases;
  readonly queue: Pick<JobQueue, "isReady">;
  readonly logs: Pick<LogCollection, "adopt">;
  readonly logger: Logger;
  readonly pingIntervalMs: number;
  readonly leaseTtlMs: number;
  connect(address: string): WorkerClient;
  /** Jobs with an active or finished run on a worker whose outcome no orchestrator waits for. */
  onUnawaited(jobIds: readonly string[]): void;
  /** Called in every ping round while there are live workers, and this orchestrator reaches none of them. */
  onNoneReached(): void;
}

const STATUS_NAMES = {
  [WorkerStatus.WORKER_STATUS_FREE]: "FREE",
  [WorkerStatus.WORKER_STATUS_BUSY]: "BUSY",
  [WorkerStatus.WORKER_STATUS_DRAINING]: "DRAINING",
} as const;

export class HealthChecker {
  /** By address. */
  readonly #clients = new Map<string, WorkerClient>();
  /** Each start of a worker has at most one pending ping, so that a slow worker does not delay the others. */
  readonly #pending = new Set<string>();
  #timer: NodeJS.Timeout | undefined;
  /** A worker may have registered since the last listing. */
  #isListingDue = false;
  #isListing = false;
  #noneReachedSinceMs: number | undefined;
  #isNoneReachedLogged = false;
  #lastPingError: unknown;

  constructor(private readonly parts: HealthCheckerParts) {}

  start(): void {
    this.parts.leases.onRegistered(() => this.#run(() => this.#pingUnreached()));
    this.#timer = setInterval(() => this.#run(() => this.#pingAll()), this.parts.pingIntervalMs);
  }

  stop(): void {
    clearInterval(this.#timer);
    this.#timer = undefined;
    for (const client of this.#clients.values()) client.close();
    this.#clients.clear();
  }

  #run(check: () => Promise<void>): void {
    if (this.#timer === undefined) return;
    check().catch((error: unknown) => {
      if (!(error instanceof LeasesUnavailable))
        this.parts.logger.error({ err: error }, "health check failed");
    });
  }

  async #pingAll(): Promise<void> {
    const live = await this.#liveWorkers();
    this.#closeUnusedClients(live);
    this.#reportReach(live);
    await Promise.all(live.map((worker) => this.#check(worker)));
  }

  /** A job waits for no ping round when a worker registers. One listing at a time, however many register at once. */
  async #pingUnreached(): Promise<void> {
    this.#isListingDue = true;
    if (this.#isListing) return;
    this.#isListing = true;
    try {
      while (this.#isListingDue) {
        this.#isListingDue = false;
        const unreached = (await this.#liveWorkers()).filter(({ isReached }) => !isReached);
        for (const worker of unreached) this.#run(() => this.#check(worker));
      }
    } finally {
      this.#isListing = false;
    }
  }

  async #liveWorkers(): Promise<readonly WorkerView[]> {
    return (await this.parts.leases.workers()).filter(({ hasLease }) => hasLease);
  }

  /** Logged after a lease time: by then a worker that has just died is not live any more. */
  #reportReach(live: readonly WorkerView[]): void {
    if (live.length === 0 || live.some(({ isReached }) => isReached)) {
      this.#noneReachedSinceMs = undefined;
      if (live.length > 0 && this.#isNoneReachedLogged) {
        this.#isNoneReachedLogged = false;
        this.parts.logger.info("workers are reachable again");
      }
      return;
    }
    this.parts.onNoneReached();
    const nowMs = performance.now();
    this.#noneReachedSinceMs ??= nowMs;
    if (this.#isNoneReachedLogged || nowMs - this.#noneReachedSinceMs < this.parts.leaseTtlMs) return;
    this.#isNoneReachedLogged = true;
    this.parts.logger.error(
      { workers: live.length, err: this.#lastPingError },
      "this orchestrator reaches none of the live workers, and assigns no jobs until it does: check the network, and BLACKTREE_WORKER_ADVERTISE and the TLS certificates of both",
    );
  }

  async #check(worker: WorkerView): Promise<void> {
    const pinged = `${worker.workerId} ${worker.incarnation}`;
    if (this.#pending.has(pinged)) return;
    this.#pending.add(pinged);
    try {
      const response = await this.#ping(worker);
      if (response) await this.#observe(worker, response);
      else await this.parts.leases.suspect(worker.workerId, worker.incarnation);
    } finally {
      this.#pending.delete(pinged);
    }
  }

  /** Undefined: the ping was missed. */
  async #ping(worker: WorkerView): Promise<PingResponse | undefined> {
    try {
      const request = { reachesBroker: this.parts.queue.isReady };
      return await this.#client(worker.address).ping(request, this.parts.pingIntervalMs);
    } catch (error) {
      this.#lastPingError = error;
      this.parts.logger.warn(
        { err: error, worker_id: worker.workerId, address: worker.address },
        "ping missed",
      );
      // A channel can stay in CONNECTING for ever, so the next ping uses a new one.
      this.#clients.get(worker.address)?.close();
      this.#clients.delete(worker.address);
      return undefined;
    }
  }

  /** Another process may answer at a lost worker's address. */
  async #observe(worker: WorkerView, response: PingResponse): Promise<void> {
    const { workerId, incarnation } = response;
    if (workerId !== worker.workerId || incarnation !== worker.incarnation) {
      if (workerId !== worker.workerId) this.#reportAnother(worker, workerId);
      await this.parts.leases.suspect(worker.workerId, worker.incarnation);
      return;
    }
    const status = STATUS_NAMES[response.status as keyof typeof STATUS_NAMES] ?? "BUSY";
    const runs: readonly RunRef[] = response.runs;
    const refusal = response.refusal || undefined;
    const { load } = response;
    const stale = await this.parts.leases.observe(workerId, incarnation, { status, runs, refusal, load });
    if (!stale) return;
    for (const run of stale) await this.#discard(worker, run);
    for (const run of response.replacedRuns) this.parts.logs.adopt(runAt(worker, run));
    const staleIds = new Set(stale.map((run) => run.jobId));
    const unawaited = response.unawaitedJobIds.filter((jobId) => !staleIds.has(jobId));
    if (unawaited.length > 0) this.parts.onUnawaited(unawaited);
  }

  #reportAnother({ workerId, address }: WorkerView, answering: string): void {
    this.parts.logger.warn(
      { worker_id: workerId, address, answering_worker_id: answering },
      "another worker answers at this worker's address, so this one counts as lost: give each worker another address with BLACKTREE_WORKER_ADVERTISE",
    );
  }

  /**
   * An active run: the worker was unreachable for too long, and the job has another attempt, so this run cannot get the
   * tag any more. An ended run: its log is to be copied, by another orchestrator if one is alive that handled it.
   */
  async #discard(worker: WorkerView, ref: RunRef): Promise<void> {
    const run = runAt(worker, ref);
    const { jobId: job_id, attempt, workerId: worker_id, incarnation } = run;
    const fields = { job_id, attempt, worker_id };
    try {
      const isActive = await this.#client(run.address).cancel(
        run,
        incarnation,
        "another attempt has the job",
      );
      if (isActive) this.parts.logger.warn(fields, "stale run ended");
      else this.parts.logs.adopt(run);
    } catch (error) {
      this.parts.logger.warn({ err: error, ...fields }, "failed to end a stale run");
    }
  }

  #client(address: string): WorkerClient {
    const known = this.#clients.get(address);
    if (known) return known;
    const client = this.parts.connect(address);
    this.#clients.set(address, client);
    return client;
  }

  #closeUnusedClients(live: readonly WorkerView[]): void {
    const addresses = new Set(live.map((worker) => worker.address));
    for (const [address, client] of this.#clients) {
      if (addresses.has(address)) continue;
      client.close();
      this.#clients.delete(address);
    }
  }
}

function runAt({ workerId, incarnation, address }: WorkerView, { jobId, attempt }: RunRef): RunAtWorker {
  return { jobId, attempt, workerId, incarnation, address };
}
