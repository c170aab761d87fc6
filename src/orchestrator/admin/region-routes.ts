import type { Context, Hono } from "hono";
import { z } from "zod";
import type { Control } from "../leases/control.ts";
import type { SlotGroup, WorkerView } from "../leases/leases.ts";
import type { AdminEnv } from "./client-address.ts";
import { checkedBody } from "./json-body.ts";
import { documented } from "./openapi.ts";
import { type Action, KINDS, ORDER_BODY, orderOf, WARNING, warningOf } from "./operator-order.ts";
import type { AdminParts } from "./parts.ts";
import { problem } from "./problem.ts";
import { CONTROL, countByStatus, shownControl, WORKER_STATUS } from "./worker-view.ts";

const REGION = z
  .object({
    region: z.string(),
    workers: z.record(WORKER_STATUS, z.int()).meta({ description: "Number of workers by status." }),
    slots: z.object({
      total: z.int().meta({ description: "Of the workers that are not lost." }),
      free: z.int().meta({ description: "That this orchestrator could assign a job to now." }),
    }),
    jobs: z.array(z.string()).meta({ description: "Ids of the jobs that run there." }),
    control: CONTROL,
  })
  .meta({ id: "Region" });

const REGIONS = z.object({ items: z.array(REGION), next_cursor: z.null() });

const ORDERED_REGION = REGION.extend({ warning: WARNING }).meta({ id: "OrderedRegion" });

const SUMMARIES = {
  drain: "Drain a region: none of its workers gets jobs, also those that register later",
  resume: "Resume a drained region",
} as const satisfies Partial<Record<Action, string>>;

export function addRegions(app: Hono<AdminEnv>, parts: AdminParts): void {
  app.get(
    "/api/v1/regions",
    documented({ summary: "All known worker regions", tag: "Workers", answer: REGIONS }),
    async (context) => {
      const { names, show } = await survey(parts);
      return context.json({ items: names.map(show), next_cursor: null } satisfies z.infer<typeof REGIONS>);
    },
  );
  for (const action of ["drain", "resume"] as const) addOrder(app, parts, action);
}

function addOrder(app: Hono<AdminEnv>, parts: AdminParts, action: keyof typeof SUMMARIES): void {
  app.post(
    `/api/v1/regions/:region/${action}`,
    documented({
      summary: SUMMARIES[action],
      description: "Running jobs continue. Does nothing if it is so already.",
      tag: "Workers",
      answer: ORDERED_REGION,
      body: { schema: ORDER_BODY, isOptional: true },
      problems: [404],
    }),
    checkedBody(ORDER_BODY),
    async (context) => {
      const order = orderOf(action, context.req.valid("json"));
      const name = context.req.param("region");
      const { names } = await survey(parts);
      if (!names.includes(name) && !(await parts.regions.knows(name)))
        return noSuchRegion(context, name, names);
      const outcome = await parts.leases.control({ kind: "region", name }, order);
      if (outcome.kind === "unknown") return noSuchRegion(context, name, names);
      parts.logger.info(
        { region: name, reason: order?.reason },
        `region ${KINDS[action] ?? "resumed"} by an operator`,
      );
      const { show } = await survey(parts);
      return context.json({
        ...show(name),
        warning: warningOf(order, outcome.lasts),
      } satisfies z.infer<typeof ORDERED_REGION>);
    },
  );
}

/** Known regions, and those that are drained although no worker has been there for an hour. */
async function survey({ leases, regions }: Pick<AdminParts, "leases" | "regions">) {
  const [workers, drained, free] = await Promise.all([
    leases.workers(),
    leases.drainedRegions(),
    leases.freeSlots(),
  ]);
  const names = new Set([...regions.all, ...workers.map(({ region }) => region), ...drained.keys()]);
  const show = (region: string) =>
    shownRegion(
      region,
      workers.filter((worker) => worker.region === region),
      free.filter((group) => group.region === region),
      drained.get(region),
    );
  return { names: [...names].toSorted(), show };
}

function shownRegion(
  region: string,
  workers: readonly WorkerView[],
  groups: readonly SlotGroup[],
  control: Control | undefined,
): z.infer<typeof REGION> {
  const live = workers.filter(({ status }) => status !== "LOST");
  return {
    region,
    workers: countByStatus(workers),
    slots: {
      total: live.reduce((sum, { slots }) => sum + slots, 0),
      free: groups.reduce((sum, { free }) => sum + free, 0),
    },
    jobs: workers.flatMap(({ jobs }) => jobs),
    control: shownControl(control && { ...control, scope: "region" }),
  };
}

function noSuchRegion(context: Context, region: string, known: readonly string[]): Response {
  const detail = `worker region ${region} is not known; known regions: ${known.join(", ")}; start a worker there or add it to BLACKTREE_REGIONS`;
  return problem(context, { status: 404, title: "No such region", detail });
}
