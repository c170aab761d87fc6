/** A worker's service over real gRPC; the test defines what its runs do. */
import { join } from "node:path";
import pino from "pino";
import { type RpcServer, serveRpc } from "../../../../src/shared/rpc/server.ts";
import { workerService } from "../../../../src/worker/control-plane/service.ts";
import { freeSpaceAt } from "../../../../src/worker/disk/free-space.ts";
import type { PipelineJob } from "../../../../src/worker/job/job.ts";
import type { RunReporter } from "../../../../src/worker/pipeline/pipeline-parts.ts";
import type { RunEnd } from "../../../../src/worker/pipeline/run-end.ts";
import { type JournalLimits, Journals } from "../../../../src/worker/runs/journals.ts";
import type { LogLimits } from "../../../../src/worker/runs/run-log.ts";
import { Runs } from "../../../../src/worker/runs/runs.ts";
import { makeTempDir } from "../../../support/machine/temp-dir.ts";

export const INCARNATION = "this-start";

const logger = pino({ level: "silent" });

interface WorkerOptions {
  readonly workerId?: string;
  readonly slots?: number;
  readonly onPing?: () => void;
  /** The folder of the journals; by default one that is removed at the end. */
  readonly logs?: string;
  readonly journalLimits?: Partial<JournalLimits>;
}

export interface ServedWorker extends RpcServer {
  /** The folder of the runs' journals. */
  readonly logs: string;
  readonly runs: Runs;
}

export async function serveWorker(
  execute: (job: PipelineJob, reporter: RunReporter) => Promise<RunEnd>,
  logLimits: LogLimits,
  options: WorkerOptions = {},
): Promise<ServedWorker> {
  const { workerId = "worker", slots = 1, onPing = () => undefined } = options;
  const folder = await makeTempDir("worker-service");
  const { logs = join(folder.path, "logs"), journalLimits: limits } = options;
  const { totalBytes: diskBytes } = await freeSpaceAt(folder.path);
  const journals = new Journals({ folder: logs, diskBytes, logger, limits });
  const runs = new Runs({
    slots,
    keepFinishedMs: 3_600_000,
    keepFinishedCount: 100,
    abandonAfterMs: 3_600_000,
    logLimits,
    journals,
    logger,
    execute,
  });
  const identity = { workerId, incarnation: INCARNATION };
  const service = workerService({
    identity,
    runs,
    logger,
    beforeJob: async () => undefined,
    load: () => undefined,
    onPing,
  });
  const server = await serveRpc([service], { host: "127.0.0.1", port: 0 }, undefined);
  return {
    port: server.port,
    logs,
    runs,
    async stop(graceMs) {
      await server.stop(graceMs);
      await journals.close();
      await folder.remove();
    },
  };
}

export function successfulEnd(): RunEnd {
  const now = new Date();
  const timingsMs = { clone: 0, build: 0, auth: 0, push: 0, total: 0 };
  return { status: "SUCCESS", timingsMs, startedAt: now, finishedAt: now };
}
