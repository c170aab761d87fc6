import type { Hono } from "hono";
import { z } from "zod";
import type { AdminEnv } from "./client-address.ts";
import { documented } from "./openapi.ts";
import type { AdminParts } from "./parts.ts";

const HEALTH = z.object({ status: z.literal("ok") }).meta({ id: "Health" });

const READINESS = z
  .object({
    status: z.enum(["ready", "not ready"]),
    checks: z.record(z.string(), z.string()).meta({
      description: "By the name of the server: `ok`, `unavailable`, or what it does not accept.",
      examples: [{ rabbitmq: "ok", redis: "ok" }],
    }),
  })
  .meta({ id: "Readiness" });

export function addHealth(app: Hono<AdminEnv>, { queue, leases, names }: AdminParts): void {
  app.get(
    "/healthz",
    documented({
      id: "getHealth",
      summary: "Whether the process runs",
      description: "Needs no token. Answers 200 also while RabbitMQ or Redis do not answer.",
      tag: "Orchestrator",
      isPublic: true,
      answer: HEALTH,
      answered: "The process runs.",
    }),
    (context) => context.json({ status: "ok" }),
  );
  app.get(
    "/readyz",
    documented({
      id: "getReadiness",
      summary: "Whether the orchestrator can do its work",
      description:
        "Needs no token. The orchestrator is ready if RabbitMQ and Redis are reachable and RabbitMQ accepts all messages, confirms them within 10 s, and is not known to drop jobs.",
      tag: "Orchestrator",
      isPublic: true,
      answer: READINESS,
      answered: "It is ready.",
      otherAnswers: { 503: { answer: READINESS, description: "It is not ready; `checks` says why." } },
    }),
    (context) => {
      const checkResult = (isUp: boolean, problems: readonly string[] = []) =>
        isUp ? problems.join("; ") || "ok" : "unavailable";
      const checks = {
        [names.queue]: checkResult(queue.isReady, queue.problems),
        [names.leases]: checkResult(leases.isReady),
      };
      const isReady = Object.values(checks).every((check) => check === "ok");
      return context.json({ status: isReady ? "ready" : "not ready", checks }, isReady ? 200 : 503);
    },
  );
}
