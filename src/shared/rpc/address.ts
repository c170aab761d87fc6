/** Where a gRPC server listens, and where its clients find it. */
import { formatHostPort, type HostPort } from "../settings/parsers.ts";

/** A UNIX socket: only users who may enter its folder reach it. */
export interface SocketFile {
  /** Absolute. */
  readonly path: string;
}

export type RpcAddress = HostPort | SocketFile;

/** What a socket's path may have in Linux, in bytes (sun_path in unix(7), without its terminating zero). */
export const MAX_SOCKET_PATH_BYTES = 107;

const SOCKET_SCHEME = "unix:";

/** As grpc-js reads it. */
export function formatRpcAddress(address: RpcAddress): string {
  return "path" in address ? `${SOCKET_SCHEME}${address.path}` : formatHostPort(address);
}

export function isSocketAddress(address: string): boolean {
  return address.startsWith(`${SOCKET_SCHEME}/`);
}
