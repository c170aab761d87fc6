/** One start of an orchestrator: the components as startOrchestrator connects them, in a simulated process. */
import { Availability } from "../../../../src/orchestrator/availability.ts";
import { Canceller } from "../../../../src/orchestrator/canceller.ts";
import { Dispatcher } from "../../../../src/orchestrator/dispatcher.ts";
import { EndedRuns } from "../../../../src/orchestrator/ended-runs.ts";
import { HealthChecker } from "../../../../src/orchestrator/health-checker.ts";
import { Intake } from "../../../../src/orchestrator/intake.ts";
import { JobEvents } from "../../../../src/orchestrator/job/events.ts";
import { JobRunner } from "../../../../src/orchestrator/job-runner.ts";
import type { Leases } from "../../../../src/orchestrator/leases/leases.ts";
import type { JobRecords } from "../../../../src/orchestrator/records/job-records.ts";
import { ResultHandler } from "../../../../src/orchestrator/result-handler.ts";
import { ResultPublisher } from "../../../../src/orchestrator/result-publisher.ts";
import { orchestratorService } from "../../../../src/orchestrator/service.ts";
import { WorkerManager } from "../../../../src/orchestrator/worker-manager.ts";
import { waitAtMost } from "../../../../src/shared/abort.ts";
import type { Logger } from "../../../../src/shared/logging.ts";
import type { Connection } from "./broker.ts";
import type { Network } from "./network.ts";
import { connectToWorker } from "./worker-client.ts";

export const SETTINGS = {
  region: "us-east-1",
  regionFallback: ["us-east-1", "us-west-2"],
  pingIntervalMs: 2000,
  leaseTtlMs: 6000,
  maxAttempts: 3,
  jobTimeoutMs: 60_000,
  jobMemoryMs: 86_400_000,
  unsupportedAfterMs: 30_000,
  resultLogLines: 10,
} as const;

/** As in src/orchestrator/orchestrator.ts. */
const STOP_WORK_MS = 3000;

const GIT = { baseUrl: "https://github.com", allowedHosts: [] };

export interface OrchestratorParts {
  readonly address: string;
  readonly network: Network;
  readonly connection: Connection;
  readonly leases: Leases;
  readonly records: JobRecords;
  readonly logger: Logger;
  readonly pollIntervalMs: number;
}

export interface Orchestrator {
  readonly connection: Connection;
  cancel(jobId: string): Promise<unknown>;
  /** Up to the closing of the connection to the broker. */
  stop(): Promise<void>;
}

export function startOrchestrator(parts: OrchestratorParts): Orchestrator {
  const { network, connection, leases, records, logger, pollIntervalMs } = parts;
  const { process } = connection;
  const queue = connection;
  const connect = (address: string) => connectToWorker(network, process, address);
  const events = new JobEvents(records, queue, logger);
  const publisher = new ResultPublisher({ queue, records, events, logger });
  const results = new ResultHandler({ ...SETTINGS, queue, leases, records, events, publisher, logger });
  const workers = new WorkerManager({ ...SETTINGS, leases, records, events, logger, connect });
  const rules = { git: GIT, defaultRegion: SETTINGS.region };
  const runner = new JobRunner({ leases, records, workers, results, logger });
  const dispatcher = new Dispatcher({
    ...SETTINGS,
    queue,
    leases,
    records,
    workers,
    runner,
    results,
    logger,
    rules,
    pollIntervalMs,
  });
  const onCancelled = (jobId: string) => dispatcher.onCancelled(jobId);
  const canceller = new Canceller({ leases, records, publisher, logger, connect, onCancelled });
  const intake = new Intake({ queue, records, events, publisher, canceller, logger, rules });
  const endedRuns = new EndedRuns({ records, leases, logger });
  const onUnawaited = (jobIds: readonly string[]) => {
    dispatcher.recoverUnawaited(jobIds);
    void endedRuns.release(jobIds);
  };
  const onNoneReached = () => void dispatcher.returnHeld();
  const pinged = { ...SETTINGS, leases, queue, logger, connect };
  const healthChecker = new HealthChecker({ ...pinged, onUnawaited, onNoneReached });
  const availability = new Availability({ leases, records, intake, dispatcher, logger });
  network.serve(parts.address, process, orchestratorService(workers, SETTINGS, logger));
  dispatcher.start();
  healthChecker.start();
  canceller.start();
  intake.start();
  availability.start();
  return {
    connection,
    cancel: (jobId) => canceller.cancel(jobId, "not needed any more"),
    async stop() {
      availability.stop();
      await waitAtMost(STOP_WORK_MS, intake.stop());
      await waitAtMost(STOP_WORK_MS, dispatcher.stop());
      healthChecker.stop();
      canceller.stop();
    },
  };
}
