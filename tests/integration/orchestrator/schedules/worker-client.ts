/** The clients of both services, over the simulated network. */
import { type Metadata, type ServiceError, status } from "@grpc/grpc-js";
import type { WorkerClient } from "../../../../src/orchestrator/workers/worker-client.ts";
import type { RunRef } from "../../../../src/shared/job.ts";
import type { OrchestratorServiceClient } from "../../../../src/shared/rpc/generated/blacktree/v1/orchestrator.ts";
import type {
  JobEvent,
  JobRequest,
  JobResponse,
  PingRequest,
  PingResponse,
} from "../../../../src/shared/rpc/generated/blacktree/v1/worker.ts";
import { isTransportFault, RpcError } from "../../../../src/shared/rpc/status.ts";
import { Orchestrators } from "../../../../src/worker/control-plane/orchestrator-client.ts";
import { silentLogger } from "./journal.ts";
import type { Network } from "./network.ts";
import type { Process } from "./simulation.ts";

const SHORT_CALL_DEADLINE_MS = 3000;

type Calls = Pick<WorkerClient, keyof WorkerClient>;

/** As the real one, whose private fields make a cast necessary. */
export function connectToWorker(network: Network, caller: Process, address: string): WorkerClient {
  return new SimulatedWorkerClient(network, caller, address) as Calls as WorkerClient;
}

class SimulatedWorkerClient implements Calls {
  constructor(
    private readonly network: Network,
    private readonly caller: Process,
    readonly address: string,
  ) {}

  ping(request: PingRequest, deadlineMs: number): Promise<PingResponse> {
    return this.network.unary(this.caller, this.address, "ping", request, { deadlineMs });
  }

  connect(): Promise<void> {
    return this.network.connect(this.caller, this.address);
  }

  runJob(request: JobRequest, signal: AbortSignal): Promise<JobResponse> {
    return this.network.unary(this.caller, this.address, "runJob", request, { signal });
  }

  watchJob(
    run: RunRef,
    incarnation: string,
    options: { readonly afterSeq: number; readonly statesOnly: boolean },
    signal: AbortSignal,
  ): AsyncGenerator<JobEvent> {
    const request = { run: { jobId: run.jobId, attempt: run.attempt }, incarnation, ...options };
    return this.network.stream(this.caller, this.address, "watchJob", request, signal);
  }

  async acknowledge(run: RunRef, incarnation: string): Promise<void> {
    await this.#short("ackResult", { run: { jobId: run.jobId, attempt: run.attempt }, incarnation });
  }

  /** The simulation keeps no logs; see collection.ts. */
  async *readLog(): AsyncGenerator<Uint8Array> {}

  async cancel({ jobId, attempt }: RunRef, incarnation: string, reason: string): Promise<boolean> {
    const request = { run: { jobId, attempt }, incarnation, reason };
    return (await this.#short<{ cancelled: boolean }>("cancelJob", request)).cancelled;
  }

  /** Only the admin API calls it. */
  async describeRun(): Promise<never> {
    throw new RpcError(status.UNIMPLEMENTED, "not simulated");
  }

  close(): void {}

  #short<Response>(method: string, request: unknown): Promise<Response> {
    const limits = { deadlineMs: SHORT_CALL_DEADLINE_MS };
    return this.network.unary(this.caller, this.address, method, request, limits);
  }
}

/** The real retries and preferences of a worker's calls, but each call goes over the simulated network. */
export class SimulatedOrchestrators extends Orchestrators {
  readonly #addresses: string[];

  constructor(
    private readonly network: Network,
    private readonly caller: Process,
    addresses: readonly string[],
  ) {
    super([], undefined, silentLogger);
    this.#addresses = [...addresses];
  }

  override async ask<Answer>(
    question: (client: OrchestratorServiceClient) => Promise<Answer>,
  ): Promise<Answer> {
    for (const address of [...this.#addresses]) {
      try {
        const answer = await question(this.#clientOf(address));
        this.#addresses.sort((one, other) => Number(other === address) - Number(one === address));
        return answer;
      } catch (error) {
        if (!isTransportFault(error)) throw error;
      }
    }
    throw new RpcError(status.UNAVAILABLE, "no orchestrator reachable");
  }

  /** With the methods in the format of generated clients, of which only the one with options is used. */
  #clientOf(address: string): OrchestratorServiceClient {
    const method = (name: string) => {
      type Callback = (error: ServiceError | null, response?: unknown) => void;
      return (request: unknown, _: Metadata, options: { deadline?: number }, callback: Callback) => {
        const cancelling = new AbortController();
        const deadlineMs = options.deadline === undefined ? undefined : options.deadline - Date.now();
        const limits = { deadlineMs, signal: cancelling.signal };
        this.network.unary(this.caller, address, name, request, limits).then(
          (response) => callback(null, response),
          (error: RpcError) => callback(Object.assign(error, { details: error.message }) as never),
        );
        return { cancel: () => cancelling.abort(new RpcError(status.CANCELLED, "cancelled")) };
      };
    };
    const client = {
      register: method("register"),
      deregister: method("deregister"),
      confirmLease: method("confirmLease"),
    };
    return client as unknown as OrchestratorServiceClient;
  }
}
