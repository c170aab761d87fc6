/** gRPC between simulated processes: the real handlers of both services, and calls that are late, cut or lost. */
import { EventEmitter } from "node:events";
import { status } from "@grpc/grpc-js";
import { NotConnected } from "../../../../src/shared/rpc/call.ts";
import type { ServedService } from "../../../../src/shared/rpc/server.ts";
import { RpcError } from "../../../../src/shared/rpc/status.ts";
import type { Choices } from "./delays.ts";
import type { Process, Simulation } from "./simulation.ts";

/** Of the real worker client, before RunJob and WatchJob. */
const CONNECT_DEADLINE_MS = 3000;
/** Interval and timeout of the keepalive in call.ts, which ends a call without a deadline. */
const KEEPALIVE_MS = 13_000;
const RESET_MS = 1;

interface Endpoint {
  readonly process: Process;
  readonly service: ServedService;
}

type Handler = (call: ServerCall, callback: (error: unknown, response?: unknown) => void) => void;

interface Limits {
  readonly deadlineMs?: number;
  readonly signal?: AbortSignal;
}

/** The server's side of a call. */
class ServerCall extends EventEmitter {
  cancelled = false;
  readonly write = (item: unknown): boolean => this.onItem(item);

  constructor(
    readonly request: unknown,
    private readonly path: string,
    private readonly onItem: (item: unknown) => boolean = () => true,
    readonly end: () => void = () => undefined,
  ) {
    super();
  }

  getPath(): string {
    return this.path;
  }

  cancel(): void {
    this.cancelled = true;
    this.emit("cancelled");
  }
}

type OpenCall = ReturnType<Network["open"]>;

export class Network {
  readonly #endpoints = new Map<string, Endpoint>();
  /** Until when no call passes between an address and a process, by both. */
  readonly #cuts = new Map<string, number>();

  constructor(
    private readonly simulation: Simulation,
    private readonly choices: Choices,
  ) {}

  serve(address: string, process: Process, service: ServedService): void {
    this.#endpoints.set(address, { process, service });
  }

  cut(address: string, processName: string, forMs: number): void {
    this.#cuts.set(`${address} ${processName}`, this.simulation.nowMs + forMs);
  }

  /** A connection that is not established by then is not established at all. @throws NotConnected */
  connect(caller: Process, address: string): Promise<void> {
    return new Promise((resolve, reject) => {
      const { requestMs, lost } = this.choices.fate();
      caller.step();
      if (!caller.isAlive) return;
      const timeout = this.simulation.after(CONNECT_DEADLINE_MS, caller, () => reject(notConnected()));
      const connected = () => {
        timeout.isCancelled = true;
        resolve();
      };
      const endpoint = this.#endpoints.get(address);
      if (lost || !endpoint) return;
      this.simulation.post(requestMs, endpoint.process, () => {
        if (!this.#isCut(address, caller)) this.simulation.post(0, caller, connected);
      });
    });
  }

  unary<Response>(
    caller: Process,
    address: string,
    method: string,
    request: unknown,
    limits: Limits,
  ): Promise<Response> {
    return new Promise<Response>((resolve, reject) => {
      if (limits.signal?.aborted) return reject(limits.signal.reason);
      const fate = this.choices.fate();
      caller.step();
      if (!caller.isAlive) return;
      const open = this.open(caller, limits, fate.lost, reject);
      if (fate.lost === "request") return;
      this.#deliver(open, address, fate.requestMs, ({ process, service }) => {
        const call = new ServerCall(structuredClone(request), method);
        const handler = service.implementation[method] as unknown as Handler;
        open.cancelAtServer(process, call);
        handler(call, (error, response) => {
          if (fate.lost) return;
          const answer = structuredClone(response) as Response;
          this.simulation.post(fate.responseMs, caller, () => {
            if (this.#isCut(address, caller)) return;
            open.end(() => (error ? reject(toRpcError(error)) : resolve(answer)));
            caller.step();
          });
        });
      });
    });
  }

