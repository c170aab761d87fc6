/**
 * The queue: jobs wait in it and results are published to it. A message in it is the one durable record that a job
 * still needs a result. RabbitMQ (rabbitmq/queue.ts) and the embedded SQLite file (sqlite/queue.ts) implement this
 * interface, and both pass tests/integration/orchestrator/queue/queue-contract.ts.
 */
import type { JobEvent, JobResult, Priority } from "../../shared/job.ts";

/** The waiting jobs of one worker region and priority: queue `jobs.ready.<region>.<priority>`. */
export interface ReadyQueue {
  /** Of parking.ts: a worker region, or a name that jobs for unknown regions share. */
  readonly region: string;
  readonly priority: Priority;
}

/** The fields that intake adds to a message when it accepts it. The body stays as submitted. */
export interface Envelope {
  readonly jobId: string;
  readonly acceptedAt: Date;
  /** The registry region of a job that names no `region`; stored here, so every orchestrator reads the job alike. */
  readonly defaultRegion: string;
  /** Missing while no attempt has ended. */
  readonly retry?: Retry;
}

/** A job's earlier attempts. They travel with the message, since every other record of them may be lost. */
export interface Retry {
  /** How many attempts have ended: the next one has a higher number. */
  readonly attempts: number;
  /** The worker of the last one; another worker is preferred. */
  readonly lastWorkerId: string;
}

/** Properties that a sender may set on a message. */
export interface MessageProperties {
  readonly messageId?: string;
  readonly correlationId?: string;
  readonly replyTo?: string;
  /** Of a submitted message only: an accepted job is stored decoded. */
  readonly contentEncoding?: string;
}

/**
 * A message delivered to this orchestrator. It stays in the broker until `ack`: if this process dies, or the broker
 * revokes the delivery, the message is delivered again. After `revoked`, `ack` and `requeue` do nothing.
 */
export interface Delivery {
  readonly body: Buffer;
  readonly properties: MessageProperties;
  /** The message was delivered before. */
  readonly redelivered: boolean;
  /** Aborts when the broker revokes the delivery. The job's result is then another orchestrator's to publish. */
  readonly revoked: AbortSignal;
  ack(): void;
  /** Returns the message to its queue. */
  requeue(): void;
}

export interface ReadyDelivery extends Delivery {
  readonly readyQueue: ReadyQueue;
  readonly envelope: Envelope;
  /**
   * Returns the message to its ready queue, in front of all messages that were never taken; messages that are requeued
   * one after the other keep that order. Resolves with true when the queue has it, or when the delivery is revoked; with
   * false when the broker does not answer in time. No listener of `onReady` is called: it is another orchestrator's turn,
   * or that of this one a while later.
   */
  requeue(): Promise<boolean>;
  /**
   * Asks the broker whether it still considers the message delivered to this orchestrator. Resolves with how long it
   * will at least, in ms, even if the connection is lost from now on: so long no other orchestrator gets the message.
   * @throws Error when the broker does not answer, or has revoked the delivery
   */
  heldForMs(): Promise<number>;
}

export interface ReadyMessage {
  readonly body: Buffer;
  readonly properties: MessageProperties;
  readonly envelope: Envelope;
}

/** The deliveries of submitted messages to a handler. */
export interface Subscription {
  /**
   * Stops the deliveries and returns every unsettled message to the queue, in the order of the queue: their deliveries
   * are revoked. Resolves when other orchestrators can get them; none is delivered here until `resume`.
   */
  pause(): Promise<void>;
  resume(): void;
  /** Stops the deliveries for good; unsettled ones stay valid. */
  stop(): Promise<void>;
}

export interface DeadLetter {
  readonly reason: string;
  readonly body: Buffer;
  /** What in the body is replaced, such as `git_token`. */
  readonly redacted: readonly string[];
}

/**
 * Every publishing method resolves once the broker has confirmed the message, and keeps trying across lost
 * connections until then; it rejects only when `signal` aborts (with the signal's reason) or the queue is closed
 * (QueueClosed).
 */
