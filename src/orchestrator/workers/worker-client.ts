/** gRPC calls to one worker. */

import type { RunRef } from "../../shared/job.ts";
import type { JournalStep } from "../../shared/log-journal.ts";
import { fromWireStep } from "../../shared/rpc/build-step.ts";
import {
  callUnary,
  clientOptions,
  DEDICATED_CONNECTION,
  streamed,
  untilConnected,
} from "../../shared/rpc/call.ts";
import {
  type JobEvent,
  type JobRequest,
  type JobResponse,
  type PingRequest,
  type PingResponse,
  WorkerServiceClient,
} from "../../shared/rpc/generated/blacktree/v1/worker.ts";
import { channelSecurity, type TlsFiles } from "../../shared/rpc/tls.ts";

const SHORT_CALL_DEADLINE_MS = 3000;

/** Each call rejects with RpcError, or with the reason of its signal. */
export class WorkerClient {
  readonly #client: WorkerServiceClient;
  #connecting: Promise<void> | undefined;

  /**
   * Channels to one address share a connection, so a client is cheap; its creator closes it. An unread stream fills the
   * connection's flow-control window and blocks every other call on that connection, so a stream whose reader may stall
   * needs a dedicated connection (`isDedicated`).
   */
  constructor(
    readonly address: string,
    tls: TlsFiles | undefined,
    { isDedicated = false }: { readonly isDedicated?: boolean } = {},
  ) {
    const { credentials, options } = channelSecurity(address, tls);
    this.#client = new WorkerServiceClient(address, credentials, {
      ...clientOptions(address),
      ...options,
      ...(isDedicated && DEDICATED_CONNECTION),
    });
  }

  ping(request: PingRequest, deadlineMs: number): Promise<PingResponse> {
    return callUnary(this.#client.ping.bind(this.#client), request, { deadlineMs });
  }

  /** Resolves when the worker can be called. @throws NotConnected */
  connect(): Promise<void> {
    return this.#untilConnected();
  }

  /**
   * Has no deadline, so it first waits for the connection: a peer that accepts connections and never answers would
   * block the call for ever.
   */
  async runJob(request: JobRequest, signal: AbortSignal): Promise<JobResponse> {
    await this.#untilConnected();
    return callUnary(this.#client.runJob.bind(this.#client), request, { signal });
  }

  /**
   * Ends with the run or when `signal` aborts. Waits for the connection as runJob does: otherwise it could overtake a
   * preceding runJob and ask for a run that the worker does not have yet.
   */
  async *watchJob(
    run: RunRef,
    incarnation: string,
    options: { readonly afterSeq: number; readonly statesOnly: boolean },
    signal: AbortSignal,
  ): AsyncGenerator<JobEvent> {
    await this.#untilConnected();
    if (signal.aborted) return;
    yield* streamed(this.#client.watchJob({ run: { ...run }, incarnation, ...options }), signal);
  }

  /** The journal of a run, in blocks of whole entries. With `pastOnly` it ends although the run goes on. */
  async *readLog(
    { jobId, attempt }: RunRef,
    incarnation: string,
    options: { readonly afterSeq: number; readonly pastOnly: boolean },
    signal: AbortSignal,
  ): AsyncGenerator<Uint8Array> {
    await this.#untilConnected();
    if (signal.aborted) return;
    const request = { run: { jobId, attempt }, incarnation, tenant: "", ...options };
    for await (const { entries } of streamed(this.#client.readLog(request), signal)) yield entries;
  }

  async acknowledge(run: RunRef, incarnation: string): Promise<void> {
    const request = { run: { jobId: run.jobId, attempt: run.attempt }, incarnation };
    await callUnary(this.#client.ackResult.bind(this.#client), request, {
      deadlineMs: SHORT_CALL_DEADLINE_MS,
    });
  }

  /** True: the run was active and is being cancelled. */
  async cancel({ jobId, attempt }: RunRef, incarnation: string, reason: string): Promise<boolean> {
    const request = { run: { jobId, attempt }, incarnation, reason };
    const limits = { deadlineMs: SHORT_CALL_DEADLINE_MS };
    return (await callUnary(this.#client.cancelJob.bind(this.#client), request, limits)).cancelled;
  }

  /** The build steps of the run until now. */
  async describeRun({ jobId, attempt }: RunRef, incarnation: string): Promise<readonly JournalStep[]> {
    const request = { run: { jobId, attempt }, incarnation };
    const limits = { deadlineMs: SHORT_CALL_DEADLINE_MS };
    const { steps } = await callUnary(this.#client.describeRun.bind(this.#client), request, limits);
    return steps.map(fromWireStep);
  }

  close(): void {
    this.#client.close();
  }

  /** Shared by all waiting calls, so that they are sent in the order in which they were made. */
  #untilConnected(): Promise<void> {
    this.#connecting ??= untilConnected(this.#client, this.address).finally(() => {
      this.#connecting = undefined;
    });
    return this.#connecting;
  }
}
