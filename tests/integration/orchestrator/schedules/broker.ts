/**
 * A broker for several orchestrators: the embedded queue, and for each orchestrator a connection whose calls are late,
 * and which can break. As RabbitMQ does, it then returns the orchestrator's messages to their queues without announcing
 * them, and a publication whose confirmation was lost is repeated.
 */
import type { Database } from "bun:sqlite";
import type {
  Delivery,
  JobQueue,
  MessageProperties,
  ReadyDelivery,
  ReadyMessage,
  ReadyQueue,
  Retry,
  RetryDelayMs,
  Subscription,
} from "../../../../src/orchestrator/queue/queue.ts";
import { SqliteQueue } from "../../../../src/orchestrator/queue/sqlite/queue.ts";
import type { JobResult } from "../../../../src/shared/job.ts";
import { PRIORITIES } from "../../../../src/shared/job.ts";
import type { Logger } from "../../../../src/shared/logging.ts";
import type { Store } from "./calls.ts";
import { DeliveryRevoked } from "./journal.ts";
import type { Process } from "./simulation.ts";

const MAX_DELAY_MS = 5000;
const RECONNECT_MS = 500;
const FAILURE_PAUSE_MS = 1000;

export interface BrokerEvents {
  published(result: JobResult): void;
  /** A message of the job was removed. */
  acked(jobId: string): void;
}

type Handler = (delivery: Delivery) => Promise<void>;

export class Broker {
  readonly #queue: SqliteQueue;
  readonly #connections = new Set<Connection>();
  /** Submitted messages that no orchestrator has received. */
  readonly #undelivered: Delivery[] = [];

  constructor(
    readonly store: Store,
    private readonly database: Database,
    readonly events: BrokerEvents,
    logger: Logger,
    /** In place of the Dispatchers' polls: returned messages are announced after this time. */
    private readonly announceReturnedAfterMs: number | undefined,
  ) {
    this.#queue = new SqliteQueue({ database, resultMemoryMs: 3_600_000, logger });
  }

