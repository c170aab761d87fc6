/** The only place where errors become gRPC statuses and statuses become errors. */
import { type ServiceError, status } from "@grpc/grpc-js";

/** Thrown by a handler to answer with this status; thrown by a call that ended with it. */
export class RpcError extends Error {
  override readonly name = "RpcError";
  constructor(
    readonly code: status,
    message: string,
    options?: ErrorOptions,
  ) {
    super(message, options);
  }
}

/** Transport faults: the peer may or may not have received the call, and a retry may help. */
const TRANSPORT_CODES: ReadonlySet<status> = new Set([
  status.UNAVAILABLE,
  status.DEADLINE_EXCEEDED,
  status.UNKNOWN,
]);

export function isTransportFault(error: unknown): error is RpcError {
  return error instanceof RpcError && TRANSPORT_CODES.has(error.code);
}

export function hasStatus(error: unknown, code: status): error is RpcError {
  return error instanceof RpcError && error.code === code;
}

/**
 * The peer closed the stream without an answer, as it does when this process was frozen for longer than a keepalive.
 * grpc-js reports INTERNAL for it.
 */
const CLOSED_BY_PEER = /^Received RST_STREAM with code 0 /;

export function fromServiceError(error: ServiceError): RpcError {
  const isTransport = error.code === status.INTERNAL && CLOSED_BY_PEER.test(error.details);
  return new RpcError(isTransport ? status.UNAVAILABLE : error.code, error.details, { cause: error });
}

/** The status sent for an error of a handler. The text of an unexpected error is not sent. */
export function toStatus(error: unknown): { code: status; details: string } {
  if (error instanceof RpcError) return { code: error.code, details: error.message };
  return { code: status.INTERNAL, details: "internal error; see the server's log" };
}
