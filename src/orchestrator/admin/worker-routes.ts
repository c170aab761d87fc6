import type { Hono } from "hono";
import { COMMIT, VERSION } from "../../shared/version.ts";
import type { WorkerView } from "../leases/leases.ts";
import type { AdminEnv } from "./client-address.ts";
import type { AdminParts } from "./parts.ts";

export function addStatus(app: Hono<AdminEnv>, { queue, leases, names, region }: AdminParts): void {
  const startedAt = new Date().toISOString();
  app.get("/api/v1/status", async (context) => {
    const checks = { [names.queue]: queue.isReady, [names.leases]: leases.isReady };
    const workers = leases.isReady ? countByStatus(await leases.workers()) : null;
    return context.json({
      version: VERSION,
      commit: COMMIT,
      region,
      started_at: startedAt,
      connected: checks,
      workers,
    });
  });
  app.get("/api/v1/workers", async (context) => {
    const workers = await leases.workers();
    return context.json({ items: workers.map(shownWorker), next_cursor: null });
  });
}

export function countByStatus(workers: readonly WorkerView[]): Record<WorkerView["status"], number> {
  const counts = { FREE: 0, BUSY: 0, DRAINING: 0, LOST: 0 };
  for (const worker of workers) counts[worker.status] += 1;
  return counts;
}

function shownWorker(worker: WorkerView) {
  const { workerId: id, lastSeen, region, address, status, jobs, version, slots, capabilities } = worker;
  const { refusal = null } = worker;
  const last_seen = lastSeen.toISOString();
  return { id, region, address, status, refusal, jobs, version, slots, capabilities, last_seen };
}
