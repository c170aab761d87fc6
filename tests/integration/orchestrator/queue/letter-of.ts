import type { DeadLetter, Delivery } from "../../../../src/orchestrator/queue/queue.ts";

/** The message as it was submitted. */
export const letterOf = (delivery: Delivery | undefined, reason: string): DeadLetter => ({
  reason,
  body: delivery?.body ?? Buffer.alloc(0),
  redacted: [],
});
