/**
 * The queue: where jobs wait and results go. A message in it is the one durable fact that a job is owed a result.
 * RabbitMQ (rabbitmq.ts) and the embedded SQLite file (sqlite.ts) stand behind this interface, and both pass
 * tests/integration/orchestrator/queue/queue-contract.ts.
 */
import type { JobEvent, JobResult, Priority } from "../../shared/job.ts";

/** A waiting line: the jobs of one worker region and priority, queue `jobs.ready.<region>.<priority>`. */
export interface ReadyQueue {
  readonly region: string;
  readonly priority: Priority;
}

/** What intake adds to a message when it accepts it. The body stays as submitted. */
export interface Envelope {
  readonly jobId: string;
  readonly acceptedAt: Date;
  /** The registry's region that an unnamed `region` means; fixed here, so every orchestrator reads the job alike. */
  readonly defaultRegion: string;
  /** Missing while no attempt has ended. */
  readonly retry?: Retry;
}

/** What is known of a job's earlier attempts. It travels with the message, since everything else may be lost. */
export interface Retry {
  /** How many attempts have ended: the next one has a higher number. */
  readonly attempts: number;
  /** The worker of the last one; another is preferred. */
  readonly lastWorkerId: string;
}

/** What a sender may put beside a message's body. */
export interface MessageProperties {
  readonly messageId?: string;
  readonly correlationId?: string;
  readonly replyTo?: string;
}

/**
 * A message in our hands. It stays the broker's until `ack`: if this process dies, or the broker takes it back,
 * somebody else gets it. `ack` and `requeue` after `revoked` do nothing.
 */
export interface Delivery {
  readonly body: Buffer;
  readonly properties: MessageProperties;
  /** It was in somebody's hands before. */
  readonly redelivered: boolean;
  /** Aborts when the broker no longer considers the message ours. Its result is then another's to publish. */
  readonly revoked: AbortSignal;
  ack(): void;
  /** Gives it back to the place it came from. */
  requeue(): void;
}

export interface ReadyDelivery extends Delivery {
  readonly readyQueue: ReadyQueue;
  readonly envelope: Envelope;
}

export interface ReadyMessage {
  readonly body: Buffer;
  readonly properties: MessageProperties;
  readonly envelope: Envelope;
}

/**
 * Every publishing method resolves once the broker has confirmed the message, and keeps trying across lost
 * connections until then; it rejects only when `signal` aborts (with the signal's reason) or the queue is closed
 * (QueueClosed).
 */
export interface JobQueue {
  /** Connects, declares, and goes on reconnecting with growing delay until `close`. Never rejects for an absent broker. */
  start(): void;
  /** Connected and declared. */
  readonly isReady: boolean;

  /** Puts a job where the outside puts it (`jobs.build`). */
  submit(body: Buffer, properties: MessageProperties, signal?: AbortSignal): Promise<void>;
  /**
   * Hands every submitted message to `handler`, several at once, again after every reconnection.
   * The handler acks, requeues or dead-letters each; one that throws requeues it.
   * Call once, before or after `start`. Returns a function that stops the deliveries; what is in hand stays valid.
   */
  onSubmitted(handler: (delivery: Delivery) => Promise<void>): () => Promise<void>;
  /** Moves a submitted message, byte for byte, to the dead letters, then acks it. Confirmed before the ack. */
  deadLetter(delivery: Delivery, reason: string, signal?: AbortSignal): Promise<void>;

  /** Puts an accepted job into its ready queue. */
  offer(readyQueue: ReadyQueue, message: ReadyMessage, signal?: AbortSignal): Promise<void>;
  /**
   * Puts a job in hand back into its ready queue after `delayMs`, one of retry-policy.ts, with what is now known of its
   * attempts. Confirmed; the caller then acks the delivery.
   */
  offerLater(delivery: ReadyDelivery, retry: Retry, delayMs: RetryDelayMs): Promise<void>;
  /** Takes the oldest message of a ready queue, or undefined when it is empty or the broker is away. */
  take(readyQueue: ReadyQueue): Promise<ReadyDelivery | undefined>;
  /** The regions that any orchestrator has ever offered a job for: each may hold waiting jobs. */
  regions(): readonly string[];
  /** Calls back when a ready queue may have got a message, from whichever orchestrator. May call too often, never too seldom
   * while connected; after a reconnection it is called once for every ready queue. */
  onReady(listener: (readyQueue: ReadyQueue) => void): void;

  /**
   * Publishes a result to the result queue and to each of `replyTo` that names an existing queue that is not
   * Blacktree's own; one that is missing is logged and delays nothing.
   */
  publishResult(
    result: JobResult,
    correlationId: string | undefined,
    replyTo: readonly string[],
    signal?: AbortSignal,
  ): Promise<void>;
  /** Publishes a change of state. Best effort: an event that cannot be sent is logged, and delays nothing. */
  publishEvent(event: JobEvent): void;

  /** Stops consuming and closes. What is unacked goes back to the broker. */
  close(): Promise<void>;
}

/** The queue was closed while something waited for it. */
export class QueueClosed extends Error {
  override readonly name = "QueueClosed";
}

/**
 * How long a job waits before its second, third … attempt, in ms; the last one holds for all that follow. Each has a
 * queue of its own: in a single queue a short delay would stand behind a long one.
 */
export const RETRY_DELAYS_MS = [2000, 10_000, 60_000] as const;

export type RetryDelayMs = (typeof RETRY_DELAYS_MS)[number];
