/** The names and arguments of what Blacktree has in RabbitMQ, and how it is declared. */
import type { ChannelModel, Options } from "amqplib";
import type { ReadyQueue } from "../queue.ts";
import { RETRY_DELAYS_MS, type RetryDelayMs } from "../queue.ts";
import { onOwnChannel, type Session } from "./channel.ts";

export interface Names {
  /** `jobs.build` */
  readonly jobQueue: string;
  /** `jobs.results` */
  readonly resultQueue: string;
  /** `jobs.ready`, the beginning of the ready queues' names */
  readonly readyPrefix: string;
  /** `jobs.events` */
  readonly eventExchange: string;
}

const DEAD_LETTER_TTL_MS = 7 * 24 * 60 * 60 * 1000;

export const deadLetterQueue = (names: Names) => `${names.jobQueue}.dead`;
export const regionQueue = (names: Names) => `${names.readyPrefix}.regions`;
/** Exchange and queue of one delay. */
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
 * Declares a durable quorum queue, unless a queue of that name exists: that one is used as it is, whatever its
 * arguments. Looking first also spares a user who may not configure anything the refusal.
 */
export async function ensureQueue(
  session: Session,
  queue: string,
  extraArguments: Record<string, unknown> = {},
): Promise<void> {
  if (await queueExists(session.model, queue)) return;
  const options: Options.AssertQueue = {
    durable: true,
    arguments: { "x-queue-type": "quorum", ...deliveryLimit(session), ...extraArguments },
  };
  await onOwnChannel(session.model, (channel) => channel.assertQueue(queue, options)).catch((error) => {
    // Somebody else declared it otherwise in between.
    if (replyCode(error) !== 406) throw error;
  });
}

export function ensureDeadLetterQueue(session: Session, names: Names): Promise<void> {
  return ensureQueue(session, deadLetterQueue(names), { "x-message-ttl": DEAD_LETTER_TTL_MS });
}

/**
 * One queue a delay, since a message leaves a queue only at its head: with a time of its own it would wait behind longer
 * ones. A message comes in by the exchange of the same name, under its ready queue's name as routing key, and that is where it
 * is dead-lettered to when its time is over: by the broker, at least once, so that no retry hangs on an orchestrator.
 * (https://www.rabbitmq.com/docs/quorum-queues#dead-lettering)
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
  await onOwnChannel(session.model, async (channel) => {
    await channel.assertExchange(name, "fanout", { durable: true });
    await channel.bindQueue(name, name, "");
  });
}

export async function ensureEventExchange(session: Session, names: Names): Promise<void> {
  const exists = await onOwnChannel(session.model, (channel) =>
    channel.checkExchange(names.eventExchange),
  ).then(
    () => true,
    (error) => refusedWith(error, 404),
  );
  if (exists) return;
  await onOwnChannel(session.model, (channel) =>
    channel.assertExchange(names.eventExchange, "topic", { durable: true }),
  ).catch((error) => {
    if (replyCode(error) !== 406) throw error;
  });
}

async function queueExists(model: ChannelModel, queue: string): Promise<boolean> {
  return await onOwnChannel(model, (channel) => channel.checkQueue(queue)).then(
    () => true,
    (error) => refusedWith(error, 404),
  );
}

/**
 * From 4.0 on a quorum queue drops a message after 20 deliveries by default; -1 lifts that. Earlier versions have no
 * limit and refuse the value. Queues that were declared otherwise are covered by `wearsOut` (rabbitmq-delivery.ts).
 */
function deliveryLimit(session: Session): Record<string, unknown> {
  return session.serverMajorVersion >= 4 ? { "x-delivery-limit": -1 } : {};
}

/** False when the broker refused with this code; any other error is thrown. */
function refusedWith(error: unknown, code: number): false {
  if (replyCode(error) === code) return false;
  throw error;
}

export function replyCode(error: unknown): number | undefined {
  return error instanceof Error && "code" in error && typeof error.code === "number" ? error.code : undefined;
}
