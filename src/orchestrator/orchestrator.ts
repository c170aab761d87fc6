/** One orchestrator: connects the components of src/FLOW.md with a queue, leases and records of any implementation. */
import { waitAtMost } from "../shared/abort.ts";
import type { Logger } from "../shared/logging.ts";
import { type RpcServer, serveRpc } from "../shared/rpc/server.ts";
import type { TlsFiles } from "../shared/rpc/tls.ts";
import type { HostPort } from "../shared/settings/parsers.ts";
import { createAdminApp } from "./admin/app.ts";
import { type AdminServer, serveAdmin } from "./admin/server.ts";
import { submitJob } from "./admin/submit-job.ts";
import { Availability } from "./availability.ts";
import { Canceller } from "./canceller.ts";
import type { SchedulingSettings } from "./config.ts";
import { Dispatcher } from "./dispatcher.ts";
import { EndedRuns } from "./ended-runs.ts";
import { HealthChecker } from "./health-checker.ts";
import { Intake } from "./intake.ts";
import { JobEvents } from "./job/events.ts";
import { JobRunner } from "./job-runner.ts";
import { KnownRegions } from "./known-regions.ts";
import type { Leases } from "./leases/leases.ts";
import { Parking } from "./parking.ts";
import type { JobQueue } from "./queue/queue.ts";
import type { JobRecords } from "./records/job-records.ts";
import { ResultHandler } from "./result-handler.ts";
import { ResultPublisher } from "./result-publisher.ts";
import { orchestratorService } from "./service.ts";
import { WorkerManager } from "./worker-manager.ts";
import { WorkerClient } from "./workers/worker-client.ts";

export interface OrchestratorParts {
  readonly queue: JobQueue;
  readonly leases: Leases;
  readonly records: JobRecords;
  /** Names of the two servers in the response of /readyz. */
  readonly names: { readonly queue: string; readonly leases: string };
  readonly settings: SchedulingSettings;
  readonly grpcListen: HostPort;
  readonly tls: TlsFiles | undefined;
  readonly logger: Logger;
  /** Of the Dispatcher. */
  readonly pollIntervalMs?: number;
}

export interface Orchestrator {
  readonly grpcPort: number;
  readonly adminPort: number;
  /** Takes no new jobs; resolves when this orchestrator processes none. */
  drain(): Promise<void>;
  /** Stops at once: running builds continue without this orchestrator, and their messages return to the queues. */
  stop(): Promise<void>;
}

const STOP_GRACE_MS = 500;
/** How long the intake, and then the dispatcher, may take to finish what they have begun. */
const STOP_WORK_MS = 3000;

/** @throws Error when listening on an address fails. */
export async function startOrchestrator(parts: OrchestratorParts): Promise<Orchestrator> {
  const { queue, leases, records, settings, logger } = parts;
  const connect = (address: string) => new WorkerClient(address, parts.tls);
  const connectDedicated = (address: string) => new WorkerClient(address, parts.tls, { isDedicated: true });
  const git = { baseUrl: settings.gitBaseUrl, allowedHosts: settings.gitAllowedHosts };

  const events = new JobEvents(records, queue, logger);
  const publisher = new ResultPublisher({ queue, records, events, logger });
  const results = new ResultHandler({ ...settings, queue, leases, records, events, publisher, logger });
  const workers = new WorkerManager({ ...settings, leases, records, events, logger, connect });
  const rules = { git, defaultRegion: settings.region };
  const runner = new JobRunner({ leases, records, workers, results, logger });
  const dispatcher = new Dispatcher({
    ...settings,
    queue,
    leases,
    records,
    workers,
    runner,
    results,
    logger,
    rules,
    pollIntervalMs: parts.pollIntervalMs,
  });
  const onCancelled = (jobId: string) => dispatcher.onCancelled(jobId);
  const canceller = new Canceller({ leases, records, publisher, logger, connect, onCancelled });
  const regions = new KnownRegions({ ...settings, leases, records, logger });
  const parking = new Parking({ ...settings, queue, regions, logger });
  const intake = new Intake({
    queue,
    records,
    events,
    publisher,
    canceller,
    regions,
    parking,
    logger,
    rules,
  });
  const endedRuns = new EndedRuns({ records, leases, logger });
  const onUnawaited = (jobIds: readonly string[]) => {
    dispatcher.recoverUnawaited(jobIds);
    void endedRuns.release(jobIds);
  };
  const onNoneReached = () => void dispatcher.returnHeld();
  const pinged = { ...settings, leases, queue, logger, connect };
  const healthChecker = new HealthChecker({ ...pinged, onUnawaited, onNoneReached });
  const availability = new Availability({ leases, records, intake, dispatcher, logger });

  const { adminToken: token, adminListen: listen, region } = settings;
  const submit = (body: Buffer, signal: AbortSignal) =>
    submitJob({ queue, records, rules, regions }, body, signal);
  const cancel = (jobId: string, reason: string) => canceller.cancel(jobId, reason);
  const app = createAdminApp({ ...parts, connectDedicated, submit, cancel, region, token, listen });
  const admin: AdminServer = serveAdmin(app, settings.adminListen);
  const service = orchestratorService(workers, settings, logger);
  const grpc: RpcServer = await serveRpc([service], parts.grpcListen, parts.tls);
  logger.info({ grpc_port: grpc.port, admin_port: admin.port }, "orchestrator listens");

  queue.start();
  leases.start();
  records.start();
  dispatcher.start();
  healthChecker.start();
  canceller.start();
  regions.start();
  parking.start();
  intake.start();
  availability.start();

  return {
    grpcPort: grpc.port,
    adminPort: admin.port,
    async drain() {
      availability.stop();
      await intake.stop();
      await dispatcher.stop();
      await dispatcher.idle();
    },
    async stop() {
      availability.stop();
      // What still waits after that, for example for a broker that blocks publishers, ends with the queue.
      await waitAtMost(STOP_WORK_MS, intake.stop());
      await waitAtMost(STOP_WORK_MS, dispatcher.stop());
      healthChecker.stop();
      canceller.stop();
      regions.stop();
      parking.stop();
      await queue.close();
      await grpc.stop(STOP_GRACE_MS);
      await admin.stop();
      await leases.close();
      await records.close();
    },
  };
}
