/** Workers and what operators have ordered for them, as the API shows them. */
import { z } from "zod";
import type { EffectiveControl } from "../leases/control.ts";
import type { WorkerStatus, WorkerView } from "../leases/leases.ts";

export const WORKER_STATUS = z.enum(["FREE", "BUSY", "DRAINING", "LOST"]);

const CONTROL_FIELDS = {
  kind: z.enum(["paused", "drained"]),
  reason: z.string().meta({ description: "As the operator wrote it; may be empty." }),
  since: z.iso.datetime(),
};

export const CONTROL = z
  .object({
    ...CONTROL_FIELDS,
    scope: z.enum(["worker", "region"]).meta({ description: "Resuming it means resuming this one." }),
  })
  .nullable()
  .meta({ id: "Control", description: "An operator has taken it out of service; null if not." });

const LOAD = z
  .object({
    load_average: z.number().meta({ description: "Of the last minute." }),
    processors: z.int(),
    memory_bytes: z.int(),
    memory_available_bytes: z.int(),
    disk_bytes: z.int().meta({ description: "Of the file system of the work folder." }),
    disk_free_bytes: z.int(),
    cache_bytes: z.int().meta({ description: "Size of the checkout cache." }),
  })
  .meta({ id: "MachineLoad" });

export const WORKER = z
  .object({
    id: z.string(),
    region: z.string(),
    address: z.string().meta({ description: "Of its gRPC server, as orchestrators reach it." }),
    status: WORKER_STATUS.meta({
      description:
        "`LOST`: its lease has ended, or it did not answer the last ping of the orchestrator that answers. A paused worker is `BUSY`, a drained one `DRAINING`.",
    }),
    refusal: z
      .string()
      .nullable()
      .meta({ description: "Why it accepts no jobs although a slot may be free." }),
    control: CONTROL,
    jobs: z.array(z.string()).meta({ description: "Ids of the jobs that run on it." }),
    runs: z
      .array(
        z.object({
          job_id: z.string(),
          attempt: z.int(),
          since: z.iso.datetime().nullable().meta({ description: "Null after a loss of Redis's data." }),
        }),
      )
      .meta({ description: "The runs of these jobs." }),
    version: z.string(),
    slots: z.int(),
    capabilities: z.array(z.string()).meta({
      description: "What it can build.",
      examples: [["linux/amd64", "provenance"]],
    }),
    labels: z
      .record(z.string(), z.string())
      .meta({ description: "`BLACKTREE_WORKER_LABELS`.", examples: [{ rack: "7" }] }),
    load: LOAD.nullable().meta({ description: "Of its machine, at its last ping; null until it is known." }),
    last_seen: z.iso.datetime(),
  })
  .meta({ id: "Worker" });

export function shownWorker(worker: WorkerView): z.infer<typeof WORKER> {
  const { workerId: id, region, address, status, refusal = null, version, slots, lastSeen } = worker;
  return {
    id,
    region,
    address,
    status,
    refusal,
    control: shownControl(worker.control),
    jobs: [...worker.jobs],
    runs: worker.runs.map(({ jobId, attempt, since }) => ({
      job_id: jobId,
      attempt,
      since: since?.toISOString() ?? null,
    })),
    version,
    slots,
    capabilities: [...worker.capabilities],
    labels: { ...worker.labels },
    load: shownLoad(worker.load),
    last_seen: lastSeen.toISOString(),
  };
}

export function shownControl(control: EffectiveControl | undefined): z.infer<typeof CONTROL> {
  if (!control) return null;
  const { kind, reason, since, scope } = control;
  return { kind, reason, since: since.toISOString(), scope };
}

function shownLoad(load: WorkerView["load"]): z.infer<typeof LOAD> | null {
  return load
    ? {
        load_average: load.loadAverage,
        processors: load.processors,
        memory_bytes: load.memoryBytes,
        memory_available_bytes: load.memoryAvailableBytes,
        disk_bytes: load.diskBytes,
        disk_free_bytes: load.diskFreeBytes,
        cache_bytes: load.cacheBytes,
      }
    : null;
}

export function countByStatus(workers: readonly WorkerView[]): Record<WorkerStatus, number> {
  const counts = { FREE: 0, BUSY: 0, DRAINING: 0, LOST: 0 };
  for (const worker of workers) counts[worker.status] += 1;
  return counts;
}
