/** The admin API as a Hono app. server.ts listens on the socket, so tests need none. */
import { Hono } from "hono";
import { methodNotAllowed } from "hono/method-not-allowed";
import type { AdminEnv } from "./client-address.ts";
import { allowedHostsOnly, bearerToken, jsonPostsOnly, wellFormedUrlsOnly } from "./guard.ts";
import { addHealth } from "./health-routes.ts";
import { addJobs } from "./job-routes.ts";
import { addLogs } from "./log-routes.ts";
import { addOpenApi } from "./openapi-document.ts";
import type { AdminParts } from "./parts.ts";
import { addPathParameters } from "./path-parameters.ts";
import { INTERNAL_ERROR, isUnavailable, problem } from "./problem.ts";
import { addRegions } from "./region-routes.ts";
import { addRetry } from "./retry-routes.ts";
import { addStatus, addWorkers } from "./worker-routes.ts";

export function createAdminApp(parts: AdminParts): Hono<AdminEnv> {
  const app = new Hono<AdminEnv>();
  app.use(
    allowedHostsOnly(parts.listen.host, parts.hosts),
    bearerToken(parts.token, parts.logger),
    wellFormedUrlsOnly,
    methodNotAllowed({ app, onMethodNotAllowed: answerByMethods }),
    jsonPostsOnly,
  );
  addPathParameters(app);
  addHealth(app, parts);
  addStatus(app, parts);
  addWorkers(app, parts);
  addRegions(app, parts);
  addJobs(app, parts);
  addLogs(app, parts);
  addRetry(app, parts);
  addOpenApi(app);
  app.notFound((context) =>
    problem(context, {
      status: 404,
      title: "Not found",
      detail: `nothing at ${context.req.path}; GET /openapi.json describes all paths`,
    }),
  );
  app.onError((error, context) => {
    if (isUnavailable(error)) {
      return problem(context, {
        status: 503,
        title: "Not available",
        detail: `${parts.names.leases} does not answer; try again, and see GET /readyz for the state of the servers`,
      });
    }
    parts.logger.error({ err: error, path: context.req.path }, "admin API failed");
    return problem(context, INTERNAL_ERROR);
  });
  return app;
}

/** To a request whose path exists, but not with its method. */
function answerByMethods(context: Parameters<typeof problem>[0], methods: readonly string[]): Response {
  context.header("Allow", [...methods, "OPTIONS"].toSorted().join(", "));
  if (context.req.method === "OPTIONS") return context.body(null, 204);
  const detail = `${context.req.method} is not possible at ${context.req.path}; expected ${methods.join(", ")}`;
  return problem(context, { status: 405, title: "Method not allowed", detail });
}
