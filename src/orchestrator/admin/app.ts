/** The admin API as a Hono app. server.ts listens on the socket, so tests need none. */
import { Hono } from "hono";
import type { AdminEnv } from "./client-address.ts";
import { allowedHostsOnly, bearerToken, jsonPostsOnly } from "./guard.ts";
import { addJobs } from "./job-routes.ts";
import { addLogs } from "./log-routes.ts";
import { addOpenApi } from "./openapi.ts";
import type { AdminParts } from "./parts.ts";
import { isUnavailable, problem } from "./problem.ts";
import { addRegions } from "./region-routes.ts";
import { addRetry } from "./retry-routes.ts";
import { addStatus, addWorkers } from "./worker-routes.ts";

export function createAdminApp(parts: AdminParts): Hono<AdminEnv> {
  const app = new Hono<AdminEnv>();
  app.use(
    allowedHostsOnly(parts.listen.host, parts.hosts),
    bearerToken(parts.token, parts.logger),
    jsonPostsOnly,
  );
  addHealth(app, parts);
  addStatus(app, parts);
  addWorkers(app, parts);
  addRegions(app, parts);
  addJobs(app, parts);
  addLogs(app, parts);
  addRetry(app, parts);
  addOpenApi(app);
  app.notFound((context) =>
    problem(context, { status: 404, title: "Not found", detail: `nothing at ${context.req.path}` }),
  );
  app.onError((error, context) => {
    if (isUnavailable(error)) {
      return problem(context, {
        status: 503,
        title: "Not available",
        detail: `${parts.names.leases} does not answer`,
      });
    }
    parts.logger.error({ err: error, path: context.req.path }, "admin API failed");
    return problem(context, { status: 500, title: "Internal error", detail: "see the orchestrator's log" });
  });
  return app;
}

function addHealth(app: Hono<AdminEnv>, { queue, leases, names }: AdminParts): void {
  app.get("/healthz", (context) => context.json({ status: "ok" }));
  app.get("/readyz", (context) => {
    const checkResult = (isUp: boolean, problems: readonly string[] = []) =>
      isUp ? problems.join("; ") || "ok" : "unavailable";
    const checks = {
      [names.queue]: checkResult(queue.isReady, queue.problems),
      [names.leases]: checkResult(leases.isReady),
    };
    const isReady = Object.values(checks).every((check) => check === "ok");
    return context.json({ status: isReady ? "ready" : "not ready", checks }, isReady ? 200 : 503);
  });
}
