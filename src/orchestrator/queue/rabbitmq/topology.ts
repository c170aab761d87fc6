/** The names and arguments of Blacktree's queues and exchanges in RabbitMQ, and their declaration. */
import type { Options } from "amqplib";
import { PRIORITIES } from "../../../shared/job.ts";
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
export const declarationLockQueue = (names: Pick<Names, "readyPrefix">) => `${names.readyPrefix}.declaring`;
/** A region's name contains no dot, so no ready queue has this name or the next one. */
export const parkedQueue = (names: Names) => `${names.readyPrefix}.unknown-region`;
/** The parked jobs that were checked at least once. */
export const checkedQueue = (names: Names) => `${parkedQueue(names)}.checked`;
export const unparkingLockQueue = (names: Names) => `${names.readyPrefix}.unparking`;
/** The name of the exchange and of the queue for one delay. */
export const retryQueue = (names: Names, delayMs: RetryDelayMs) => `${names.readyPrefix}.later.${delayMs}ms`;
export const readyQueueName = (names: Names, readyQueue: ReadyQueue) =>
  `${names.readyPrefix}.${readyQueue.region}.${readyQueue.priority}`;

/** Between the job queue and the original API. It is not one of the own queues: messages name it as their `reply_to`. */
export const originalResultQueue = ({ jobQueue }: Pick<Names, "jobQueue">) => `${jobQueue}.original.results`;

export function isOwnQueue(names: Names, queue: string): boolean {
  return (
    queue === names.jobQueue ||
    queue === deadLetterQueue(names) ||
    queue === names.resultQueue ||
    queue.startsWith(`${names.readyPrefix}.`)
  );
}

export type ArgumentValue = string | number | boolean;
/** By name, such as `x-queue-type`. */
export type QueueArguments = Readonly<Record<string, ArgumentValue>>;

interface Queue {
  readonly name: string;
  readonly extraArguments?: QueueArguments;
}

/** What the messages of a queue are: `jobs` wait for a worker, or are the list of regions. */
export type QueueRole = "submissions" | "jobs" | "retries" | "results";

export interface OwnQueue {
  readonly name: string;
  readonly role: QueueRole;
  /** As Blacktree declares it. */
  readonly arguments: QueueArguments;
}

const deadLetters = (names: Names): Queue => ({
  name: deadLetterQueue(names),
  extraArguments: { "x-message-ttl": DEAD_LETTER_TTL_MS },
});

/**
 * One queue per delay, since messages expire only at the head of a queue: with a TTL per message, a short delay would
 * wait behind a longer one. A message is published to the exchange of the same name, with its ready queue's name as
 * routing key, and when its delay is over the broker dead-letters it to that queue, at least once, so that no retry
 * depends on an orchestrator. (https://www.rabbitmq.com/docs/quorum-queues#dead-lettering)
 */
const retryQueues = (names: Names): readonly Queue[] =>
  RETRY_DELAYS_MS.map((delayMs) => ({
    name: retryQueue(names, delayMs),
    extraArguments: {
      "x-message-ttl": delayMs,
      "x-dead-letter-exchange": "",
      "x-dead-letter-strategy": "at-least-once",
      "x-overflow": "reject-publish",
    },
  }));

const waitingQueues = (names: Names): readonly Queue[] =>
  [regionQueue(names), parkedQueue(names), checkedQueue(names)].map((name) => ({ name }));

/** The queues whose messages must not be lost; invalid messages are stored for a time only. */
export function fixedQueues(names: Names): readonly OwnQueue[] {
  const withRole = (role: QueueRole, queues: readonly Queue[]) =>
    queues.map((queue) => ({ name: queue.name, role, arguments: argumentsOf(queue) }));
  return [
    ...withRole("submissions", [{ name: names.jobQueue }]),
    ...withRole("jobs", waitingQueues(names)),
    ...withRole("retries", retryQueues(names)),
    ...withRole("results", [{ name: names.resultQueue }]),
  ];
}

export function readyQueuesOf(names: Names, region: string): readonly OwnQueue[] {
  return PRIORITIES.map((priority) => {
    const queue = { name: readyQueueName(names, { region, priority }) };
    return { ...queue, role: "jobs", arguments: argumentsOf(queue) };
  });
}

/**
 * Declares all queues with fixed names. The exchanges of the retry queues are declared last: if one of them exists,
 * no other orchestrator is declaring these queues for the first time.
 */
export async function ensureFixedQueues(session: Session, names: Names): Promise<void> {
  const others = [{ name: names.jobQueue }, { name: names.resultQueue }, ...waitingQueues(names)];
  const queues = [...others, deadLetters(names), ...retryQueues(names)];
  const isSetUp = await exchangeExists(session, retryQueue(names, RETRY_DELAYS_MS[0]));
  await (isSetUp ? ensureQueues(session, queues) : declareFirst(session, queues));
  await ensureRetryExchanges(session, names);
}

/**
 * Declares a durable quorum queue, unless a queue of that name exists: an existing one is used as it is, whatever its
 * arguments. The check first also supports a RabbitMQ user without the permission to configure queues.
 */
export async function ensureQueue(session: Session, name: string): Promise<void> {
  await ensureQueues(session, [{ name }]);
}

export async function ensureDeadLetterQueue(session: Session, names: Names): Promise<void> {
  await ensureQueues(session, [deadLetters(names)]);
}

