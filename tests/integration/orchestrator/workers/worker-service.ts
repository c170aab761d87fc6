/** A worker's service over real gRPC; the test defines what its runs do. */
import pino from "pino";
import { type RpcServer, serveRpc } from "../../../../src/shared/rpc/server.ts";
import { workerService } from "../../../../src/worker/control-plane/service.ts";
import type { PipelineJob } from "../../../../src/worker/job/job.ts";
import type { RunReporter } from "../../../../src/worker/pipeline/pipeline-parts.ts";
import type { RunEnd } from "../../../../src/worker/pipeline/run-end.ts";
import type { LogLimits } from "../../../../src/worker/runs/run-log.ts";
import { Runs } from "../../../../src/worker/runs/runs.ts";

export const INCARNATION = "this-start";

const logger = pino({ level: "silent" });

interface WorkerOptions {
  readonly workerId?: string;
  readonly slots?: number;
  readonly onPing?: () => void;
}

export function serveWorker(
  execute: (job: PipelineJob, reporter: RunReporter) => Promise<RunEnd>,
  logLimits: LogLimits,
  { workerId = "worker", slots = 1, onPing = () => undefined }: WorkerOptions = {},
): Promise<RpcServer> {
  const runs = new Runs({
    slots,
    keepFinishedMs: 3_600_000,
    keepFinishedCount: 100,
    abandonAfterMs: 3_600_000,
    logLimits,
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
  return serveRpc([service], { host: "127.0.0.1", port: 0 }, undefined);
}

export function successfulEnd(): RunEnd {
  const now = new Date();
  const timingsMs = { clone: 0, build: 0, auth: 0, push: 0, total: 0 };
  return { status: "SUCCESS", timingsMs, startedAt: now, finishedAt: now };
}
