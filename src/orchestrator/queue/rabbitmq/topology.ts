/** The names and arguments of Blacktree's queues and exchanges in RabbitMQ, and their declaration. */
import type { ChannelModel, Options } from "amqplib";
import type { ReadyQueue } from "../queue.ts";
import { RETRY_DELAYS_MS, type RetryDelayMs } from "../queue.ts";
import { onDedicatedChannel, type Session } from "./channel.ts";

export interface Names {
  /** `jobs.build` */
  readonly jobQueue: string;
  /** `jobs.results` */
  readonly resultQueue: string;
  /** `jobs.ready`, the prefix of the ready queues' names */
  readonly readyPrefix: string;
  /** `jobs.events` */
  readonly eventExchange: string;
}

/**
 * Practically none. With a limit, a returned message goes back to the head of its queue; without one, RabbitMQ may append
 * it (measured on 3.10 and 4.0). From 4.0 on the default limit is 20. For queues with another limit see
 * `nearsDeliveryLimit` in delivery.ts.
 */
const DELIVERY_LIMIT = 2 ** 31 - 1;
const DEAD_LETTER_TTL_MS = 7 * 24 * 60 * 60 * 1000;

export const deadLetterQueue = (names: Names) => `${names.jobQueue}.dead`;
export const regionQueue = (names: Names) => `${names.readyPrefix}.regions`;
/** The name of the exchange and of the queue for one delay. */
export const retryQueue = (names: Names, delayMs: RetryDelayMs) => `${names.readyPrefix}.later.${delayMs}ms`;
export const readyQueueName = (names: Names, readyQueue: ReadyQueue) =>
  `${names.readyPrefix}.${readyQueue.region}.${readyQueue.priority}`;

export function isOwnQueue(names: Names, queue: string): boolean {
  return (
    queue === names.jobQueue ||
    queue === deadLetterQueue(names) ||
    queue === names.resultQueue ||
    queue.startsWith(`${names.readyPrefix}.`)
  );
}

/**
 * Declares a durable quorum queue, unless a queue of that name exists: an existing one is used as it is, whatever its
 * arguments. The check first also supports a RabbitMQ user without the permission to configure queues.
 */
export async function ensureQueue(
  session: Session,
  queue: string,
  extraArguments: Record<string, unknown> = {},
): Promise<void> {
  if (await queueExists(session.model, queue)) return;
  const options: Options.AssertQueue = {
    durable: true,
    arguments: { "x-queue-type": "quorum", "x-delivery-limit": DELIVERY_LIMIT, ...extraArguments },
  };
  await onDedicatedChannel(session.model, (channel) => channel.assertQueue(queue, options)).catch((error) => {
    // Another client has declared it with other arguments in the meantime.
    if (replyCode(error) !== 406) throw error;
  });
}

export function ensureDeadLetterQueue(session: Session, names: Names): Promise<void> {
  return ensureQueue(session, deadLetterQueue(names), { "x-message-ttl": DEAD_LETTER_TTL_MS });
}

/**
 * One queue per delay, since messages expire only at the head of a queue: with a TTL per message, a short delay would
 * wait behind a longer one. A message is published to the exchange of the same name, with its ready queue's name as
 * routing key, and when its delay is over the broker dead-letters it to that queue, at least once, so that no retry
 * depends on an orchestrator. (https://www.rabbitmq.com/docs/quorum-queues#dead-lettering)
 */
export async function ensureRetryQueues(session: Session, names: Names): Promise<void> {
  await Promise.all(
    RETRY_DELAYS_MS.map((delayMs) => ensureRetryQueue(session, retryQueue(names, delayMs), delayMs)),
  );
}

async function ensureRetryQueue(session: Session, name: string, delayMs: number): Promise<void> {
  await ensureQueue(session, name, {
    "x-message-ttl": delayMs,
    "x-dead-letter-exchange": "",
    "x-dead-letter-strategy": "at-least-once",
    "x-overflow": "reject-publish",
  });
  await onDedicatedChannel(session.model, async (channel) => {
    await channel.assertExchange(name, "fanout", { durable: true });
    await channel.bindQueue(name, name, "");
  });
}

export async function ensureEventExchange(session: Session, names: Names): Promise<void> {
  const exists = await onDedicatedChannel(session.model, (channel) =>
    channel.checkExchange(names.eventExchange),
  ).then(
    () => true,
    (error) => refusedWith(error, 404),
  );
  if (exists) return;
  await onDedicatedChannel(session.model, (channel) =>
    channel.assertExchange(names.eventExchange, "topic", { durable: true }),
  ).catch((error) => {
    if (replyCode(error) !== 406) throw error;
  });
}

async function queueExists(model: ChannelModel, queue: string): Promise<boolean> {
  return await onDedicatedChannel(model, (channel) => channel.checkQueue(queue)).then(
    () => true,
    (error) => refusedWith(error, 404),
  );
}

/** False when the broker refused with this code; any other error is thrown. */
function refusedWith(error: unknown, code: number): false {
  if (replyCode(error) === code) return false;
  throw error;
}

export function replyCode(error: unknown): number | undefined {
  return error instanceof Error && "code" in error && typeof error.code === "number" ? error.code : undefined;
}
