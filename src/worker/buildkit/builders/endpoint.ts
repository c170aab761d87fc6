/** The address at which an engine or a BuildKit listens: connecting shows without any program whether one is there. */
import { connect } from "node:net";
import type { HostEnvironment } from "../../process/child-environment.ts";
import type { BuilderLocation } from "./location.ts";

export type Endpoint = { readonly path: string } | { readonly host: string; readonly port: number };

const DEFAULT_DOCKER_HOST = "unix:///var/run/docker.sock";

/** Undefined for an address that only docker can connect to, such as `ssh://`. */
export function endpointOf(
  location: BuilderLocation,
  { DOCKER_HOST }: HostEnvironment,
): Endpoint | undefined {
  const address = location.kind === "remote" ? location.address : DOCKER_HOST || DEFAULT_DOCKER_HOST;
  if (address.startsWith("unix://")) return { path: address.slice("unix://".length) };
  const [, host, port] = /^tcp:\/\/(.+):(\d+)$/.exec(address) ?? [];
  if (host === undefined || port === undefined) return undefined;
  return { host: host.replace(/^\[(.*)\]$/, "$1"), port: Number(port) };
}

const REMEDIES: Readonly<Record<string, string>> = {
  ENOENT: "the socket file does not exist: start Docker or BuildKit, or set DOCKER_HOST",
  EACCES: "permission denied: add the worker's user to the group of the socket file",
  ECONNREFUSED: "nothing listens there: start Docker or BuildKit",
};

/** Enough for one turn of the event loop. */
const GRACE_MS = 20;

/** @throws Error that names the address and the remedy. */
export function connectTo(endpoint: Endpoint, timeoutMs: number): Promise<void> {
  const address = "path" in endpoint ? endpoint.path : `${endpoint.host}:${endpoint.port}`;
  return new Promise((resolve, reject) => {
    const fail = (why: string, cause?: Error) => reject(new Error(`${address}: ${why}`, { cause }));
    const socket = connect(endpoint);
    const giveUp = () => {
      fail(`no connection within ${timeoutMs} ms`);
      socket.destroy();
    };
    // After a standstill of the worker, a due timer precedes the connection's event, but another timer follows it.
    let timer = setTimeout(() => {
      timer = setTimeout(giveUp, GRACE_MS);
    }, timeoutMs);
    socket.once("connect", () => {
      resolve();
      socket.destroy();
    });
    socket.once("error", (error: NodeJS.ErrnoException) =>
      fail(REMEDIES[error.code ?? ""] ?? error.message, error),
    );
    socket.once("close", () => clearTimeout(timer));
  });
}
