/** A message that RabbitMQ has delivered to this orchestrator. */
import type { GetMessage, Message, Options } from "amqplib";
import { orAbort } from "../../../shared/abort.ts";
import { PRIORITIES } from "../../../shared/job.ts";
import type { Delivery, Envelope, MessageProperties, ReadyDelivery, ReadyQueue } from "../queue.ts";
import type { OpenChannel } from "./channel.ts";
import { asShortString } from "./sendable.ts";

const JOB_ID_HEADER = "x-blacktree-job-id";
const ACCEPTED_AT_HEADER = "x-blacktree-accepted-at";
const DEFAULT_REGION_HEADER = "x-blacktree-region";
const ATTEMPTS_HEADER = "x-blacktree-attempts";
const LAST_WORKER_HEADER = "x-blacktree-last-worker";
const WORKER_REGION_HEADER = "x-blacktree-worker-region";
const PRIORITY_HEADER = "x-blacktree-priority";

/** Far below the limit of 20 in RabbitMQ 4, since a crash of the orchestrator counts as a delivery too. */
export const MAX_DELIVERIES = 8;
/** In a queue that Blacktree has declared only a policy sets a limit. A message that is published again loses its place. */
export const MAX_DELIVERIES_OWN_QUEUE = 18;

/** A job is not run without the answer, so it has to come long before the end of a lease. */
const HELD_TIMEOUT_MS = 2_000;
/** A broker under load answers within it; a frozen one must not delay the stop of an orchestrator for long. */
const REQUEUE_TIMEOUT_MS = 5_000;

export class RabbitMqDelivery implements Delivery {
  readonly #revoked = new AbortController();
  #state: "unsettled" | "settled" | "revoked" = "unsettled";

  constructor(
    readonly message: Message,
    protected readonly open: OpenChannel,
    protected readonly onSettled: () => void,
  ) {
    if (open.lost.aborted) this.#revoke();
    else open.lost.addEventListener("abort", this.#revoke, { once: true });
  }

  get body(): Buffer {
    return this.message.content;
  }

  get properties(): MessageProperties {
    return messageProperties(this.message);
  }

  get redelivered(): boolean {
    return this.message.fields.redelivered;
  }

  get revoked(): AbortSignal {
    return this.#revoked.signal;
  }

  ack(): void {
    if (this.settle(() => this.open.channel.ack(this.message))) this.onSettled();
  }

  requeue(): void {
    if (this.sendBack()) this.onSettled();
  }

  protected sendBack(): boolean {
    return this.settle(() => this.open.channel.nack(this.message, false, true));
  }

  /** False: it was settled or revoked before, or the channel is closing. */
  private settle(write: () => void): boolean {
    if (this.#state !== "unsettled") return false;
    this.#state = "settled";
    this.open.lost.removeEventListener("abort", this.#revoke);
    try {
      write();
    } catch (error) {
      // amqplib throws on a channel that is closing; its close, a moment later, would revoke the delivery anyway.
      this.#state = "revoked";
      this.#revoked.abort(error);
      return false;
    }
    return true;
  }

  readonly #revoke = () => {
    this.#state = "revoked";
    this.#revoked.abort(this.open.lost.reason);
  };
}

export class RabbitMqReadyDelivery extends RabbitMqDelivery implements ReadyDelivery {
  constructor(
    message: GetMessage,
    readonly readyQueue: ReadyQueue,
    readonly envelope: Envelope,
    open: OpenChannel,
    private readonly heartbeatMs: number,
    onSettled: () => void,
  ) {
    super(message, open, onSettled);
  }

  override async requeue(): Promise<boolean> {
    if (!this.sendBack()) return true;
    // Nacks on several channels keep their order only if each waits for the one before. Without an answer the message
    // is back anyway, or will be: the channel is lost, or the broker is frozen.
    const isAnswered = await this.#roundTrip(this.open.lost, REQUEUE_TIMEOUT_MS).then(
      () => true,
      () => this.open.lost.aborted,
    );
    // Only now, since it may close the channel.
    this.onSettled();
    return isAnswered;
  }

  async heldForMs(): Promise<number> {
    this.revoked.throwIfAborted();
    const askedAtMs = performance.now();
    await this.#roundTrip(this.revoked, HELD_TIMEOUT_MS);
    return Math.max(0, this.heartbeatMs - (performance.now() - askedAtMs));
  }

  /** Any request that the broker answers would do. No consumer uses this channel, so its prefetch has no effect. */
  async #roundTrip(signal: AbortSignal, timeoutMs: number): Promise<void> {
    const answer = this.open.channel.prefetch(0);
    await orAbort(answer, signal, AbortSignal.timeout(timeoutMs));
  }
}

