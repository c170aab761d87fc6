/** The address at which other machines reach a listener. */
import { networkInterfaces } from "node:os";
import type { HostPort } from "../settings/parsers.ts";
import type { RpcAddress } from "./address.ts";
import type { RpcServer } from "./server.ts";

const EVERY_INTERFACE: ReadonlySet<string> = new Set(["0.0.0.0", "::"]);

/** Of a server that listens there. */
export function reachableAddress(listen: RpcAddress, { port }: Pick<RpcServer, "port">): RpcAddress {
  return "path" in listen ? listen : firstReachableAddress({ host: listen.host, port });
}

/**
 * The listener's address if it listens on a specific one. Otherwise the machine's first address that is not loopback,
 * IPv4 before IPv6; loopback if there is no other.
 */
export function firstReachableAddress(listen: HostPort, interfaces = networkInterfaces()): HostPort {
  if (!EVERY_INTERFACE.has(listen.host)) return listen;
  const outward = Object.values(interfaces)
    .flatMap((addresses) => addresses ?? [])
    .filter((address) => !address.internal && !address.address.startsWith("fe80:"));
  const chosen = outward.find((address) => address.family === "IPv4") ?? outward[0];
  return { host: chosen?.address ?? "127.0.0.1", port: listen.port };
}
