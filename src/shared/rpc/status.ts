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

/** Faults of the way there: the peer may or may not have seen the call, and asking again may help. */
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

/** The peer hung up without an answer, as on who was frozen for longer than a keepalive; grpc-js calls that INTERNAL. */
const CLOSED_BY_PEER = /^Received RST_STREAM with code 0 /;

export function fromServiceError(error: ServiceError): RpcError {
  const isTransport = error.code === status.INTERNAL && CLOSED_BY_PEER.test(error.details);
  return new RpcError(isTransport ? status.UNAVAILABLE : error.code, error.details, { cause: error });
}

/** What goes over the wire for whatever a handler threw: the text of a bug stays at home. */
export function toStatus(error: unknown): { code: status; details: string } {
  if (error instanceof RpcError) return { code: error.code, details: error.message };
  return { code: status.INTERNAL, details: "internal error; see the server's log" };
}
