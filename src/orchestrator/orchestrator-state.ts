/** The orchestrator's state in one line, for the service manager. */
import { waitAtMost } from "../shared/abort.ts";
import type { ServiceState } from "../shared/service-manager.ts";
import { countByStatus } from "./admin/worker-view.ts";
import type { Leases } from "./leases/leases.ts";
import type { JobQueue } from "./queue/queue.ts";
import type { JobRecords } from "./records/job-records.ts";

export interface OrchestratorStateParts {
  readonly queue: Pick<JobQueue, "isReady" | "waiting">;
  readonly leases: Pick<Leases, "isReady" | "workers">;
  readonly records: Pick<JobRecords, "isReady">;
  readonly names: { readonly queue: string; readonly leases: string };
  /** Of this orchestrator; the other numbers are those of the installation. */
  runningJobs(): number;
}

/** Readiness does not depend on the numbers. */
const COUNT_TIMEOUT_MS = 2000;

export class OrchestratorState {
  #counts = "workers and waiting jobs not counted yet";
  /** One at a time: a broker may leave a count unanswered. */
  #counting: Promise<void> | undefined;

  constructor(private readonly parts: OrchestratorStateParts) {}

  async describe(): Promise<ServiceState> {
    const { queue, leases, records, names, runningJobs } = this.parts;
    const missing = [
      ...(queue.isReady ? [] : [names.queue]),
      ...(leases.isReady && records.isReady ? [] : [names.leases]),
    ];
    if (missing.length > 0)
      return { isReady: false, isProgressing: false, status: `waiting for ${missing.join(" and ")}` };
    this.#counting ??= this.#count().finally(() => {
      this.#counting = undefined;
    });
    await waitAtMost(COUNT_TIMEOUT_MS, this.#counting);
    return {
      isReady: true,
      isProgressing: false,
      status: `${runningJobs()} jobs running here; ${this.#counts}`,
    };
  }

  async #count(): Promise<void> {
    const { queue, leases } = this.parts;
    try {
      const [views, waiting] = await Promise.all([leases.workers(), queue.waiting()]);
      const counts = Object.entries(countByStatus(views)).filter(([, count]) => count > 0);
      const workers = counts.map(([status, count]) => `${count} ${status}`).join(", ") || "none";
      this.#counts = `${waiting} jobs waiting; workers: ${workers}`;
    } catch (error) {
      this.#counts = `cannot count workers and waiting jobs: ${error instanceof Error ? error.message : error}`;
    }
  }
}