export function messageProperties({ properties }: Message): MessageProperties {
  const { messageId, correlationId, replyTo, contentEncoding } = properties;
  return {
    messageId: asShortString(messageId),
    correlationId: asShortString(correlationId),
    replyTo: asShortString(replyTo),
    contentEncoding: asShortString(contentEncoding),
  };
}

/**
 * A queue with a low delivery limit, set by a policy, by another program or by an upgrade to RabbitMQ 4, drops a message
 * that was delivered too often. A message that may near the limit is published again, which resets its count.
 */
export function nearsDeliveryLimit(message: Message, { isOwnQueue = false } = {}): boolean {
  const maxDeliveries = isOwnQueue ? MAX_DELIVERIES_OWN_QUEUE : MAX_DELIVERIES;
  return Number(message.properties.headers?.["x-delivery-count"] ?? 0) >= maxDeliveries;
}

/** Not `userId`, which only that user may set, and `expiration`, which would drop the copy early. */
const COPIED_PROPERTIES = [
  "contentType",
  "contentEncoding",
  "correlationId",
  "replyTo",
  "messageId",
  "timestamp",
  "type",
  "appId",
  "priority",
] as const;

/** A message's properties and headers for publishing it again, without those that would misroute or drop the copy. */
export function copiedOptions(message: Message): Options.Publish {
  const { properties } = message;
  // Not copied: CC and BCC, which would route it to more queues; the counts, which the broker maintains.
  const {
    CC: _cc,
    BCC: _bcc,
    "x-delivery-count": _deliveryCount,
    "x-acquired-count": _acquiredCount,
    ...kept
  } = properties.headers ?? {};
  return {
    ...Object.fromEntries(COPIED_PROPERTIES.map((name) => [name, properties[name]])),
    headers: kept,
  };
}

export function envelopeHeaders(envelope: Envelope): Record<string, string | number> {
  const { retry } = envelope;
  return {
    [JOB_ID_HEADER]: envelope.jobId,
    [ACCEPTED_AT_HEADER]: envelope.acceptedAt.toISOString(),
    [DEFAULT_REGION_HEADER]: envelope.defaultRegion,
    ...(retry && { [ATTEMPTS_HEADER]: retry.attempts, [LAST_WORKER_HEADER]: retry.lastWorkerId }),
  };
}

/** Undefined for a message that did not pass through intake. */
export function readEnvelope(message: Message): Envelope | undefined {
  const headers = message.properties.headers ?? {};
  const jobId = headers[JOB_ID_HEADER];
  const defaultRegion = headers[DEFAULT_REGION_HEADER];
  const acceptedAt = new Date(String(headers[ACCEPTED_AT_HEADER]));
  if (typeof jobId !== "string" || typeof defaultRegion !== "string" || Number.isNaN(acceptedAt.getTime()))
    return undefined;
  const attempts = headers[ATTEMPTS_HEADER];
  const lastWorkerId = String(headers[LAST_WORKER_HEADER] ?? "");
  const retry = typeof attempts === "number" && attempts > 0 ? { attempts, lastWorkerId } : undefined;
  return { jobId, acceptedAt, defaultRegion, retry };
}

/** For a job that waits elsewhere until its ready queue exists. */
export function readyQueueHeaders({ region, priority }: ReadyQueue): Record<string, string> {
  return { [WORKER_REGION_HEADER]: region, [PRIORITY_HEADER]: priority };
}

/** Undefined for a message without valid `readyQueueHeaders`. */
export function readReadyQueue(message: Message): ReadyQueue | undefined {
  const headers = message.properties.headers ?? {};
  const region = headers[WORKER_REGION_HEADER];
  const priority = PRIORITIES.find((each) => each === headers[PRIORITY_HEADER]);
  return typeof region === "string" && region !== "" && priority ? { region, priority } : undefined;
}
