/** What the requests that pause, drain and resume have in common: their body, and how long they last. */
import type { Context } from "hono";
import { bodyLimit } from "hono/body-limit";
import { describeRoute } from "hono-openapi";
import { z } from "zod";
import type { ControlDuration, ControlKind, ControlOrder } from "../leases/control.ts";
import { problem } from "./problem.ts";

export const ACTIONS = ["pause", "drain", "resume"] as const;
export type Action = (typeof ACTIONS)[number];

export const KINDS = { pause: "paused", drain: "drained", resume: undefined } as const satisfies Record<
  Action,
  ControlKind | undefined
>;

const MAX_BODY_BYTES = 64 * 1024;

const BODY = z.object({
  reason: z
    .string()
    .max(200)
    .regex(/^[^\p{Cc}]*$/u)
    .default("")
    .meta({ description: "Shown wherever the order has an effect." }),
});

export const orderBodyLimit = bodyLimit({
  maxSize: MAX_BODY_BYTES,
  onError: (context) =>
    problem(context, {
      status: 413,
      title: "Too large",
      detail: `expected at most ${MAX_BODY_BYTES} bytes`,
    }),
});

/** Adds the optional body to the OpenAPI document. */
export const describedOrderBody = describeRoute({
  requestBody: {
    required: false,
    content: {
      "application/json": {
        schema: { type: "object", properties: { reason: { type: "string", maxLength: 200, default: "" } } },
      },
    },
  },
});

/** The response is that to an invalid body. */
export async function readOrder(
  context: Context,
  action: Action,
): Promise<{ order: ControlOrder } | Response> {
  const body = BODY.safeParse(parseJson((await context.req.text()) || "{}"));
  if (!body.success) {
    const detail =
      'expected no body, or {"reason": "…"} with at most 200 characters without control characters';
    return problem(context, { status: 400, title: "Bad request", detail });
  }
  const kind = KINDS[action];
  return { order: kind && { kind, reason: body.data.reason } };
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

export const WARNING = z
  .string()
  .nullable()
  .meta({ description: "Why it does not last until it is resumed; null if it does." });

const WARNINGS: Readonly<Record<ControlDuration, string | null>> = {
  "until-resumed": null,
  "until-worker-restarts":
    "this worker makes its id at each start: after a restart it has another one, and accepts jobs; set BLACKTREE_WORKER_ID on it",
  "until-exit":
    "kept in the memory of this process only: after a restart of blacktree up, its worker accepts jobs",
};

export function warningOf(order: ControlOrder, lasts: ControlDuration): string | null {
  return order ? WARNINGS[lasts] : null;
}
