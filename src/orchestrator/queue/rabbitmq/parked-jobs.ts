/**
 * The jobs whose worker region is not known: a queue for each name could use up the broker's memory. They arrive in one
 * queue, and each check moves those that stay to the end of another one. A quorum queue keeps the order of many returned
 * messages only if each return waits for the one before, so jobs of that other queue that stay are published to its end
 * again: when each has been taken once, they are in their order again, since only checks publish to it.
 */
import type { GetMessage } from "amqplib";
import type { Logger } from "../../../shared/logging.ts";
import type { ReadyMessage, ReadyQueue } from "../queue.ts";
import { answered, asOpenChannel, closeGracefully, type Session } from "./channel.ts";
import { ExclusiveQueueLock } from "./declaration-lock.ts";
import {
  copiedOptions,
  envelopeHeaders,
  messageProperties,
  readEnvelope,
  readReadyQueue,
  readyQueueHeaders,
} from "./delivery.ts";
import type { Publisher } from "./publisher.ts";
import { sendableOptions } from "./sendable.ts";
import {
  checkedQueue,
  countOf,
  ensureQueue,
  type Names,
  parkedQueue,
  unparkingLockQueue,
} from "./topology.ts";

export interface ParkedJobsOptions {
  readonly names: Names;
  readonly publisher: Publisher;
  readonly logger: Logger;
  /** Publishes a job to its ready queue. */
  readonly offer: (readyQueue: ReadyQueue, message: ReadyMessage, signal: AbortSignal) => Promise<void>;
}

export class ParkedJobs {
  readonly #arriving: string;
  readonly #checked: string;
  /** Two orchestrators that check the jobs at the same time would change the order of its jobs. */
  readonly #lock: ExclusiveQueueLock;
  #session: Session | undefined;

  constructor(private readonly options: ParkedJobsOptions) {
    this.#arriving = parkedQueue(options.names);
    this.#checked = checkedQueue(options.names);
    this.#lock = new ExclusiveQueueLock(unparkingLockQueue(options.names));
  }

  attach(session: Session): void {
    this.#session = session;
  }

  park(readyQueue: ReadyQueue, message: ReadyMessage, signal?: AbortSignal): Promise<void> {
    return this.#publish(this.#arriving, readyQueue, message, signal);
  }

  /** @throws Error when there is no connection, or it is lost */
  async unpark(isKnown: (region: string) => boolean): Promise<void> {
    const session = this.#session;
    if (!session) throw new Error("RabbitMQ is not connected");
    session.lost.throwIfAborted();
    await this.#lock.run(session, () => this.#checkAll(session, isKnown));
  }

  /** The jobs that were checked before are the older ones. */
  async #checkAll(session: Session, isKnown: (region: string) => boolean): Promise<void> {
    for (const queue of [this.#checked, this.#arriving]) await this.#check(session, queue, isKnown);
  }

  async #check(session: Session, queue: string, isKnown: (region: string) => boolean): Promise<void> {
    await ensureQueue(session, queue);
    const open = await asOpenChannel(session.model.createChannel(), this.options.logger);
    try {
      for (let left = await countOf(session, queue); left > 0; left--) {
        const message = await answered(session, `queue ${queue}`, open.channel.get(queue));
        if (message === false) return;
        await this.#move(session, message, isKnown);
        open.channel.ack(message);
      }
    } finally {
      await closeGracefully(open);
    }
  }

  /** Published and confirmed before the message is acked: a crash in between leaves the job with two messages. */
  async #move(session: Session, message: GetMessage, isKnown: (region: string) => boolean): Promise<void> {
    const envelope = readEnvelope(message);
    const readyQueue = readReadyQueue(message);
    if (!envelope || !readyQueue) return this.#sendToIntake(session, message);
    const parked = { body: message.content, properties: messageProperties(message), envelope };
    if (isKnown(readyQueue.region)) await this.options.offer(readyQueue, parked, session.lost);
    else await this.#publish(this.#checked, readyQueue, parked, session.lost);
  }

  async #sendToIntake(session: Session, message: GetMessage): Promise<void> {
    const { names, publisher } = this.options;
    const options = sendableOptions(copiedOptions(message), {}, publisher.frameMaxBytes);
    await publisher.publish(
      { queue: names.jobQueue, body: message.content, options },
      { declare: () => ensureQueue(session, names.jobQueue), signal: session.lost },
    );
  }

  #publish(
    queue: string,
    readyQueue: ReadyQueue,
    { body, properties, envelope }: ReadyMessage,
    signal?: AbortSignal,
  ): Promise<void> {
    const headers = { ...envelopeHeaders(envelope), ...readyQueueHeaders(readyQueue) };
    const options = { ...properties, contentType: "application/json", headers };
    return this.options.publisher.publish(
      { queue, body, options },
      { declare: () => this.#declareAgain(queue), signal },
    );
  }

  async #declareAgain(queue: string): Promise<void> {
    if (this.#session) await ensureQueue(this.#session, queue);
  }
}
