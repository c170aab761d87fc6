/** Health Checker: pings every worker with a live lease; responses renew the lease and the claims of reported runs. */
import type { RunRef } from "../shared/job.ts";
import type { Logger } from "../shared/logging.ts";
import { type PingResponse, WorkerStatus } from "../shared/rpc/generated/blacktree/v1/worker.ts";
import { type Leases, LeasesUnavailable, type WorkerView } from "./leases/leases.ts";
import type { JobQueue } from "./queue/queue.ts";
import type { WorkerClient } from "./workers/worker-client.ts";

export interface HealthCheckerParts {
  readonly leases: Leases;
  readonly queue: Pick<JobQueue, "isReady">;
  readonly logger: Logger;
  readonly pingIntervalMs: number;
  connect(address: string): WorkerClient;
  /** Jobs with an active or finished run on a worker whose outcome no orchestrator waits for. */
  onUnawaited(jobIds: readonly string[]): void;
}

const STATUS_NAMES = {
  [WorkerStatus.WORKER_STATUS_FREE]: "FREE",
  [WorkerStatus.WORKER_STATUS_BUSY]: "BUSY",
  [WorkerStatus.WORKER_STATUS_DRAINING]: "DRAINING",
} as const;

export class HealthChecker {
  /** By address. Each worker has at most one pending ping, so that a slow worker does not delay the others. */
  readonly #clients = new Map<string, WorkerClient>();
  readonly #pending = new Set<string>();
  #timer: NodeJS.Timeout | undefined;

  constructor(private readonly parts: HealthCheckerParts) {}

  start(): void {
    this.#timer = setInterval(() => this.#pingRound(), this.parts.pingIntervalMs);
  }

  stop(): void {
    clearInterval(this.#timer);
    for (const client of this.#clients.values()) client.close();
    this.#clients.clear();
  }

  #pingRound(): void {
    this.#pingAll().catch((error: unknown) => {
      if (!(error instanceof LeasesUnavailable))
        this.parts.logger.error({ err: error }, "health check failed");
    });
  }

  async #pingAll(): Promise<void> {
    const live = (await this.parts.leases.workers()).filter(({ hasLease }) => hasLease);
    this.#closeUnusedClients(live);
    await Promise.all(live.map((worker) => this.#check(worker)));
  }

  async #check(worker: WorkerView): Promise<void> {
    if (this.#pending.has(worker.address)) return;
    this.#pending.add(worker.address);
    try {
      const response = await this.#ping(worker);
      if (response) await this.#observe(worker, response);
      else await this.parts.leases.suspect(worker.workerId, worker.incarnation);
    } finally {
      this.#pending.delete(worker.address);
    }
  }

  /** Undefined: the ping was missed. */
  async #ping(worker: WorkerView): Promise<PingResponse | undefined> {
    try {
      const request = { reachesBroker: this.parts.queue.isReady };
      return await this.#client(worker.address).ping(request, this.parts.pingIntervalMs);
    } catch (error) {
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
      await this.parts.leases.suspect(worker.workerId, worker.incarnation);
      return;
    }
    const status = STATUS_NAMES[response.status as keyof typeof STATUS_NAMES] ?? "BUSY";
    const runs: readonly RunRef[] = response.runs;
    const refusal = response.refusal || undefined;
    const stale = await this.parts.leases.observe(workerId, incarnation, { status, runs, refusal });
    if (!stale) return;
    for (const run of stale) await this.#discard(worker, run);
    const staleIds = new Set(stale.map((run) => run.jobId));
    const unawaited = response.unawaitedJobIds.filter((jobId) => !staleIds.has(jobId));
    if (unawaited.length > 0) this.parts.onUnawaited(unawaited);
  }

  /** The worker was unreachable for too long and the job has another attempt: this run cannot get the tag any more. */
  async #discard(worker: WorkerView, run: RunRef): Promise<void> {
    const { jobId: job_id, attempt } = run;
    try {
      const isEnded = await this.#client(worker.address).discard(run, worker.incarnation);
      if (isEnded) this.parts.logger.warn({ job_id, attempt, worker_id: worker.workerId }, "stale run ended");
    } catch (error) {
      this.parts.logger.warn({ err: error, job_id, worker_id: worker.workerId }, "failed to end a stale run");
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