  start(): void {
    this.#queue.onReady((readyQueue) => {
      for (const connection of this.#connections) connection.announce(readyQueue);
    });
    this.#queue.onSubmitted(async (delivery) => {
      this.#undelivered.push(delivery);
      this.deliver();
    });
    this.#queue.start();
  }

  get queue(): SqliteQueue {
    return this.#queue;
  }

  submit(jobId: string, body: object): Promise<void> {
    return this.#queue.submit(Buffer.from(JSON.stringify(body)), { messageId: jobId });
  }

  /** Waiting or delivered. */
  messagesOf(jobId: string): number {
    const sql = "SELECT count(*) AS found FROM messages WHERE message_id = ?";
    return this.database.query<{ found: number }, [string]>(sql).get(jobId)?.found ?? 0;
  }

  messages(): number {
    return (
      this.database.query<{ found: number }, []>("SELECT count(*) AS found FROM messages").get()?.found ?? 0
    );
  }

  connect(process: Process): Connection {
    const connection = new Connection(this, process);
    this.#connections.add(connection);
    process.onEnd(() => {
      this.#connections.delete(connection);
      this.store.simulation.after(1, this.store.process, () => connection.revokeAll());
    });
    return connection;
  }

  /** Submitted messages go to any orchestrator that receives them. */
  deliver(): void {
    const receivers = [...this.#connections].filter(({ handler }) => handler);
    for (const delivery of receivers.length === 0 ? [] : this.#undelivered.splice(0)) {
      receivers[this.store.choices.next() % receivers.length]?.receive(delivery);
    }
  }

  return(delivery: Delivery, readyQueue: ReadyQueue | undefined): void {
    delivery.requeue();
    if (!readyQueue || this.announceReturnedAfterMs === undefined) return;
    this.store.simulation.after(this.announceReturnedAfterMs, this.store.process, () => {
      for (const connection of this.#connections) connection.announce(readyQueue);
    });
  }
}

/** One orchestrator's connection. */
export class Connection implements JobQueue {
  readonly isReady = true;
  readonly problems = [];
  handler: Handler | undefined;
  readonly #unsettled = new Set<BrokerDelivery>();
  #listener: ((readyQueue: ReadyQueue) => void) | undefined;

  constructor(
    readonly broker: Broker,
    readonly process: Process,
  ) {}

  start(): void {}

  submit(body: Buffer, properties: MessageProperties): Promise<void> {
    return this.#publish(() => this.broker.queue.submit(body, properties));
  }

  onSubmitted(handler: Handler): Subscription {
    const resume = () => {
      this.handler = handler;
      this.broker.deliver();
    };
    const stop = async () => {
      this.handler = undefined;
    };
    const pause = async () => {
      this.handler = undefined;
      for (const delivery of [...this.#unsettled]) if (!delivery.readyQueue) delivery.revoke();
    };
    resume();
    return { pause, resume, stop };
  }

  deadLetter(): Promise<void> {
    throw new Error("every job of a schedule is valid");
  }

  addRegion(region: string): Promise<void> {
    return this.broker.queue.addRegion(region);
  }

  park(): Promise<void> {
    throw new Error("every region of a schedule is known");
  }

  unpark(isKnown: (region: string) => boolean): Promise<void> {
    return this.broker.queue.unpark(isKnown);
  }

  offer(readyQueue: ReadyQueue, message: ReadyMessage, signal?: AbortSignal): Promise<void> {
    return this.#publish(() => this.broker.queue.offer(readyQueue, message, signal));
  }

  offerLater(delivery: ReadyDelivery, retry: Retry, delayMs: RetryDelayMs): Promise<void> {
    return this.#publish(() => this.broker.queue.offerLater(delivery, retry, delayMs));
  }

  async take(readyQueue: ReadyQueue): Promise<ReadyDelivery | undefined> {
    const { store } = this.broker;
    const take = async () => {
      const taken = await this.broker.queue.take(readyQueue);
      if (!taken) return undefined;
      if (this.process.isAlive) return this.#track(new ReadyBrokerDelivery(this, taken));
      this.broker.return(taken, readyQueue);
      return undefined;
    };
    return store.call(take, { maxDelayMs: MAX_DELAY_MS });
  }

  waiting(): Promise<number> {
    return this.broker.queue.waiting();
  }

  hasWaiting(readyQueues: readonly ReadyQueue[]): Promise<boolean> {
    return this.broker.queue.hasWaiting(readyQueues);
  }

  regions(): readonly string[] {
    return this.broker.queue.regions();
  }

  onReady(listener: (readyQueue: ReadyQueue) => void): void {
    this.#listener = listener;
    this.#announceAll();
  }

  publishResult(
    result: JobResult,
    correlationId: string | undefined,
    replyTo: readonly string[],
    signal?: AbortSignal,
  ): Promise<void> {
    return this.#publish(async () => {
      await this.broker.queue.publishResult(result, correlationId, replyTo, signal);
      this.broker.events.published(result);
    });
  }

  publishEvent(): void {}

  async close(): Promise<void> {}

  announce(readyQueue: ReadyQueue): void {
    const { simulation, choices } = this.broker.store;
    const { requestMs } = choices.fate();
    simulation.post(requestMs, this.process, () => this.#listener?.(readyQueue));
  }

  receive(delivery: Delivery): void {
    const received = this.#track(new BrokerDelivery(this, delivery));
    const { simulation, choices } = this.broker.store;
    simulation.post(choices.fate().requestMs, this.process, () => {
      this.handler?.(received).catch(() => {
        if (!received.revoked.aborted)
          simulation.after(FAILURE_PAUSE_MS, this.process, () => void received.requeue());
      });
    });
  }

  /** The connection breaks, and is there again. */
  reset(): void {
    this.revokeAll();
    this.broker.store.simulation.after(RECONNECT_MS, this.process, () => this.#announceAll());
  }

  revokeAll(): void {
    for (const delivery of [...this.#unsettled]) delivery.revoke();
  }

  /** False: the broker has taken the message back. */
  settle(delivery: BrokerDelivery): boolean {
    return this.#unsettled.delete(delivery);
  }

  #track<Kind extends BrokerDelivery>(delivery: Kind): Kind {
    this.#unsettled.add(delivery);
    return delivery;
  }

  #announceAll(): void {
    for (const region of this.regions())
      for (const priority of PRIORITIES) this.announce({ region, priority });
  }

  /** Repeated until the confirmation arrives, so a message may be published twice. */
  async #publish(publish: () => Promise<void>): Promise<void> {
    for (;;) {
      try {
        return await this.broker.store.call(publish, {
          maxDelayMs: MAX_DELAY_MS,
          lost: () => new Unconfirmed(),
        });
      } catch (error) {
        if (!(error instanceof Unconfirmed)) throw error;
      }
    }
  }
}

class Unconfirmed extends Error {}

class BrokerDelivery implements Delivery {
  readonly body: Buffer;
  readonly properties: MessageProperties;
  readonly redelivered: boolean;
  readonly #revoked = new AbortController();
  #isSettled = false;

  constructor(
    protected readonly connection: Connection,
    protected readonly inner: Delivery,
    /** Undefined for a submitted message. */
    readonly readyQueue?: ReadyQueue,
  ) {
    const { body, properties, redelivered } = inner;
    this.body = body;
    this.properties = properties;
    this.redelivered = redelivered;
  }

  get revoked(): AbortSignal {
    return this.#revoked.signal;
  }

  ack(): void {
    this.#settle(() => {
      this.inner.ack();
      this.connection.broker.events.acked(this.properties.messageId ?? "");
    });
  }

  requeue(): Promise<boolean> {
    const { broker, process } = this.connection;
    return new Promise((resolve) => {
      const requeued = () => broker.store.simulation.post(0, process, () => resolve(true));
      this.#settle(() => broker.return(this.inner, this.readyQueue), requeued);
    });
  }

  /** By the broker, which returns the message to its queue; its receiver learns that later. */
  revoke(): void {
    const { broker, process } = this.connection;
    if (!this.connection.settle(this)) return;
    broker.return(this.inner, this.readyQueue);
    const { requestMs } = broker.store.choices.fate();
    broker.store.simulation.post(requestMs, process, () => {
      this.#isSettled = true;
      this.#revoked.abort(new DeliveryRevoked("the broker has revoked the delivery"));
    });
  }

  /** `onSettled` is called, too, when the broker has taken the message back. */
  #settle(settle: () => void, onSettled: () => void = () => undefined): void {
    if (this.#isSettled) {
      onSettled();
      return;
    }
    this.#isSettled = true;
    const { store } = this.connection.broker;
    const { requestMs } = store.choices.fate();
    store.simulation.post(requestMs, store.process, () => {
      if (this.connection.settle(this)) settle();
      onSettled();
    });
  }
}

class ReadyBrokerDelivery extends BrokerDelivery implements ReadyDelivery {
  override readonly readyQueue: ReadyQueue;
  readonly envelope: ReadyDelivery["envelope"];

  constructor(connection: Connection, inner: ReadyDelivery) {
    super(connection, inner, inner.readyQueue);
    this.readyQueue = inner.readyQueue;
    this.envelope = inner.envelope;
  }

  async heldForMs(): Promise<number> {
    this.revoked.throwIfAborted();
    return 0;
  }
}