export async function ensureRetryQueues(session: Session, names: Names): Promise<void> {
  await ensureQueues(session, retryQueues(names));
  await ensureRetryExchanges(session, names);
}

/**
 * @param isFirst whether another orchestrator may be declaring them right now, for the first time
 * @returns the names of those with other arguments than Blacktree's, which may have a low delivery limit
 */
export async function ensureReadyQueues(
  session: Session,
  names: Names,
  region: string,
  isFirst: boolean,
): Promise<readonly string[]> {
  const queues = PRIORITIES.map((priority) => ({ name: readyQueueName(names, { region, priority }) }));
  await (isFirst ? declareFirst(session, queues) : ensureQueues(session, queues));
  const areOwn = await Promise.all(queues.map((queue) => hasOwnArguments(session, queue)));
  return queues.filter((_, index) => !areOwn[index]).map(({ name }) => name);
}

async function ensureQueues(session: Session, queues: readonly Queue[]): Promise<void> {
  const missing = await missingOf(session, queues);
  if (missing.length > 0) await declareFirst(session, missing);
}

/** A queue that exists here may still be unusable: another client's declaration of it may not have ended. */
async function declareFirst(session: Session, queues: readonly Queue[]): Promise<void> {
  await session.declarations.run(session, async () => {
    const missing = await missingOf(session, queues);
    const declarations = missing.map((queue) => declareQueue(session, queue));
    // The lock is kept for all of them, also when one fails.
    await Promise.allSettled(declarations);
    await Promise.all(declarations);
  });
}

async function missingOf(session: Session, queues: readonly Queue[]): Promise<readonly Queue[]> {
  const exist = await Promise.all(queues.map(({ name }) => queueExists(session, name)));
  return queues.filter((_, index) => !exist[index]);
}

async function declareQueue(session: Session, queue: Queue): Promise<void> {
  await assertQueue(session, queue).catch((error) => {
    // Another client has declared it with other arguments in the meantime; the other reason is a limit of queues.
    if (replyCode(error) !== 406 || /queue limit/.test(String(error))) throw error;
  });
}

/** Of an existing queue. False, too, when the RabbitMQ user may not declare it, since only that would show it. */
async function hasOwnArguments(session: Session, queue: Queue): Promise<boolean> {
  return await assertQueue(session, queue).then(
    () => true,
    (error) => {
      // RabbitMQ would close the connection that takes a message from it.
      if (/current is .*'stream'/.test(String(error)))
        throw new Error(`the internal queue ${queue.name} is a stream: delete it`, { cause: error });
      return refusedWith(error, 403, 406);
    },
  );
}

async function assertQueue(session: Session, queue: Queue): Promise<void> {
  const { name } = queue;
  const options: Options.AssertQueue = { durable: true, arguments: argumentsOf(queue) };
  await onDedicatedChannel(session, `queue ${name}`, (channel) => channel.assertQueue(name, options));
}

function argumentsOf({ extraArguments }: Queue): QueueArguments {
  return { "x-queue-type": "quorum", "x-delivery-limit": DELIVERY_LIMIT, ...extraArguments };
}

/** A RabbitMQ user without the permission to configure may use those that exist. */
async function ensureRetryExchanges(session: Session, names: Names): Promise<void> {
  await Promise.all(
    retryQueues(names).map(async ({ name }) => {
      const exists = await exchangeExists(session, name);
      await onDedicatedChannel(session, `exchange ${name}`, async (channel) => {
        if (!exists) await channel.assertExchange(name, "fanout", { durable: true });
        await channel.bindQueue(name, name, "");
      });
    }),
  );
}

export async function ensureEventExchange(session: Session, { eventExchange }: Names): Promise<void> {
  if (await exchangeExists(session, eventExchange)) return;
  await onDedicatedChannel(session, `exchange ${eventExchange}`, (channel) =>
    channel.assertExchange(eventExchange, "topic", { durable: true }),
  ).catch((error) => {
    if (replyCode(error) !== 406) throw error;
  });
}

export async function exchangeExists(session: Session, exchange: string): Promise<boolean> {
  return await onDedicatedChannel(session, `exchange ${exchange}`, (channel) =>
    channel.checkExchange(exchange),
  ).then(
    () => true,
    (error) => refusedWith(error, 404),
  );
}

export async function queueExists(session: Session, queue: string): Promise<boolean> {
  return await onDedicatedChannel(session, `queue ${queue}`, (channel) => channel.checkQueue(queue)).then(
    () => true,
    (error) => refusedWith(error, 404),
  );
}

/** How many messages wait in the queue; none if it does not exist. */
export async function countOf(session: Session, queue: string): Promise<number> {
  return await onDedicatedChannel(session, `queue ${queue}`, (channel) => channel.checkQueue(queue)).then(
    ({ messageCount }) => messageCount,
    (error) => Number(refusedWith(error, 404)),
  );
}

/** False when the broker refused with one of these codes; any other error is thrown. */
function refusedWith(error: unknown, ...codes: readonly number[]): false {
  const code = replyCode(error);
  if (code !== undefined && codes.includes(code)) return false;
  throw error;
}

export function replyCode(error: unknown): number | undefined {
  return error instanceof Error && "code" in error && typeof error.code === "number" ? error.code : undefined;
}
