/** Gives the admin app a socket. */
import type { Hono } from "hono";
import { formatHostPort, type HostPort } from "../../shared/settings/parsers.ts";

export interface AdminServer {
  readonly port: number;
  stop(): Promise<void>;
}

/** @throws Error naming the address when it cannot be listened on. */
export function serveAdmin(app: Hono, listen: HostPort): AdminServer {
  try {
    // A log that is silent for a while is no reason to hang up, so there is no idle timeout.
    const server = Bun.serve({ hostname: listen.host, port: listen.port, fetch: app.fetch, idleTimeout: 0 });
    return { port: server.port ?? listen.port, stop: () => server.stop(true) };
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw new Error(`cannot listen for the admin API on ${formatHostPort(listen)}: ${reason}`, {
      cause: error,
    });
  }
}
