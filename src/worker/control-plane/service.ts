/** WorkerService over gRPC. Only translates between the wire format and `Runs`. */
import { status } from "@grpc/grpc-js";
import type { RunRef } from "../../shared/job.ts";
import type { Logger } from "../../shared/logging.ts";
import type { RegistryLogin } from "../../shared/registry-login.ts";
import { toWireStep } from "../../shared/rpc/build-step.ts";
import type { LogChunk, RunRef as WireRunRef } from "../../shared/rpc/generated/blacktree/v1/run.ts";
import {
  type JobRequest,
  type MachineLoad,
  type RegistryLogin as WireLogin,
  type WorkerServiceServer,
  WorkerServiceService,
  WorkerStatus,
} from "../../shared/rpc/generated/blacktree/v1/worker.ts";
import { toJobResponse } from "../../shared/rpc/outcome.ts";
import { type ServedService, streamHandler, unaryHandler } from "../../shared/rpc/server.ts";
import { RpcError } from "../../shared/rpc/status.ts";
import type { PipelineJob } from "../job/job.ts";
import { JournalRemoved } from "../runs/journal.ts";
import { JournalEvicted } from "../runs/journals.ts";
import { NoFreeSlot, type Runs, StaleRun } from "../runs/runs.ts";

export interface WorkerIdentity {
  readonly workerId: string;
  /** A new id at each start, which distinguishes this process from an earlier one with the same worker id. */
  readonly incarnation: string;
}

export interface WorkerServiceParts {
  readonly identity: WorkerIdentity;
  readonly runs: Runs;
  readonly logger: Logger;
  /** Called before a job is accepted; `runs` may refuse it afterwards. */
  beforeJob(): Promise<void>;
  /** Undefined while it is not known. */
  load(): MachineLoad | undefined;
  /** Called for every ping. Without pings the worker knows that its lease has expired. */
  onPing(): void;
}

export function workerService({
  identity,
  runs,
  logger,
  beforeJob,
  load,
  onPing,
}: WorkerServiceParts): ServedService {
  const implementation: WorkerServiceServer = {
    runJob: unaryHandler(logger, async (request, ended) => {
      checkIncarnation(identity, request.incarnation);
      const job = pipelineJobOf(request);
      await beforeJob();
      const outcome = refusing(() => runs.run(job, request.timeoutMs));
      runs.awaited(job, ended);
      return toJobResponse(await outcome);
    }),
    ping: unaryHandler(logger, async (request) => {
      onPing();
      runs.pinged(request);
      return {
        ...identity,
        status: WorkerStatus[`WORKER_STATUS_${runs.status()}`],
        runs: [...runs.held()],
        unawaitedJobIds: [...runs.unawaited()],
        refusal: runs.refusal() ?? "",
        load: load(),
        replacedRuns: [...runs.replaced()],
      };
    }),
    watchJob: streamHandler(logger, (request, signal) => {
      checkIncarnation(identity, request.incarnation);
      const { run, afterSeq, statesOnly } = request;
      return refusingEach(() => runs.watch(refOf(run), { afterSeq, statesOnly }, signal));
    }),
    describeRun: unaryHandler(logger, async (request) => {
      checkIncarnation(identity, request.incarnation);
      return { steps: refusing(() => runs.steps(refOf(request.run))).map(toWireStep) };
    }),
    readLog: streamHandler(logger, (request, signal) => {
      checkIncarnation(identity, request.incarnation);
      return refusingEach(() => chunks(runs.readLog(refOf(request.run), request.afterSeq, signal, request)));
    }),
    cancelJob: unaryHandler(logger, async (request) => {
      checkIncarnation(identity, request.incarnation);
      return { cancelled: runs.cancel(refOf(request.run), request.reason) };
    }),
    ackResult: unaryHandler(logger, async (request) => {
      checkIncarnation(identity, request.incarnation);
      runs.acknowledge(refOf(request.run));
      return {};
    }),
  };
  return { name: "blacktree.v1.WorkerService", definition: WorkerServiceService, implementation };
}

function checkIncarnation(identity: WorkerIdentity, asked: string): void {
  if (asked === identity.incarnation) return;
  throw new RpcError(status.FAILED_PRECONDITION, `this is incarnation ${identity.incarnation}, not ${asked}`);
}

function refusing<Result>(action: () => Result): Result {
  try {
    return action();
  } catch (error) {
    throw refusalFor(error);
  }
}

async function* refusingEach<Item>(items: () => AsyncIterable<Item>): AsyncGenerator<Item> {
  try {
    yield* items();
  } catch (error) {
    throw refusalFor(error);
  }
}

function refusalFor(error: unknown): unknown {
  if (error instanceof StaleRun)
    return new RpcError(status.FAILED_PRECONDITION, error.message, { cause: error });
  if (error instanceof NoFreeSlot)
    return new RpcError(status.RESOURCE_EXHAUSTED, error.message, { cause: error });
  if (error instanceof JournalEvicted) return new RpcError(status.NOT_FOUND, error.message, { cause: error });
  if (error instanceof JournalRemoved)
    return new RpcError(status.UNAVAILABLE, error.message, { cause: error });
  return error;
}

async function* chunks(journal: AsyncIterable<Buffer>): AsyncGenerator<LogChunk> {
  for await (const entries of journal) yield { entries };
}

function refOf(ref: WireRunRef | undefined): RunRef {
  if (ref) return ref;
  throw new RpcError(status.INVALID_ARGUMENT, "run is missing; expected job_id and attempt");
}

const REQUIRED = [
  "jobId",
  "repoUrl",
  "branch",
  "deploymentVersion",
  "awsAccount",
  "ecrRepo",
  "region",
] as const;

/** The orchestrator has validated the job; other callers get an error that names the missing fields. */
function pipelineJobOf(request: JobRequest): PipelineJob {
  const missing: string[] = REQUIRED.filter((field) => request[field] === "");
  if (request.attempt < 1) missing.push("attempt (from 1 on)");
  if (request.timeoutMs < 1) missing.push("timeoutMs (from 1 on)");
  if (missing.length > 0) throw new RpcError(status.INVALID_ARGUMENT, `missing: ${missing.join(", ")}`);
  const { commit, gitToken, dockerfile, context, target, incarnation: _, timeoutMs: __, ...rest } = request;
  const logins = Object.entries(request.registryAuths);
  return {
    ...rest,
    tenant: request.tenant || request.awsAccount,
    commit: commit || undefined,
    gitDepth: request.gitDepth ?? 1,
    gitToken: gitToken || undefined,
    dockerfile: dockerfile || undefined,
    context: context || undefined,
    target: target || undefined,
    registryAuths: Object.fromEntries(logins.map(([host, login]) => [host, loginOf(login)])),
  };
}

function loginOf({ username, password, identityToken }: WireLogin): RegistryLogin {
  return identityToken === "" ? { username, password } : { identityToken };
}
