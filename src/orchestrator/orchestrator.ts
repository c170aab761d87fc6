/** One orchestrator: its components, and the servers on which it listens. */
import type { Logger } from "../shared/logging.ts";
import type { RpcAddress } from "../shared/rpc/address.ts";
import { type RpcServer, serveRpc } from "../shared/rpc/server.ts";
import type { TlsFiles } from "../shared/rpc/tls.ts";
import type { ServiceState } from "../shared/service-manager.ts";
import { createAdminApp } from "./admin/app.ts";
import type { AdminParts } from "./admin/parts.ts";
import { type AdminServer, serveAdmin } from "./admin/server.ts";
import { submitJob } from "./admin/submit-job.ts";
import { createComponents } from "./components.ts";
import type { AdminAccess, SchedulingSettings } from "./config.ts";
import type { Leases } from "./leases/leases.ts";
import { OrchestratorState } from "./orchestrator-state.ts";
import type { JobQueue } from "./queue/queue.ts";
import type { JobRecords } from "./records/job-records.ts";
import { orchestratorService } from "./service.ts";
import { WorkerClient } from "./workers/worker-client.ts";

export interface OrchestratorParts {
  readonly queue: JobQueue;
  readonly leases: Leases;
  readonly records: JobRecords;
  /** Names of the two servers in the response of /readyz. */
  readonly names: { readonly queue: string; readonly leases: string };
  readonly settings: SchedulingSettings;
  /** Undefined: no admin API. */
  readonly admin: AdminAccess | undefined;
  readonly grpcListen: RpcAddress;
  readonly tls: TlsFiles | undefined;
  readonly logger: Logger;
  /** Of the Dispatcher. */
  readonly pollIntervalMs?: number;
}

export interface Orchestrator {
  /** 0 on a socket file. */
  readonly grpcPort: number;
  /** Undefined without an admin API. */
  readonly adminPort: number | undefined;
  describe(): Promise<ServiceState>;
  /** Takes no new jobs; resolves when this orchestrator processes none. */
  drain(): Promise<void>;
  /** Stops at once: running builds continue without this orchestrator, and their messages return to the queues. */
  stop(): Promise<void>;
}

const STOP_GRACE_MS = 500;

/** @throws Error when listening on an address fails. */
export async function startOrchestrator(parts: OrchestratorParts): Promise<Orchestrator> {
  const { queue, leases, records, settings, logger } = parts;
  const connect = (address: string) => new WorkerClient(address, parts.tls);
  const connectDedicated = (address: string) => new WorkerClient(address, parts.tls, { isDedicated: true });
  const components = createComponents({ ...parts, connect });
  const { workers, canceller, regions, rules } = components;

  const submit: AdminParts["submit"] = (body, signal, properties) =>
    submitJob({ queue, records, rules, regions }, body, signal, properties);
  const cancel = (jobId: string, reason: string) => canceller.cancel(jobId, reason);
  const { region, regionFallback } = settings;
  const serve = (access: AdminAccess): AdminServer =>
    serveAdmin(
      createAdminApp({
        ...parts,
        ...access,
        connect,
        connectDedicated,
        submit,
        cancel,
        region,
        regions,
        regionFallback,
      }),
      access.listen,
      logger,
    );
  const admin = parts.admin && serve(parts.admin);
  const service = orchestratorService({ ...parts, workers, times: settings });
  const grpc: RpcServer = await serveRpc([service], parts.grpcListen, parts.tls);
  // On a socket file there is no port.
  logger.info({ grpc_port: grpc.port || undefined, admin_port: admin?.port }, "orchestrator listens");

  queue.start();
  leases.start();
  records.start();
  components.start();

  const state = new OrchestratorState({ ...parts, runningJobs: () => components.running() });
  return {
    grpcPort: grpc.port,
    adminPort: admin?.port,
    describe: () => state.describe(),
    drain: () => components.drain(),
    async stop() {
      // What still waits after that ends with the queue.
      await components.stop();
      await queue.close();
      await grpc.stop(STOP_GRACE_MS);
      await admin?.stop();
      await leases.close();
      await records.close();
    },
  };
}
