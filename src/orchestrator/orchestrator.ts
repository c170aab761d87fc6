/** One orchestrator: its components, and the servers on which it listens. */
import { waitAtMost } from "../shared/abort.ts";
import type { Logger } from "../shared/logging.ts";
import { formatRpcAddress, type RpcAddress } from "../shared/rpc/address.ts";
import { reachableAddress } from "../shared/rpc/advertised-address.ts";
import { type RpcServer, serveRpc } from "../shared/rpc/server.ts";
import type { TlsFiles } from "../shared/rpc/tls.ts";
import type { ServiceState } from "../shared/service-manager.ts";
import type { HostPort } from "../shared/settings/parsers.ts";
import { createAdminApp } from "./admin/app.ts";
import type { AdminParts } from "./admin/parts.ts";
import { type AdminServer, serveAdmin } from "./admin/server.ts";
import { submitJob } from "./admin/submit-job.ts";
import { createComponents } from "./components.ts";
import type { AdminAccess, SchedulingSettings } from "./config.ts";
import type { Leases } from "./leases/leases.ts";
import { announceAddress } from "./logs/announcement.ts";
import { AttemptLogs } from "./logs/attempt-log.ts";
import { JobLogs } from "./logs/job-logs.ts";
import { LogCollector } from "./logs/log-collector.ts";
import type { LogKeeping } from "./logs/log-keeping.ts";
import { readPeerLog } from "./logs/log-peer.ts";
import type { LogKey } from "./logs/log-store.ts";
import { OrchestratorState } from "./orchestrator-state.ts";
import type { JobQueue } from "./queue/queue.ts";
import type { JobRecords } from "./records/job-records.ts";
import { orchestratorService } from "./service.ts";
import { WorkerClient } from "./workers/worker-client.ts";

export interface OrchestratorParts {
  readonly queue: JobQueue;
  readonly leases: Leases;
  readonly records: JobRecords;
  readonly logs: LogKeeping;
  /** Names of the two servers in the response of /readyz. */
  readonly names: { readonly queue: string; readonly leases: string };
  readonly settings: SchedulingSettings;
  /** Undefined: no admin API. */
  readonly admin: AdminAccess | undefined;
  readonly grpcListen: RpcAddress;
  /** For other orchestrators; undefined: the first address that the listener is reachable at. */
  readonly grpcAdvertise?: HostPort;
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
/** Logs that are not copied by then are copied by another orchestrator. */
const FINISH_COPIES_MS = 1000;

/** @throws Error when listening on an address fails. */
export async function startOrchestrator(parts: OrchestratorParts): Promise<Orchestrator> {
  const { queue, leases, records, settings, logger } = parts;
  const connect = (address: string) => new WorkerClient(address, parts.tls);
  const connectDedicated = (address: string) => new WorkerClient(address, parts.tls, { isDedicated: true });
  const { store, folder, place, places } = parts.logs;
  const readPeer = (address: string, key: LogKey, afterSeq: number, signal: AbortSignal) =>
    readPeerLog(address, parts.tls, key, afterSeq, signal);
  const attempts = new AttemptLogs({ ...parts.logs, id: folder.id, leases, connectDedicated, readPeer });
  const logs = new JobLogs({ records, places, leases, attempts });
  const collector = new LogCollector({ store, folder, place, places, records, logger, connectDedicated });
  const components = createComponents({ ...parts, logs: collector, connect });
  const { workers, canceller, regions, rules } = components;

  const submit: AdminParts["submit"] = (body, signal, properties) =>
    submitJob({ queue, records, rules, regions }, body, signal, properties);
  const cancel = (jobId: string, reason: string) => canceller.cancel(jobId, reason);
  const { region, regionFallback, unsupportedAfterMs } = settings;
  const serve = (access: AdminAccess): AdminServer =>
    serveAdmin(
      createAdminApp({
        ...parts,
        ...access,
        connect,
        logs,
        submit,
        cancel,
        region,
        git: rules.git,
        regions,
        regionFallback,
        unsupportedAfterMs,
      }),
      access.listen,
      logger,
    );
  const admin = parts.admin && serve(parts.admin);
  const service = orchestratorService({ ...parts, workers, logs: attempts, times: settings });
  const grpc: RpcServer = await serveRpc([service], parts.grpcListen, parts.tls);
  // On a socket file there is no port.
  logger.info({ grpc_port: grpc.port || undefined, admin_port: admin?.port }, "orchestrator listens");

  queue.start();
  leases.start();
  records.start();
  places.start();
  collector.start();
  const address = parts.grpcAdvertise ?? reachableAddress(parts.grpcListen, grpc);
  const stopping = new AbortController();
  const announced = announceAddress(places, folder.id, formatRpcAddress(address), stopping.signal);
  components.start();

  const state = new OrchestratorState({ ...parts, runningJobs: () => components.running() });
  return {
    grpcPort: grpc.port,
    adminPort: admin?.port,
    describe: () => state.describe(),
    async drain() {
      await components.drain();
      await collector.idle();
    },
    async stop() {
      // What still waits after that ends with the queue.
      await components.stop();
      await waitAtMost(FINISH_COPIES_MS, collector.idle());
      collector.stop();
      stopping.abort(new Error("the orchestrator stops"));
      await announced;
      await queue.close();
      await grpc.stop(STOP_GRACE_MS);
      await admin?.stop();
      await leases.close();
      await records.close();
      await parts.logs.stop();
      await places.close();
    },
  };
}
