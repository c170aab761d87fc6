/**
 * The delay before a submitted message whose handler failed is delivered again. It grows with each failure for the same
 * message, so that a message that always fails uses little; other messages are not delayed.
 */
import { createHash } from "node:crypto";
import { Backoff } from "../../shared/backoff.ts";
import type { Delivery } from "./queue.ts";

export const FAILURE_DELAY = { initialMs: 1_000, maxMs: 300_000 };
const MAX_FAILING = 1_000;

type Content = Pick<Delivery, "body" | "properties">;

export class FailureDelays {
  /** By content, since a redelivered message has no other identity; in the order of the last failures. */
  readonly #failing = new Map<string, Backoff>();

  nextMs(content: Content): number {
    const key = keyOf(content);
    const delay = this.#failing.get(key) ?? new Backoff(FAILURE_DELAY);
    this.#failing.delete(key);
    this.#failing.set(key, delay);
    const [oldest] = this.#failing.keys();
    if (this.#failing.size > MAX_FAILING && oldest !== undefined) this.#failing.delete(oldest);
    return delay.nextMs();
  }

  /** The message's handler has succeeded. */
  forget(content: Content): void {
    if (this.#failing.size > 0) this.#failing.delete(keyOf(content));
  }
}

function keyOf({ body, properties }: Content): string {
  return createHash("sha256").update(body).update(`${properties.messageId}`).digest("base64");
}
