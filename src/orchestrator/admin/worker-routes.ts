import type { Context, Hono } from "hono";
import { z } from "zod";
import { REGION_PATTERN } from "../../shared/settings/parsers.ts";
import { COMMIT, VERSION } from "../../shared/version.ts";
import type { WorkerView } from "../leases/leases.ts";
import type { AdminEnv } from "./client-address.ts";
import { checkedBody } from "./json-body.ts";
import { checkedQuery, documented } from "./openapi.ts";
import { ACTIONS, type Action, KINDS, ORDER_BODY, orderOf, WARNING, warningOf } from "./operator-order.ts";
import type { AdminParts } from "./parts.ts";
import { problem } from "./problem.ts";
import { CONTROL, countByStatus, shownControl, shownWorker, WORKER, WORKER_STATUS } from "./worker-view.ts";

const WORKERS = z.object({ items: z.array(WORKER), next_cursor: z.null() });

const STATUS = z
  .object({
    version: z.string(),
    commit: z.string(),
    region: z.string(),
    started_at: z.iso.datetime(),
    connected: z.record(z.string(), z.boolean()).meta({ description: "By the name of the server." }),
    workers: z
      .record(WORKER_STATUS, z.int())
      .nullable()
      .meta({ description: "Number of workers by status; null while they are not known." }),
  })
  .meta({ id: "Status" });

export function addStatus(app: Hono<AdminEnv>, { queue, leases, names, region }: AdminParts): void {
  const startedAt = new Date().toISOString();
  app.get(
    "/api/v1/status",
    documented({ summary: "State of this orchestrator", tag: "Orchestrator", answer: STATUS }),
    async (context) => {
      const checks = { [names.queue]: queue.isReady, [names.leases]: leases.isReady };
      const workers = leases.isReady ? countByStatus(await leases.workers()) : null;
      return context.json({
        version: VERSION,
        commit: COMMIT,
        region,
        started_at: startedAt,
        connected: checks,
        workers,
      } satisfies z.infer<typeof STATUS>);
    },
  );
}

const STATUSES = WORKER_STATUS.options.join("|");
const EXPECTED_STATUS = `expected one or more of ${WORKER_STATUS.options.join(", ")}, comma separated`;
// biome-ignore lint/suspicious/noControlCharactersInRegex: no URL has a NUL
const LABEL = z.string().regex(/^[^=\x00]+=[^\x00]*$/, { error: "expected key=value" });

const QUERY = z.strictObject({
  region: z
    .string()
    .regex(REGION_PATTERN, { error: "expected a worker region: 1 to 63 letters, digits, - and _" })
    .optional()
    .meta({ description: "Workers of this region.", examples: ["us-east-1"] }),
  status: z
    .string()
    .regex(new RegExp(`^(${STATUSES})(,(${STATUSES}))*$`), { error: EXPECTED_STATUS })
    .optional()
    .meta({ description: "Workers in one of these states, comma separated.", examples: ["FREE,BUSY"] }),
  label: z
    .union([LABEL, z.array(LABEL)], { error: "expected key=value" })
    .optional()
    .meta({
      description: "Workers with this label, as `key=value`; if it is given several times, with all of them.",
      examples: ["rack=7"],
    }),
});

export function addWorkers(app: Hono<AdminEnv>, parts: AdminParts): void {
  const { leases } = parts;
  app.get(
    "/api/v1/workers",
    documented({
      summary: "Workers, all or those that match",
      tag: "Workers",
      answer: WORKERS,
    }),
    checkedQuery(QUERY),
    async (context) => {
      const matches = filterOf(context.req.valid("query"));
      const workers = (await leases.workers()).filter(matches);
      return context.json({ items: workers.map(shownWorker), next_cursor: null });
    },
  );
  app.get(
    "/api/v1/workers/:id",
    documented({ summary: "A worker", tag: "Workers", answer: WORKER, problems: [404] }),
    async (context) => {
      const id = context.req.param("id");
      const workers = await leases.workers();
      const worker = workers.find(({ workerId }) => workerId === id);
      return worker ? context.json(shownWorker(worker)) : noSuchWorker(context, id, workers);
    },
  );
  for (const action of ACTIONS) addOrder(app, parts, action);
}

function filterOf({ region, status, label = [] }: z.infer<typeof QUERY>): (worker: WorkerView) => boolean {
  const statuses = status?.split(",");
  const labels = [label]
    .flat()
    .map((each) => [each.split("=", 1)[0] ?? "", each.slice(each.indexOf("=") + 1)]);
  return (worker) =>
    (region === undefined || worker.region === region) &&
    (statuses === undefined || statuses.includes(worker.status)) &&
    labels.every(([key = "", value]) => worker.labels[key] === value);
}

const ORDERED_WORKER = z
  .object({
    id: z.string(),
    region: z.string().nullable().meta({ description: "Null while the worker is not known." }),
    status: WORKER_STATUS.nullable().meta({ description: "Null while the worker is not known." }),
    jobs: z.array(z.string()).meta({ description: "Ids of the jobs that still run on it." }),
    control: CONTROL,
    warning: WARNING,
  })
  .meta({ id: "OrderedWorker" });

const SUMMARIES: Readonly<Record<Action, string>> = {
  pause: "Pause a worker: it gets no jobs until it is resumed",
  drain: "Drain a worker: it gets no jobs until it is resumed, and is about to be stopped",
  resume: "Resume a worker that was paused or drained",
};

function addOrder(app: Hono<AdminEnv>, { leases, logger }: AdminParts, action: Action): void {
  app.post(
    `/api/v1/workers/:id/${action}`,
    documented({
      summary: SUMMARIES[action],
      description: "Its running jobs continue. Does nothing if it is so already.",
      tag: "Workers",
      answer: ORDERED_WORKER,
      body: { schema: ORDER_BODY, isOptional: true },
      problems: [404],
    }),
    checkedBody(ORDER_BODY),
    async (context) => {
      const order = orderOf(action, context.req.valid("json"));
      const id = context.req.param("id");
      const outcome = await leases.control({ kind: "worker", name: id }, order);
      const workers = await leases.workers();
      if (outcome.kind === "unknown") return noSuchWorker(context, id, workers);
      logger.info(
        { worker_id: id, reason: order?.reason },
        `worker ${KINDS[action] ?? "resumed"} by an operator`,
      );
      const worker = workers.find(({ workerId }) => workerId === id);
      return context.json({
        id,
        region: worker?.region ?? null,
        status: worker?.status ?? null,
        jobs: [...(worker?.jobs ?? [])],
        control: shownControl(
          worker?.control ?? (outcome.control && { ...outcome.control, scope: "worker" }),
        ),
        warning: warningOf(order, outcome.lasts),
      } satisfies z.infer<typeof ORDERED_WORKER>);
    },
  );
}

const MAX_LISTED = 20;

function noSuchWorker(context: Context, id: string, workers: readonly WorkerView[]): Response {
  const ids = workers.map(({ workerId }) => workerId).toSorted();
  const [listed, more] = [ids.slice(0, MAX_LISTED).join(", "), ids.length - MAX_LISTED];
  const known = ids.length === 0 ? "none" : `${listed}${more > 0 ? ` and ${more} more` : ""}`;
  const detail = `worker ${id} is not known: it was stopped, was lost more than an hour ago, or has never registered; known workers: ${known}`;
  return problem(context, { status: 404, title: "No such worker", detail });
}
