/** The job queue in RabbitMQ. docs/messages.md lists the queues and their messages. */
import type { Options } from "amqplib";
import type { JobEvent, JobResult } from "../../../shared/job.ts";
import { PRIORITIES } from "../../../shared/job.ts";
import { Listeners } from "../../../shared/listeners.ts";
import type { Logger } from "../../../shared/logging.ts";
import {
  type DeadLetter,
  type Delivery,
  type JobQueue,
  type MessageProperties,
  RETRY_DELAYS_MS,
  type ReadyDelivery,
  type ReadyMessage,
  type ReadyQueue,
  type Retry,
  type RetryDelayMs,
  type Subscription,
} from "../queue.ts";
import { ALL_QUEUES, mayReplyTo, type ReplyPatterns } from "../reply-queues.ts";
import { answered, type Session } from "./channel.ts";
import { RabbitMqConnection } from "./connection.ts";
import { copiedOptions, envelopeHeaders, RabbitMqDelivery } from "./delivery.ts";
import { Events } from "./events.ts";
import { ParkedJobs } from "./parked-jobs.ts";
import { Policies } from "./policies.ts";
import { Publisher, textOf } from "./publisher.ts";
import { QueueChecks } from "./queue-checks.ts";
import { ReadyQueues } from "./ready-queues.ts";
import { isTooLarge } from "./refusal.ts";
import { Regions } from "./regions.ts";
import { shrinkingBodies } from "./result-body.ts";
import { sendableOptions, shortened } from "./sendable.ts";
import { vhostOf } from "./setup-problem.ts";
import { type SubmissionHandler, Submissions } from "./submissions.ts";
import {
  checkedQueue,
  countOf,
  deadLetterQueue,
  declarationLockQueue,
  ensureDeadLetterQueue,
  ensureFixedQueues,
  ensureQueue,
  ensureRetryQueues,
  isOwnQueue,
  type Names,
  originalResultQueue,
  parkedQueue,
  readyQueueName,
  retryQueue,
} from "./topology.ts";

const REASON_HEADER = "x-blacktree-reason";
const DEAD_AT_HEADER = "x-blacktree-at";
const MAX_REASON_BYTES = 8 * 1024;
const REDACTED_HEADER = "x-blacktree-redacted";
const MAX_REDACTED_BYTES = 512;
/** Only a queue that exists but cannot confirm takes this long, and such a queue must not delay the job. */
const REPLY_TIMEOUT_MS = 10_000;
/**
 * Names a consumer that waits for the answer without a queue ("direct reply-to"). The broker delivers the message to it
 * and still returns a mandatory one, since it is in no queue.
 */
const DIRECT_REPLY = /^amq\.rabbitmq\.reply-to\./;
const DEFAULT_HEARTBEAT_SECONDS = 10;

export interface RabbitMqQueueOptions {
  /** Tried in turn. */
  readonly urls: readonly string[];
  readonly jobQueue: string;
  readonly resultQueue: string;
  readonly logger: Logger;
  /** The queues that `reply_to` may name, besides Blacktree's own, which it may not. Default: all. */
  readonly replyPatterns?: ReplyPatterns;
  /** Prefix of the names of the ready queues; default `jobs.ready`. */
  readonly readyPrefix?: string;
  /** Default `jobs.events`. */
  readonly eventExchange?: string;
  /** A frozen broker is detected after two to three heartbeats. */
  readonly heartbeatSeconds?: number;
  /** A connection whose queues are not ready after this time is given up and opened again. Default: 30 s. */
  readonly prepareTimeoutMs?: number;
  /** See ReadyQueuesOptions. */
  readonly takeTimeoutMs?: number;
  /** Of RabbitMQ's management API, for the policies of the queues. */
  readonly managementUrl?: string;
  /** Time between two checks of the queues. Default: one minute. */
  readonly checkIntervalMs?: number;
}

