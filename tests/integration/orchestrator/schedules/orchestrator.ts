/** One start of an orchestrator: its components, in a simulated process. */
import { tmpdir } from "node:os";
import { createComponents } from "../../../../src/orchestrator/components.ts";
import { loadOrchestratorSettings } from "../../../../src/orchestrator/config.ts";
import type { Leases } from "../../../../src/orchestrator/leases/leases.ts";
import type { LogCollection, RunAtWorker } from "../../../../src/orchestrator/logs/log-collector.ts";
import type { JobRecords } from "../../../../src/orchestrator/records/job-records.ts";
import { orchestratorService } from "../../../../src/orchestrator/service.ts";
import type { WorkerClient } from "../../../../src/orchestrator/workers/worker-client.ts";
import type { Logger } from "../../../../src/shared/logging.ts";
import { hostPort } from "../../../../src/shared/settings/parsers.ts";
import type { Connection } from "./broker.ts";
import type { Network } from "./network.ts";
import { connectToWorker } from "./worker-client.ts";

export const { values: SETTINGS } = loadOrchestratorSettings({
  flags: {},
  environment: {
    RABBITMQ_URL: "amqp://not-used",
    REDIS_URL: "redis://not-used",
    BLACKTREE_ADMIN_LISTEN: "off",
    BLACKTREE_REGION_FALLBACK: "us-east-1,us-west-2",
    BLACKTREE_PING_INTERVAL: "2s",
    BLACKTREE_LEASE_TTL: "6s",
    BLACKTREE_JOB_TIMEOUT: "1m",
    BLACKTREE_RESULT_LOG_LINES: "10",
    BLACKTREE_LOG_DIR: tmpdir(),
  },
});

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

/** Acknowledges runs without a copy of their logs. */
function withoutLogs(connect: (to: string) => WorkerClient, logger: Logger): LogCollection {
  const acknowledge = (run: RunAtWorker) => {
    connect(run.address)
      .acknowledge(run, run.incarnation)
      .catch((error: unknown) => logger.warn({ err: error }, "failed to acknowledge a run"));
  };
  return { keep: acknowledge, adopt: acknowledge, lost: () => undefined };
}

export function startOrchestrator(parts: OrchestratorParts): Orchestrator {
  const { address, network, connection, ...stores } = parts;
  const { process } = connection;
  const connect = (to: string): WorkerClient => connectToWorker(network, process, to);
  const logs = withoutLogs(connect, parts.logger);
  const components = createComponents({ ...stores, logs, queue: connection, settings: SETTINGS, connect });
  const service = orchestratorService({
    workers: components.workers,
    logs: { readOwn: async () => undefined },
    times: SETTINGS,
    grpcListen: hostPort(address),
    logger: parts.logger,
  });
  network.serve(address, process, service);
  components.start();
  return {
    connection,
    cancel: (jobId) => components.canceller.cancel(jobId, "not needed any more"),
    stop: () => components.stop(),
  };
}