  async *stream<Item>(
    caller: Process,
    address: string,
    method: string,
    request: unknown,
    signal: AbortSignal,
  ): AsyncGenerator<Item> {
    const items: Item[] = [];
    let isOver = false;
    let failure: unknown;
    let wake = () => {};
    const { requestMs, responseMs, lost } = this.choices.fate();
    const open = this.open(caller, { signal }, lost, (error) => {
      failure = error;
      wake();
    });
    const arrives = (change: () => void) =>
      this.simulation.post(responseMs, caller, () => {
        if (this.#isCut(address, caller)) return;
        change();
        wake();
      });
    const send = (item: unknown) => {
      if (!lost) arrives(() => items.push(structuredClone(item) as Item));
      return true;
    };
    const end = () => {
      if (!lost) arrives(() => open.end(() => (isOver = true)));
    };
    if (lost !== "request")
      this.#deliver(open, address, requestMs, ({ process, service }) => {
        const call = new ServerCall(structuredClone(request), method, send, end);
        open.cancelAtServer(process, call);
        call.on("error", (error) => arrives(() => open.end(() => (failure = toRpcError(error)))));
        const handler = service.implementation[method] as unknown as (call: ServerCall) => void;
        handler(call);
      });
    try {
      for (;;) {
        for (const item of items.splice(0)) yield item;
        if (signal.aborted) return;
        if (failure) throw failure;
        if (isOver) return;
        if (items.length === 0) await new Promise<void>((resolve) => (wake = resolve));
      }
    } finally {
      open.end(() => undefined);
    }
  }

  /** The caller's side of a call, which ends once: with an answer, its deadline, its signal, or one of the processes. */
  private open(
    caller: Process,
    { deadlineMs, signal }: Limits,
    lost: "request" | "response" | undefined,
    reject: (error: unknown) => void,
  ) {
    const endings: (() => void)[] = [];
    let isEnded = false;
    const end = (settle: () => void) => {
      if (isEnded) return;
      isEnded = true;
      for (const ending of endings) ending();
      settle();
    };
    const fail = (code: status, why: string) => end(() => reject(new RpcError(code, why)));
    const limit = (delayMs: number, code: status, why: string) => {
      const event = this.simulation.after(delayMs, caller, () => fail(code, why));
      endings.push(() => (event.isCancelled = true));
    };
    if (deadlineMs !== undefined) limit(deadlineMs, status.DEADLINE_EXCEEDED, "deadline exceeded");
    else if (lost === "request") {
      const event = this.simulation.after(CONNECT_DEADLINE_MS, caller, () =>
        end(() => reject(notConnected())),
      );
      endings.push(() => (event.isCancelled = true));
    } else if (lost === "response") limit(KEEPALIVE_MS, status.UNAVAILABLE, "keepalive timed out");
    const onAbort = () => end(() => reject(signal?.reason));
    signal?.addEventListener("abort", onAbort, { once: true });
    endings.push(() => signal?.removeEventListener("abort", onAbort));
    endings.push(caller.onEnd(() => end(() => undefined)));
    return {
      caller,
      end,
      limit,
      fail,
      /** When the server process ends. */
      resetBy: (process: Process) => endings.push(process.onEnd(() => this.#reset(caller, fail))),
      /** The server learns of the call's end at the caller. */
      cancelAtServer: (process: Process, call: ServerCall) => {
        const cancel = () => this.simulation.after(RESET_MS, process, () => call.cancel());
        if (isEnded) cancel();
        else endings.push(cancel);
      },
    };
  }

  /** A request that is under way when its call ends is executed nevertheless. */
  #deliver(open: OpenCall, address: string, delayMs: number, handle: (endpoint: Endpoint) => void): void {
    const endpoint = this.#endpoints.get(address);
    if (!endpoint?.process.isAlive) {
      this.#reset(open.caller, open.fail);
      return;
    }
    open.resetBy(endpoint.process);
    this.simulation.post(delayMs, endpoint.process, () => {
      if (!this.#isCut(address, open.caller)) return handle(endpoint);
      open.limit(KEEPALIVE_MS, status.UNAVAILABLE, "keepalive timed out");
    });
  }

  #reset(caller: Process, fail: (code: status, why: string) => void): void {
    this.simulation.after(RESET_MS, caller, () => fail(status.UNAVAILABLE, "connection reset"));
  }

  #isCut(address: string, process: Process): boolean {
    return (this.#cuts.get(`${address} ${process.name}`) ?? 0) > this.simulation.nowMs;
  }
}

function notConnected(): NotConnected {
  return new NotConnected(status.UNAVAILABLE, "no connection");
}

function toRpcError(error: unknown): RpcError {
  const { code, details } = error as { code: status; details: string };
  return new RpcError(code, details);
}
