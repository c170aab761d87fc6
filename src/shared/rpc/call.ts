/** Calls gRPC services: promises, deadlines and abort signals around grpc-js. */
import {
  type CallOptions,
  type ChannelOptions,
  type Client,
  type ClientReadableStream,
  type ClientUnaryCall,
  Metadata,
  type ServiceError,
  status,
} from "@grpc/grpc-js";
import { type Environment, environment } from "../env.ts";
import { isLoopback } from "../settings/parsers.ts";
import { fromServiceError, RpcError } from "./status.ts";

/**
 * A response carries at most 256 KiB of log; requests are job messages of at most 1 MiB. Set explicitly, so that a
 * peer that sends more is refused here too.
 */
const MAX_MESSAGE_BYTES = 4 * 1024 * 1024;

/** Only keepalive pings detect a frozen peer; without `permit_without_calls` an idle channel would not send any. */
export const CHANNEL_OPTIONS: ChannelOptions = {
  "grpc.keepalive_time_ms": 10_000,
  "grpc.keepalive_timeout_ms": 3000,
  "grpc.keepalive_permit_without_calls": 1,
  "grpc.initial_reconnect_backoff_ms": 200,
  "grpc.max_reconnect_backoff_ms": 2000,
  "grpc.max_receive_message_length": MAX_MESSAGE_BYTES,
  "grpc.max_send_message_length": MAX_MESSAGE_BYTES,
};

/**
 * Of a client. grpc-js takes a proxy from `grpc_proxy`, else from `http_proxy`, which a host sets for git, docker and
 * AWS; a proxy for those seldom leads to the parts of Blacktree, and never to this machine.
 */
export function clientOptions(
  address: string,
  { grpc_proxy: proxy }: Environment = environment(),
): ChannelOptions {
  const usesProxy = Boolean(proxy) && !isLoopback(address.replace(/:\d+$/, "").replace(/^\[(.*)\]$/, "$1"));
  return { ...CHANNEL_OPTIONS, "grpc.enable_http_proxy": usesProxy ? 1 : 0 };
}

type UnaryMethod<Request, Response> = (
  request: Request,
  metadata: Metadata,
  options: Partial<CallOptions>,
  callback: (error: ServiceError | null, response: Response) => void,
) => ClientUnaryCall;

export interface CallLimits {
  /** Undefined only for RunJob, which ends with the run. */
  readonly deadlineMs?: number;
  readonly signal?: AbortSignal;
}

/**
 * @throws RpcError with the call's status; the signal's reason when it aborts. Aborting ends only the call: the server
 * may still carry out the request.
 */
export function callUnary<Request, Response>(
  method: UnaryMethod<Request, Response>,
  request: Request,
  limits: CallLimits,
): Promise<Response> {
  const { deadlineMs, signal } = limits;
  return new Promise((resolve, reject) => {
    if (signal?.aborted) return reject(signal.reason);
    const options = deadlineMs === undefined ? {} : { deadline: Date.now() + deadlineMs };
    const call = method(request, new Metadata(), options, (error, response) => {
      signal?.removeEventListener("abort", cancel);
      if (signal?.aborted) reject(signal.reason);
      else if (error) reject(fromServiceError(error));
      else resolve(response);
    });
    const cancel = () => call.cancel();
    signal?.addEventListener("abort", cancel, { once: true });
  });
}

/** No connection to the peer was established, so no call has been sent. */
export class NotConnected extends RpcError {}

const CONNECT_DEADLINE_MS = 3000;

/**
 * A peer that accepts connections and never answers would block a call without a deadline for ever.
 * @throws NotConnected
 */
export function untilConnected(client: Client, address: string): Promise<void> {
  return new Promise((resolve, reject) => {
    client.waitForReady(Date.now() + CONNECT_DEADLINE_MS, (error) => {
      if (!error) return resolve();
      reject(new NotConnected(status.UNAVAILABLE, `no connection to ${address}`, { cause: error }));
    });
  });
}

/**
 * A dedicated connection: an unread stream fills its connection's flow-control window, and blocks every
 * other call on it.
 */
export const DEDICATED_CONNECTION: ChannelOptions = { "grpc.use_local_subchannel_pool": 1 };

/** What the stream sends, as fast as it is read, until its end or until `signal` aborts. @throws RpcError */
export async function* streamed<Item>(
  stream: ClientReadableStream<Item>,
  signal: AbortSignal,
): AsyncGenerator<Item> {
  const cancel = () => stream.cancel();
  signal.addEventListener("abort", cancel, { once: true });
  try {
    for await (const item of stream) yield item as Item;
  } catch (error) {
    if (!signal.aborted) throw fromServiceError(error as ServiceError);
  } finally {
    signal.removeEventListener("abort", cancel);
    stream.cancel();
  }
}
