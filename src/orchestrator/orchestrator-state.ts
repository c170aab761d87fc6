/** The orchestrator's state in one line, for the service manager. */
import type { ServiceState } from "../shared/service-manager.ts";
import { countByStatus } from "./admin/worker-routes.ts";
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

export async function describeOrchestrator(parts: OrchestratorStateParts): Promise<ServiceState> {
  const { queue, leases, records, names } = parts;
  const missing = [
    ...(queue.isReady ? [] : [names.queue]),
    ...(leases.isReady && records.isReady ? [] : [names.leases]),
  ];
  if (missing.length > 0)
    return { isReady: false, isProgressing: false, status: `waiting for ${missing.join(" and ")}` };
  const counts = Object.entries(countByStatus(await leases.workers())).filter(([, count]) => count > 0);
  const workers = counts.map(([status, count]) => `${count} ${status}`).join(", ") || "none";
  const jobs = `${parts.runningJobs()} running here, ${await queue.waiting()} waiting`;
  return { isReady: true, isProgressing: false, status: `workers: ${workers}; jobs: ${jobs}` };
}
