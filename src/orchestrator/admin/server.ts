/** Serves the admin app over HTTP. */
import type { Hono } from "hono";
import type { Logger } from "../../shared/logging.ts";
import { formatHostPort, type HostPort } from "../../shared/settings/parsers.ts";
import type { AdminEnv } from "./client-address.ts";
import { INTERNAL_ERROR, PROBLEM_TYPE, problemText } from "./problem.ts";

export interface AdminServer {
  readonly port: number;
  stop(): Promise<void>;
}

/** @throws Error with the address when listening on it fails. */
export function serveAdmin(app: Hono<AdminEnv>, listen: HostPort, logger: Logger): AdminServer {
  try {
    const fetch = (request: Request, self: Bun.Server<undefined>) =>
      app.fetch(request, { clientAddress: self.requestIP(request)?.address ?? "" });
    // No idle timeout: a followed log can be silent for a long time.
    const server = Bun.serve({
      hostname: listen.host,
      port: listen.port,
      fetch,
      idleTimeout: 0,
      // json-body.ts has the limit, and answers with a problem document.
      maxRequestBodySize: Number.MAX_SAFE_INTEGER,
      // Bun would print the error with the source code around it, and send a page with both.
      development: false,
      error(error) {
        logger.error({ err: error }, "admin API failed");
        const headers = { "content-type": PROBLEM_TYPE };
        return new Response(problemText(INTERNAL_ERROR), { status: INTERNAL_ERROR.status, headers });
      },
    });
    return { port: server.port ?? listen.port, stop: () => server.stop(true) };
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw new Error(`cannot listen for the admin API on ${formatHostPort(listen)}: ${reason}`, {
      cause: error,
    });
  }
}
