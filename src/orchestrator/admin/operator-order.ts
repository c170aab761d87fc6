/** The body of the requests that pause, drain and resume, and the warning of their answers. */
import { z } from "zod";
import type { ControlDuration, ControlKind, ControlOrder } from "../leases/control.ts";

export const ACTIONS = ["pause", "drain", "resume"] as const;
export type Action = (typeof ACTIONS)[number];

export const KINDS = { pause: "paused", drain: "drained", resume: undefined } as const satisfies Record<
  Action,
  ControlKind | undefined
>;

const REASON = "expected at most 200 characters without control characters";

// biome-ignore lint/suspicious/noControlCharactersInRegex: the pattern rejects control characters
const WITHOUT_CONTROL_CHARACTERS = /^[^\x00-\x1f\x7f-\x9f]*$/;

/** The body of requests in which an operator may say why. */
export const reasonBody = (description: string, example: string) =>
  z.object(
    {
      reason: z
        .string({ error: REASON })
        .max(200, { error: REASON })
        .regex(WITHOUT_CONTROL_CHARACTERS, { error: REASON })
        .default("")
        .meta({ description, examples: [example] }),
    },
    { error: 'expected no body, or {"reason": "…"}' },
  );

export const ORDER_BODY = reasonBody(
  "Shown wherever the order has an effect. A repeated order keeps the known reason unless it has another one.",
  "new disk",
).meta({
  id: "Order",
});

export function orderOf(action: Action, { reason }: z.infer<typeof ORDER_BODY>): ControlOrder {
  const kind = KINDS[action];
  return kind && { kind, reason };
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
