/**
 * Reads how an existing queue was declared. AMQP has no request for that, but the broker refuses a declaration that
 * differs, and its refusal names one difference with the queue's value. Policies are not part of the declaration; see
 * policies.ts.
 */
import type { Options } from "amqplib";
import { onDedicatedChannel, type Session } from "./channel.ts";
import { type ArgumentValue, type QueueArguments, replyCode } from "./topology.ts";

export interface QueueDeclaration {
  readonly durable: boolean;
  readonly autoDelete: boolean;
  readonly arguments: QueueArguments;
}

export type ReadDeclaration =
  | { readonly kind: "read"; readonly declaration: QueueDeclaration; readonly isAsExpected: boolean }
  | { readonly kind: "missing" }
  /** The RabbitMQ user may not declare the queue, or another connection has it exclusively. */
  | { readonly kind: "unreadable" };

/** More than the arguments that RabbitMQ compares. */
const MAX_DIFFERENCES = 20;
/**
 * Not valid, so that reading a queue that does not exist does not declare it. Of existing queues, only streams compare
 * it, after their type.
 */
const GUARD = "x-max-age";

/** @param expected is tried first */
export async function readDeclaration(
  session: Session,
  queue: string,
  expected: QueueDeclaration,
): Promise<ReadDeclaration> {
  let declaration = expected;
  for (let differences = 0; differences < MAX_DIFFERENCES; differences++) {
    const refusal = await refusalOf(session, queue, declaration);
    if (refusal === "unreadable") return { kind: refusal };
    const difference = refusal === undefined ? undefined : parseDifference(refusal);
    if (refusal === undefined || difference?.name === GUARD)
      return { kind: "read", declaration, isAsExpected: declaration === expected };
    if (!difference) return { kind: refusal.includes(`invalid arg '${GUARD}'`) ? "missing" : "unreadable" };
    declaration = corrected(declaration, difference);
  }
  return { kind: "unreadable" };
}

/** The text of the broker's refusal; undefined: the queue was declared like this. */
async function refusalOf(
  session: Session,
  queue: string,
  { durable, autoDelete, arguments: given }: QueueDeclaration,
): Promise<string | undefined> {
  const options: Options.AssertQueue = {
    durable,
    autoDelete,
    arguments: { ...given, [GUARD]: "none" },
  };
  return await onDedicatedChannel(session, `queue ${queue}`, (channel) =>
    channel.assertQueue(queue, options),
  ).then(
    () => undefined,
    (error) => {
      const code = replyCode(error);
      if (code === 406) return String(error.message);
      if (code === 403 || code === 405) return "unreadable";
      throw error;
    },
  );
}

interface Difference {
  readonly name: string;
  /** Undefined: the queue was declared without it. */
  readonly text: string | undefined;
  /** Undefined: the type of the value that was compared. */
  readonly type: string | undefined;
}

function parseDifference(refusal: string): Difference | undefined {
  const match =
    /inequivalent arg '([^']+)' for .* but current is (?:none|the value '(.*)' of type '(\w+)'|'(.*)')"?$/s.exec(
      refusal,
    );
  if (match?.[1] === undefined) return undefined;
  return { name: match[1], text: match[2] ?? match[4], type: match[3] };
}

function corrected(declaration: QueueDeclaration, { name, text, type }: Difference): QueueDeclaration {
  if (name === "durable") return { ...declaration, durable: text === "true" };
  if (name === "auto_delete") return { ...declaration, autoDelete: text === "true" };
  const { [name]: compared, ...others } = declaration.arguments;
  if (text === undefined) return { ...declaration, arguments: others };
  const isText = type === "longstr" || (type === undefined && typeof compared === "string");
  return { ...declaration, arguments: { ...others, [name]: isText ? text : plainValueOf(text) } };
}

function plainValueOf(text: string): ArgumentValue {
  return text === "true" || text === "false" ? text === "true" : Number(text);
}
