/** OrchestratorService over gRPC: only translates between the protocol and the Worker Manager. */
import { status } from "@grpc/grpc-js";
import type { Logger } from "../shared/logging.ts";
import { isSocketAddress, type RpcAddress } from "../shared/rpc/address.ts";
import {
  type OrchestratorServiceServer,
  OrchestratorServiceService,
  type WorkerInfo,
} from "../shared/rpc/generated/blacktree/v1/orchestrator.ts";
import type { LogChunk, ReadLogRequest } from "../shared/rpc/generated/blacktree/v1/run.ts";
import { type ServedService, streamHandler, unaryHandler } from "../shared/rpc/server.ts";
import { RpcError } from "../shared/rpc/status.ts";
import { hostPort, REGION_PATTERN } from "../shared/settings/parsers.ts";
import { BadValue } from "../shared/settings/settings.ts";
import { areLabels, EXPECTED_LABELS } from "../shared/settings/worker-labels.ts";
import { JOB_ID_PATTERN, TENANT_PATTERN } from "./job/fields.ts";
import { capabilitiesOf } from "./leases/capabilities.ts";
import { LeasesUnavailable } from "./leases/leases.ts";
import type { AttemptLogs } from "./logs/attempt-log.ts";
import { LogStoreUnavailable } from "./logs/log-store.ts";
import type { WorkerManager } from "./worker-manager.ts";

export interface LeaseTimes {
  readonly pingIntervalMs: number;
  readonly leaseTtlMs: number;
}

export interface ServiceParts {
  readonly workers: WorkerManager;
  readonly logs: Pick<AttemptLogs, "readOwn">;
  readonly times: LeaseTimes;
  /** A worker's address may be a socket file only if the orchestrator itself listens on one. */
  readonly grpcListen: RpcAddress;
  readonly logger: Logger;
}

export function orchestratorService({
  workers,
  logs,
  times,
  grpcListen,
  logger,
}: ServiceParts): ServedService {
  const onSocket = "path" in grpcListen;
  const implementation: OrchestratorServiceServer = {
    register: unaryHandler(logger, async (worker) => {
      checkWorker(worker, onSocket);
      const registration = { ...worker, capabilities: capabilitiesOf(worker.capabilities) };
      const outcome = await whenAvailable(() => workers.register(registration));
      if (outcome === "registered") return times;
      const why =
        outcome === "id-in-use"
          ? `another live worker has the id ${worker.workerId}: if this one was not just restarted, set a different BLACKTREE_WORKER_ID for each`
          : `worker ${outcome.addressOf} has the address ${worker.address}: set BLACKTREE_WORKER_ADVERTISE of each to the address at which orchestrators reach it`;
      throw new RpcError(status.ALREADY_EXISTS, why);
    }),
    deregister: unaryHandler(logger, async ({ workerId, incarnation }) => {
      await whenAvailable(() => workers.deregister(workerId, incarnation));
      return {};
    }),
    confirmLease: unaryHandler(logger, async ({ workerId, incarnation, run }) => {
      if (!run) throw new RpcError(status.INVALID_ARGUMENT, "run is missing; expected job_id and attempt");
      const remainingMs = await whenAvailable(() => workers.confirm(run, workerId, incarnation));
      return {
        granted: remainingMs !== undefined,
        leaseRemainingMs: Math.max(0, Math.floor(remainingMs ?? 0)),
      };
    }),
    readLog: streamHandler(logger, (request, signal) => readLog(logs, request, signal)),
  };
  return { name: "blacktree.v1.OrchestratorService", definition: OrchestratorServiceService, implementation };
}

async function* readLog(
  logs: Pick<AttemptLogs, "readOwn">,
  { run, tenant, afterSeq }: ReadLogRequest,
  signal: AbortSignal,
): AsyncGenerator<LogChunk> {
  const key = { jobId: run?.jobId ?? "", attempt: run?.attempt ?? 0, tenant };
  // They name a file.
  if (!JOB_ID_PATTERN.test(key.jobId) || !TENANT_PATTERN.test(tenant) || key.attempt < 1)
    throw new RpcError(status.INVALID_ARGUMENT, "expected tenant, job_id and attempt of a job");
  try {
    const blocks = await logs.readOwn(key, afterSeq, signal);
    if (!blocks) throw new RpcError(status.NOT_FOUND, "this log is not stored here");
    for await (const entries of blocks) yield { entries };
  } catch (error) {
    if (!(error instanceof LogStoreUnavailable)) throw error;
    throw new RpcError(status.UNAVAILABLE, error.message, { cause: error });
  }
}

/** Unavailable leases are not a refusal: the worker calls again. */
async function whenAvailable<Answer>(call: () => Promise<Answer>): Promise<Answer> {
  try {
    return await call();
  } catch (error) {
    if (!(error instanceof LeasesUnavailable)) throw error;
    throw new RpcError(status.UNAVAILABLE, "the leases are unavailable; call again", { cause: error });
  }
}

function checkWorker(worker: WorkerInfo, onSocket: boolean): void {
  const problems = [
    ...(worker.workerId === "" ? ["worker_id is missing"] : []),
    ...(worker.incarnation === "" ? ["incarnation is missing"] : []),
    ...(REGION_PATTERN.test(worker.region) ? [] : ["region is not valid; expected e.g. us-east-1"]),
    ...(worker.slots >= 1 ? [] : ["slots is missing; expected 1 or more"]),
    ...(onSocket && isSocketAddress(worker.address) ? [] : addressProblems(worker.address)),
    ...platformProblems(worker.capabilities?.platforms ?? []),
    ...(areLabels(worker.labels) ? [] : [`labels are not valid; expected ${EXPECTED_LABELS}`]),
  ];
  if (problems.length > 0) throw new RpcError(status.INVALID_ARGUMENT, problems.join("; "));
}

/** Platforms are stored in comma-separated lists. */
function platformProblems(platforms: readonly string[]): string[] {
  const isPlatform = (platform: string) => /^[a-z0-9._-]+(\/[a-z0-9._-]+){1,2}$/.test(platform);
  return platforms.every(isPlatform) ? [] : ["a platform is not valid; expected e.g. linux/arm64"];
}

function addressProblems(address: string): string[] {
  try {
    hostPort(address);
    return [];
  } catch (error) {
    if (error instanceof BadValue) return [`address ${error.message}`];
    throw error;
  }
}
