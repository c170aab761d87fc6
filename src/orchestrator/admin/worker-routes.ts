import type { Hono } from "hono";
import { z } from "zod";
import { COMMIT, VERSION } from "../../shared/version.ts";
import type { WorkerView } from "../leases/leases.ts";
import type { AdminEnv } from "./client-address.ts";
import { documented } from "./openapi.ts";
import type { AdminParts } from "./parts.ts";

export const WORKER_STATUS = z.enum(["FREE", "BUSY", "DRAINING", "LOST"]);

const WORKER = z
  .object({
    id: z.string(),
    region: z.string(),
    address: z.string().meta({ description: "Of its gRPC server, as orchestrators reach it." }),
    status: WORKER_STATUS.meta({
      description:
        "`LOST`: its lease has ended, or it did not answer the last ping of the orchestrator that answers.",
    }),
    refusal: z
      .string()
      .nullable()
      .meta({ description: "Why it accepts no jobs although a slot may be free." }),
    jobs: z.array(z.string()).meta({ description: "Ids of the jobs that run on it." }),
    version: z.string(),
    slots: z.int(),
    capabilities: z.array(z.string()).meta({
      description: "What it can build.",
      examples: [["linux/amd64", "provenance"]],
    }),
    last_seen: z.iso.datetime(),
  })
  .meta({ id: "Worker" });

const WORKERS = z.object({ items: z.array(WORKER), next_cursor: z.null() });

const STATUS = z
  .object({
    version: z.string(),
    commit: z.string(),
    region: z.string(),
    started_at: z.iso.datetime(),
    connected: z.record(z.string(), z.boolean()).meta({ description: "By the name of the server." }),
    workers: z
      .record(WORKER_STATUS, z.int())
      .nullable()
      .meta({ description: "Number of workers by status; null while they are not known." }),
  })
  .meta({ id: "Status" });

export function addStatus(app: Hono<AdminEnv>, { queue, leases, names, region }: AdminParts): void {
  const startedAt = new Date().toISOString();
  app.get(
    "/api/v1/status",
    documented({ summary: "State of this orchestrator", tag: "Orchestrator", answer: STATUS }),
    async (context) => {
      const checks = { [names.queue]: queue.isReady, [names.leases]: leases.isReady };
      const workers = leases.isReady ? countByStatus(await leases.workers()) : null;
      return context.json({
        version: VERSION,
        commit: COMMIT,
        region,
        started_at: startedAt,
        connected: checks,
        workers,
      } satisfies z.infer<typeof STATUS>);
    },
  );
  app.get(
    "/api/v1/workers",
    documented({ summary: "All workers", tag: "Workers", answer: WORKERS }),
    async (context) => {
      const workers = await leases.workers();
      return context.json({ items: workers.map(shownWorker), next_cursor: null });
    },
  );
}

export function countByStatus(workers: readonly WorkerView[]): Record<WorkerView["status"], number> {
  const counts = { FREE: 0, BUSY: 0, DRAINING: 0, LOST: 0 };
  for (const worker of workers) counts[worker.status] += 1;
  return counts;
}

function shownWorker(worker: WorkerView): z.infer<typeof WORKER> {
  const { workerId: id, lastSeen, region, address, status, version, slots } = worker;
  const { refusal = null } = worker;
  const [jobs, capabilities] = [[...worker.jobs], [...worker.capabilities]];
  return {
    id,
    region,
    address,
    status,
    refusal,
    jobs,
    version,
    slots,
    capabilities,
    last_seen: lastSeen.toISOString(),
  };
}
