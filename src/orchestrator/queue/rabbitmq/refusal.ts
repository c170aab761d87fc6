/** A refusal by the broker: it closes the channel with a reply code, and would refuse the same request again. */
import type { OpenChannel } from "./channel.ts";

/** Content too large, access refused, not found, precondition failed; AMQP 0-9-1, section 1.2 of the reference. */
const REFUSAL_CODES: ReadonlySet<unknown> = new Set([311, 403, 404, 406]);

export interface Refusal {
  readonly code: number;
  /** The broker's text, such as "ACCESS_REFUSED - …". */
  readonly text: string;
}

/** Undefined: the channel is open, or was lost for another reason. */
export function refusalOf({ lost }: OpenChannel): Refusal | undefined {
  const cause: unknown = lost.aborted ? lost.reason.cause : undefined;
  if (!(cause instanceof Error && "code" in cause && REFUSAL_CODES.has(cause.code))) return undefined;
  return { code: Number(cause.code), text: cause.message };
}

/** An exchange that does not exist. */
export function isNotFound({ code }: Refusal): boolean {
  return code === 404;
}

/** The broker's `max_message_size`, or the size that a queue of an older version can store. */
export function isTooLarge({ code, text }: Refusal): boolean {
  return code === 311 || (code === 406 && text.includes("message size"));
}