export interface JobQueue {
  /** Connects, declares, and keeps reconnecting with growing delay until `close`. Does not fail without a broker. */
  start(): void;
  /** Connected and declared. */
  readonly isReady: boolean;
  /**
   * What the broker does not accept now, although it is connected (each publish is repeated until it does), and why it
   * may drop jobs.
   */
  readonly problems: readonly string[];

  /** Publishes a job to the queue that clients use (`jobs.build`). */
  submit(body: Buffer, properties: MessageProperties, signal?: AbortSignal): Promise<void>;
  /**
   * Passes every submitted message to `handler`, several at once, again after every reconnection.
   * The handler acks, requeues or dead-letters each message; if it throws, the message is requeued.
   * Call once, before or after `start`.
   */
  onSubmitted(handler: (delivery: Delivery) => Promise<void>): Subscription;
  /** Publishes a submitted message to the dead-letter queue. Confirmed; the caller then acks the delivery. */
  deadLetter(delivery: Delivery, letter: DeadLetter, signal?: AbortSignal): Promise<void>;

  /** Declares the region's ready queues, so that this orchestrator is notified of other orchestrators' offers to them. */
  addRegion(region: string): Promise<void>;
  /** Publishes an accepted job to its ready queue. */
  offer(readyQueue: ReadyQueue, message: ReadyMessage, signal?: AbortSignal): Promise<void>;
  /**
   * Publishes an accepted job whose region is not known to a place that all such jobs share, so that no number of region
   * names creates more queues.
   */
  park(readyQueue: ReadyQueue, message: ReadyMessage, signal?: AbortSignal): Promise<void>;
  /**
   * Moves the parked jobs of the regions that `isKnown` accepts to their ready queues, oldest first. `isKnown` must
   * not change its answers meanwhile. Resolves when every job that was parked before the call was checked.
   * @throws Error when the connection is lost; the jobs that were not moved stay parked
   */
  unpark(isKnown: (region: string) => boolean): Promise<void>;
  /**
   * Publishes a delivered job to its ready queue again, after `delayMs` (chosen by job/retry-policy.ts) and with the
   * given record of its attempts. Confirmed; the caller then acks the delivery.
   */
  offerLater(delivery: ReadyDelivery, retry: Retry, delayMs: RetryDelayMs): Promise<void>;
  /** Takes the oldest message of a ready queue; undefined when it is empty or the broker is down. */
  take(readyQueue: ReadyQueue): Promise<ReadyDelivery | undefined>;
  /** Number of messages in the ready queues of `regions()`, without those that were taken. @throws without a broker */
  waiting(): Promise<number>;
  /**
   * Whether any message waits in these ready queues, is parked for one of them, or waits for another attempt. Messages
   * that are delivered to an orchestrator may not count. @throws Error when the broker does not answer
   */
  hasWaiting(readyQueues: readonly ReadyQueue[]): Promise<boolean>;
  /** The regions that any orchestrator has ever added or offered a job for: each may have waiting jobs. */
  regions(): readonly string[];
  /**
   * Calls back when a ready queue of `regions()` may have a new message, from any orchestrator. May call too often, but
   * misses none that is offered while connected; after a reconnection it is called once for every ready queue.
   */
  onReady(listener: (readyQueue: ReadyQueue) => void): void;

  /**
   * Publishes a result to the result queue and to each of `replyTo` that names an existing queue which does not belong
   * to Blacktree; a missing one is logged and delays nothing.
   */
  publishResult(
    result: JobResult,
    correlationId: string | undefined,
    replyTo: readonly string[],
    signal?: AbortSignal,
  ): Promise<void>;
  /** Publishes a change of state. Best effort: an event that cannot be sent is logged, and delays nothing. */
  publishEvent(event: JobEvent): void;

  /** Stops consuming and closes. Unacked messages return to the broker. */
  close(): Promise<void>;
}

/** The queue was closed while a call waited for it. */
export class QueueClosed extends Error {
  override readonly name = "QueueClosed";
}

/**
 * The delay before a job's second, third … attempt, in ms; the last one applies to all that follow. Each delay has a
 * dedicated queue: in a single queue a short delay would wait behind a long one.
 */
export const RETRY_DELAYS_MS = [2000, 10_000, 60_000] as const;

export type RetryDelayMs = (typeof RETRY_DELAYS_MS)[number];