export class RabbitMqQueue implements JobQueue {
  readonly #names: Names;
  readonly #replyPatterns: ReplyPatterns;
  readonly #logger: Logger;
  readonly #connection: RabbitMqConnection;
  readonly #publisher: Publisher;
  readonly #submissions: Submissions;
  readonly #regions: Regions;
  readonly #readyQueues: ReadyQueues;
  readonly #parkedJobs: ParkedJobs;
  readonly #events: Events;
  readonly #checks: QueueChecks;
  readonly #listeners: Listeners<ReadyQueue>;

  constructor(options: RabbitMqQueueOptions) {
    const {
      jobQueue,
      resultQueue,
      readyPrefix = "jobs.ready",
      eventExchange = "jobs.events",
      logger,
    } = options;
    const names = { jobQueue, resultQueue, readyPrefix, eventExchange };
    this.#names = names;
    this.#replyPatterns = options.replyPatterns ?? ALL_QUEUES;
    this.#logger = logger;
    // A failing listener must not fail the publish or the consumer that caused the call.
    this.#listeners = new Listeners((error, readyQueue) =>
      logger.error({ err: error, ...readyQueue }, "ready queue listener failed"),
    );
    this.#connection = new RabbitMqConnection({
      urls: options.urls,
      heartbeatSeconds: options.heartbeatSeconds ?? DEFAULT_HEARTBEAT_SECONDS,
      lockQueue: declarationLockQueue(names),
      prepareTimeoutMs: options.prepareTimeoutMs,
      logger,
      prepare: (session) => this.#prepare(session),
      onReady: () => {
        for (const region of this.#regions.known) this.#announceRegion(region);
      },
      beforeClose: () => this.#settle(),
    });
    const closing = this.#connection.closing;
    const publisher = new Publisher({ closing, logger });
    this.#publisher = publisher;
    this.#submissions = new Submissions({
      jobQueue,
      publisher,
      closing,
      logger,
      isStream: (session) => this.#checks.isJobQueueStream(session),
    });
    this.#regions = new Regions({
      names,
      publisher,
      closing,
      logger,
      onRegion: (region) => this.#announceRegion(region),
    });
    this.#readyQueues = new ReadyQueues({
      names,
      publisher,
      regions: this.#regions,
      logger,
      onChannelFree: (readyQueue) => this.#announce(readyQueue),
      takeTimeoutMs: options.takeTimeoutMs,
    });
    this.#parkedJobs = new ParkedJobs({
      names,
      publisher,
      logger,
      offer: (readyQueue, message, signal) => this.offer(readyQueue, message, signal),
    });
    this.#checks = new QueueChecks({
      names,
      regions: () => this.#regions.known,
      policies: options.managementUrl
        ? new Policies({ url: options.managementUrl, vhost: vhostOf(options.urls[0] ?? ""), logger })
        : undefined,
      logger,
      intervalMs: options.checkIntervalMs,
      onJobQueueReplaced: () => void this.#submissions.checkAgain(),
    });
    this.#events = new Events({
      names,
      closing,
      logger,
      onQueued: (readyQueue) => this.#onQueued(readyQueue),
    });
  }

  start(): void {
    this.#connection.start();
  }

  get isReady(): boolean {
    return this.#connection.session !== undefined;
  }

  get problems(): readonly string[] {
    return [...this.#publisher.problems, ...this.#checks.problems];
  }

  async submit(body: Buffer, properties: MessageProperties, signal?: AbortSignal): Promise<void> {
    await this.#submissions.whenUsable(signal);
    await this.#publish(
      this.#names.jobQueue,
      body,
      { ...properties, contentType: "application/json" },
      signal,
    );
  }

  onSubmitted(handler: SubmissionHandler): Subscription {
    return this.#submissions.handle(handler);
  }

  async deadLetter(delivery: Delivery, letter: DeadLetter, signal?: AbortSignal): Promise<void> {
    if (!(delivery instanceof RabbitMqDelivery)) throw new TypeError("not a delivery of this queue");
    const { frameMaxBytes } = this.#publisher;
    const headers = {
      [REASON_HEADER]: shortened(letter.reason, Math.min(MAX_REASON_BYTES, frameMaxBytes / 4)),
      [DEAD_AT_HEADER]: new Date().toISOString(),
      ...(letter.redacted.length > 0 && {
        [REDACTED_HEADER]: shortened(letter.redacted.join(", "), MAX_REDACTED_BYTES),
      }),
    };
    const options = sendableOptions(copiedOptions(delivery.message), headers, frameMaxBytes);
    await this.#publish(deadLetterQueue(this.#names), letter.body, options, signal);
  }

  async offer(readyQueue: ReadyQueue, message: ReadyMessage, signal?: AbortSignal): Promise<void> {
    await this.#regions.keep(readyQueue.region, signal);
    await this.#publisher.publish(
      {
        queue: readyQueueName(this.#names, readyQueue),
        body: message.body,
        options: {
          ...message.properties,
          contentType: "application/json",
          headers: envelopeHeaders(message.envelope),
        },
      },
      { declare: () => this.#regions.declareAgain(readyQueue.region), signal },
    );
    this.#announce(readyQueue);
  }

  async offerLater(delivery: ReadyDelivery, retry: Retry, delayMs: RetryDelayMs): Promise<void> {
    const { readyQueue, body, properties, envelope, revoked } = delivery;
    await this.#publisher.publish(
      {
        exchange: retryQueue(this.#names, delayMs),
        queue: readyQueueName(this.#names, readyQueue),
        body,
        options: {
          ...properties,
          contentType: "application/json",
          headers: envelopeHeaders({ ...envelope, retry }),
        },
      },
      { declare: () => this.#declareRetryQueuesAgain(), signal: revoked },
    );
  }

  park(readyQueue: ReadyQueue, message: ReadyMessage, signal?: AbortSignal): Promise<void> {
    return this.#parkedJobs.park(readyQueue, message, signal);
  }

  unpark(isKnown: (region: string) => boolean): Promise<void> {
    return this.#parkedJobs.unpark(isKnown);
  }

  take(readyQueue: ReadyQueue): Promise<ReadyDelivery | undefined> {
    return this.#readyQueues.take(readyQueue);
  }

  waiting(): Promise<number> {
    return this.#readyQueues.waiting();
  }

  async hasWaiting(readyQueues: readonly ReadyQueue[]): Promise<boolean> {
    const session = this.#connection.session;
    if (!session) throw new Error("RabbitMQ is not connected");
    const queues = [
      ...readyQueues.map((readyQueue) => readyQueueName(this.#names, readyQueue)),
      parkedQueue(this.#names),
      checkedQueue(this.#names),
      ...RETRY_DELAYS_MS.map((delayMs) => retryQueue(this.#names, delayMs)),
    ];
    const counts = await Promise.all(queues.map((queue) => countOf(session, queue)));
    return counts.some((count) => count > 0);
  }

  addRegion(region: string): Promise<void> {
    return this.#regions.keep(region);
  }

  regions(): readonly string[] {
    return this.#regions.known;
  }

  onReady(listener: (readyQueue: ReadyQueue) => void): void {
    this.#listeners.add(listener);
  }

  async publishResult(
    result: JobResult,
    correlationId: string | undefined,
    replyTo: readonly string[],
    signal?: AbortSignal,
  ): Promise<void> {
    const options = { messageId: result.job_id, correlationId, contentType: "application/json" };
    await this.#publishResultTo(this.#names.resultQueue, result, options, signal);
    // Without `signal`: the result is published, and a failure here would publish it again. Each reply has a timeout.
    await Promise.all([...new Set(replyTo)].map((reply) => this.#reply(reply, result, options)));
  }

  async #publishResultTo(
    queue: string,
    result: JobResult,
    options: Options.Publish,
    signal?: AbortSignal,
  ): Promise<void> {
    const bodies = shrinkingBodies(result);
    await this.#publisher.publish(
      { queue, body: bodies.next().value as Buffer, options },
      {
        declare: () => this.#declareAgain(queue),
        signal,
        replace: (refused, refusal) => {
          const smaller = isTooLarge(refusal) ? bodies.next().value : undefined;
          return smaller ? { ...refused, body: smaller } : refused;
        },
      },
    );
  }

  publishEvent(event: JobEvent): void {
    this.#events.publish(event);
  }

  close(): Promise<void> {
    return this.#connection.close();
  }

  async #prepare(session: Session): Promise<void> {
    await ensureFixedQueues(session, this.#names);
    await this.#checks.attach(session);
    await answered(session, "a channel to publish on", this.#publisher.attach(session));
    await answered(session, "a channel for events", this.#events.attach(session));
    await answered(session, "the list of regions", this.#regions.attach(session));
    this.#readyQueues.attach(session);
    this.#parkedJobs.attach(session);
    await answered(session, `a consumer of queue ${this.#names.jobQueue}`, this.#submissions.attach(session));
    void this.#checks.keepChecking(session);
  }

  async #settle(): Promise<void> {
    await Promise.all([this.#submissions.close(), this.#readyQueues.close()]);
  }

  /** For queues with fixed names; Regions declares the ready queues. */
  #publish(queue: string, body: Buffer, options: Options.Publish, signal?: AbortSignal): Promise<void> {
    return this.#publisher.publish(
      { queue, body, options },
      { declare: () => this.#declareAgain(queue), signal },
    );
  }

  async #declareRetryQueuesAgain(): Promise<void> {
    const session = this.#connection.session;
    if (session) await ensureRetryQueues(session, this.#names);
  }

  async #declareAgain(queue: string): Promise<void> {
    const session = this.#connection.session;
    if (!session) return;
    if (queue === deadLetterQueue(this.#names)) await ensureDeadLetterQueue(session, this.#names);
    else await ensureQueue(session, queue);
  }

  async #reply(queue: string, result: JobResult, options: Options.Publish): Promise<void> {
    const fields = { reply_to: queue, job_id: options.messageId };
    if (isOwnQueue(this.#names, queue)) {
      this.#logger.warn(fields, "result not sent to reply_to: the queue belongs to Blacktree");
      return;
    }
    if (queue === originalResultQueue(this.#names)) return this.#publishResultTo(queue, result, options);
    if (!mayReplyTo(this.#replyPatterns, queue)) {
      this.#logger.warn(fields, "result not sent to reply_to: BLACKTREE_REPLY_TO does not allow the queue");
      return;
    }
    const isMandatory = !DIRECT_REPLY.test(queue);
    const timeout = AbortSignal.timeout(REPLY_TIMEOUT_MS);
    try {
      for (const body of shrinkingBodies(result)) {
        // Senders choose the queue: a refusal must not affect other messages.
        const answer = await this.#publisher.publishAlone({ queue, body, options, isMandatory }, timeout);
        if (answer.kind === "confirmed") return;
        if (answer.kind === "refused" && isTooLarge(answer.refusal)) continue;
        this.#logger.warn({ ...fields, answer: textOf(answer) }, "result not sent to reply_to");
        return;
      }
      this.#logger.warn({ ...fields, answer: "too large" }, "result not sent to reply_to");
    } catch (error) {
      if (!timeout.aborted) throw error;
      this.#logger.warn({ ...fields, answer: "none" }, "result not sent to reply_to");
    }
  }

  /** Any client may publish such an event, and a job's region may be unknown: so an event adds no region. */
  #onQueued(readyQueue: ReadyQueue): void {
    if (this.#regions.known.includes(readyQueue.region)) this.#announce(readyQueue);
  }

  #announceRegion(region: string): void {
    for (const priority of PRIORITIES) this.#announce({ region, priority });
  }

  #announce(readyQueue: ReadyQueue): void {
    // `take` would return nothing now; every ready queue is announced as soon as the connection is ready.
    if (!this.isReady) return;
    this.#listeners.notify(readyQueue);
  }
}
