/** gRPC server: credentials, health, reflection, and handlers that always answer. */
import {
  type handleUnaryCall,
  Server,
  type ServerWritableStream,
  type ServiceDefinition,
  type UntypedServiceImplementation,
} from "@grpc/grpc-js";
import type { Logger } from "../logging.ts";
import { formatRpcAddress, type RpcAddress } from "./address.ts";
import { CHANNEL_OPTIONS } from "./call.ts";
import { addHealthService } from "./health.ts";
import { addReflectionService } from "./reflection.ts";
import { toStatus } from "./status.ts";
import { serverCredentials, type TlsFiles } from "./tls.ts";

export interface RpcServer {
  /** 0 on a socket file. */
  readonly port: number;
  /** Ends open streams and calls after `graceMs`. */
  stop(graceMs: number): Promise<void>;
}

export interface ServedService {
  readonly definition: ServiceDefinition;
  readonly implementation: UntypedServiceImplementation;
  /** Full name, such as `blacktree.v1.WorkerService`. */
  readonly name: string;
}

/** @throws Error that names the address when the server cannot listen on it. */
export async function serveRpc(
  services: readonly ServedService[],
  listen: RpcAddress,
  tls: TlsFiles | undefined,
): Promise<RpcServer> {
  const server = new Server({ ...CHANNEL_OPTIONS, "grpc.http2.min_ping_interval_without_data_ms": 5000 });
  for (const { definition, implementation } of services) server.addService(definition, implementation);
  const names = services.map((service) => service.name);
  const health = addHealthService(server, names);
  addReflectionService(server, names);
  const port = await bind(server, listen, tls);
  return {
    port: "path" in listen ? 0 : port,
    async stop(graceMs) {
      health.stopServing();
      await shutDown(server, graceMs);
    },
  };
}

function bind(server: Server, listen: RpcAddress, tls: TlsFiles | undefined): Promise<number> {
  const address = formatRpcAddress(listen);
  return new Promise((resolve, reject) => {
    server.bindAsync(address, serverCredentials(tls), (error, port) => {
      if (error)
        reject(new Error(`cannot listen for gRPC on ${address}: ${error.message}`, { cause: error }));
      else resolve(port);
    });
  });
}

/** tryShutdown waits for open streams without limit, so it is forced after `graceMs`. */
function shutDown(server: Server, graceMs: number): Promise<void> {
  return new Promise((resolve) => {
    const force = setTimeout(() => {
      server.forceShutdown();
      resolve();
    }, graceMs);
    server.tryShutdown(() => {
      clearTimeout(force);
      resolve();
    });
  });
}

/**
 * A handler that rejects would never answer its caller, so every handler is wrapped in this function. `handle` receives
 * a signal that aborts when the call is answered or cancelled.
 */
export function unaryHandler<Request, Response>(
  logger: Logger,
  handle: (request: Request, ended: AbortSignal) => Promise<Response>,
): handleUnaryCall<Request, Response> {
  return (call, callback) => {
    const ended = new AbortController();
    call.on("cancelled", () => ended.abort(new Error("the caller cancelled the call")));
    handle(call.request, ended.signal)
      .then(
        (response) => callback(null, response),
        (error: unknown) => callback(reportedStatus(logger, call.getPath(), error)),
      )
      .finally(() => ended.abort(new Error("the call was answered")));
  };
}

/** `handle` receives a signal that aborts when the caller cancels. Items are sent as fast as the caller reads them. */
export function streamHandler<Request, Item>(
  logger: Logger,
  handle: (request: Request, signal: AbortSignal) => AsyncIterable<Item>,
): (call: ServerWritableStream<Request, Item>) => void {
  return (call) => {
    const cancelled = new AbortController();
    call.on("cancelled", () => cancelled.abort(new Error("the caller cancelled the call")));
    // `handle` itself may throw; within an async function that is a rejection.
    const sending = async () => sendAll(call, handle(call.request, cancelled.signal));
    sending().then(
      () => call.end(),
      (error: unknown) => {
        if (!cancelled.signal.aborted) call.emit("error", reportedStatus(logger, call.getPath(), error));
      },
    );
  };
}

async function sendAll<Request, Item>(
  call: ServerWritableStream<Request, Item>,
  items: AsyncIterable<Item>,
): Promise<void> {
  for await (const item of items) {
    if (!call.write(item)) await drained(call);
    if (call.cancelled) return;
  }
}

/** After the caller has cancelled, the stream never drains. */
function drained(call: ServerWritableStream<unknown, unknown>): Promise<void> {
  if (call.cancelled) return Promise.resolve();
  return new Promise((resolve) => {
    const done = () => {
      call.off("drain", done);
      call.off("cancelled", done);
      resolve();
    };
    call.on("drain", done);
    call.on("cancelled", done);
  });
}

function reportedStatus(logger: Logger, path: string, error: unknown) {
  const answer = toStatus(error);
  if (answer.details.startsWith("internal error")) logger.error({ err: error, path }, "gRPC handler failed");
  return answer;
}
