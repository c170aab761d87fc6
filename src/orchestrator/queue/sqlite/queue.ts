/** The job queue in an SQLite file, for one process: unacked messages are redelivered when the process restarts. */
import type { Database } from "bun:sqlite";
import { orAbort, sleep } from "../../../shared/abort.ts";
import { Backoff } from "../../../shared/backoff.ts";
import { type JobEvent, type JobResult, PRIORITIES, type Priority } from "../../../shared/job.ts";
import { Listeners } from "../../../shared/listeners.ts";
import type { Logger } from "../../../shared/logging.ts";
import { FailureDelays } from "../failure-delays.ts";
import {
  type DeadLetter,
  type Delivery,
  type Envelope,
  type JobQueue,
  type MessageProperties,
  QueueClosed,
  RETRY_DELAYS_MS,
  type ReadyDelivery,
  type ReadyMessage,
  type ReadyQueue,
  type Retry,
  type RetryDelayMs,
  type Subscription,
} from "../queue.ts";
import { type MessageRow, type Settlement, SqliteDelivery, SqliteReadyDelivery } from "./delivery.ts";

const SUBMITTED = "submitted";
const READY_PREFIX = "ready/";
const PARKED_PREFIX = "parked/";
const PREFETCH = 64;
const WRITE_RETRY_DELAY = { initialMs: 250, maxMs: 5_000 };
const MAX_DELAY_MS = Math.max(...RETRY_DELAYS_MS);
const DEAD_LETTER_TTL_MS = 7 * 24 * 60 * 60 * 1000;

const SCHEMA = `
  CREATE TABLE IF NOT EXISTS messages (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    place TEXT NOT NULL,
    body BLOB NOT NULL,
    message_id TEXT,
    correlation_id TEXT,
    reply_to TEXT,
    job_id TEXT,
    accepted_at INTEGER,
    default_region TEXT,
    attempts INTEGER NOT NULL DEFAULT 0,
    last_worker_id TEXT NOT NULL DEFAULT '',
    due_at INTEGER NOT NULL DEFAULT 0,
    deliveries INTEGER NOT NULL DEFAULT 0,
    in_hand INTEGER NOT NULL DEFAULT 0
  );
  CREATE INDEX IF NOT EXISTS messages_by_place ON messages (place, in_hand, id);
  CREATE TABLE IF NOT EXISTS regions (region TEXT PRIMARY KEY);
  CREATE TABLE IF NOT EXISTS dead_letters (
    id INTEGER PRIMARY KEY,
    body BLOB NOT NULL,
    message_id TEXT,
    correlation_id TEXT,
    reply_to TEXT,
    reason TEXT NOT NULL,
    at INTEGER NOT NULL
  );
  CREATE TABLE IF NOT EXISTS results (
    job_id TEXT PRIMARY KEY,
    correlation_id TEXT,
    body TEXT NOT NULL,
    at INTEGER NOT NULL
  );
`;

export interface SqliteQueueOptions {
  /** See embedded-database.ts; closed by its owner. */
  readonly database: Database;
  /** How long results can be read back. */
  readonly resultMemoryMs: number;
  readonly logger: Logger;
}

export class SqliteQueue implements JobQueue {
  readonly #database: Database;
  readonly #closing = new AbortController();
  readonly #listeners: Listeners<ReadyQueue>;
  readonly #failureDelays = new FailureDelays();
  readonly #unsettled = new Set<SqliteDelivery>();
  readonly #unsettledSubmissions = new Set<SqliteDelivery>();
  #handler: ((delivery: Delivery) => Promise<void>) | undefined;
  #isPaused = false;
  #started = false;

  constructor(private readonly options: SqliteQueueOptions) {
    this.#database = options.database;
    this.#listeners = new Listeners((error, readyQueue) =>
      options.logger.error({ err: error, ...readyQueue }, "ready queue listener failed"),
    );
    this.#database.run(SCHEMA);
    // Only one process at a time uses the file, so every delivery of an earlier process has ended.
    this.#database.run("UPDATE messages SET in_hand = 0 WHERE in_hand = 1");
    this.#eraseDeleted();
  }

  start(): void {
    this.#started = true;
    this.#deliver();
    for (const region of this.regions()) {
      for (const priority of PRIORITIES) this.#announce({ region, priority });
    }
  }

  get isReady(): boolean {
    return this.#started && !this.#closing.signal.aborted;
  }

  get problems(): readonly string[] {
    return [];
  }

  async submit(body: Buffer, properties: MessageProperties, signal?: AbortSignal): Promise<void> {
    await this.#write(() => this.#insert(SUBMITTED, body, properties), signal);
    this.#deliver();
  }

  onSubmitted(handler: (delivery: Delivery) => Promise<void>): Subscription {
    this.#handler = handler;
    this.#deliver();
    return {
      pause: async () => this.#pause(),
      resume: () => {
        this.#isPaused = false;
        this.#deliver();
      },
      stop: async () => {
        this.#handler = undefined;
      },
    };
  }

  async deadLetter(delivery: Delivery, letter: DeadLetter, signal?: AbortSignal): Promise<void> {
    const { messageId, correlationId, replyTo } = delivery.properties;
    const row = [
      letter.body,
      messageId ?? null,
      correlationId ?? null,
      replyTo ?? null,
      letter.reason,
      Date.now(),
    ];
    await this.#write(() => {
      this.#database.run("DELETE FROM dead_letters WHERE at < ?", [Date.now() - DEAD_LETTER_TTL_MS]);
      this.#database.run(
        "INSERT INTO dead_letters (body, message_id, correlation_id, reply_to, reason, at) VALUES (?, ?, ?, ?, ?, ?)",
        row,
      );
    }, signal);
  }

  async addRegion(region: string): Promise<void> {
    await this.#write(() => this.#insertRegion(region), undefined);
  }

  async offer(readyQueue: ReadyQueue, message: ReadyMessage, signal?: AbortSignal): Promise<void> {
    await this.#write(() => {
      this.#insertRegion(readyQueue.region);
      this.#insert(placeOf(readyQueue), message.body, message.properties, message.envelope);
    }, signal);
    this.#announce(readyQueue);
  }

  async park(readyQueue: ReadyQueue, message: ReadyMessage, signal?: AbortSignal): Promise<void> {
    const { body, properties, envelope } = message;
    await this.#write(
      () => this.#insert(`${PARKED_PREFIX}${placeOf(readyQueue)}`, body, properties, envelope),
      signal,
    );
  }

  /** The order stays, since the messages keep their ids. */
  async unpark(isKnown: (region: string) => boolean): Promise<void> {
    const known = this.#parkedQueues().filter(({ region }) => isKnown(region));
    await this.#write(() => {
      for (const readyQueue of known) this.#unparkAll(readyQueue);
    }, undefined);
    for (const readyQueue of known) this.#announce(readyQueue);
  }

  async offerLater(delivery: ReadyDelivery, retry: Retry, delayMs: RetryDelayMs): Promise<void> {
    const { readyQueue, body, properties, envelope, revoked } = delivery;
    const dueAt = Date.now() + delayMs;
    await this.#write(
      () => this.#insert(placeOf(readyQueue), body, properties, { ...envelope, retry }, dueAt),
      revoked,
    );
    // After a restart this hint is missing, but `take` still finds the message once it is due.
    setTimeout(() => this.#announce(readyQueue), delayMs).unref();
  }

  async take(readyQueue: ReadyQueue): Promise<ReadyDelivery | undefined> {
    if (!this.isReady) return undefined;
    const row = this.#takeRow(placeOf(readyQueue));
    if (row?.job_id == null || row.default_region === null) return undefined;
    const envelope = {
      jobId: row.job_id,
      acceptedAt: new Date(row.accepted_at ?? 0),
      defaultRegion: row.default_region,
      retry: row.attempts > 0 ? { attempts: row.attempts, lastWorkerId: row.last_worker_id } : undefined,
    };
    const settlement = this.#settlement(row.id);
    const delivery = new SqliteReadyDelivery(row, settlement, readyQueue, envelope);
    this.#unsettled.add(delivery);
    return delivery;
  }

  async waiting(): Promise<number> {
    this.#closing.signal.throwIfAborted();
    const row = this.#database
      .query<{ messages: number }, [string]>(
        "SELECT count(*) AS messages FROM messages WHERE place GLOB ? AND in_hand = 0",
      )
      .get(`${READY_PREFIX}*`);
    return row?.messages ?? 0;
  }

  /** Counts those that are delivered, or due later, too. */
  async hasWaiting(readyQueues: readonly ReadyQueue[]): Promise<boolean> {
    this.#closing.signal.throwIfAborted();
    const places = readyQueues.map(placeOf).flatMap((place) => [place, `${PARKED_PREFIX}${place}`]);
    const waiting = this.#database.query<{ place: string }, [string]>(
      "SELECT place FROM messages WHERE place = ? LIMIT 1",
    );
    return places.some((place) => waiting.get(place) !== null);
  }

  regions(): readonly string[] {
    if (this.#closing.signal.aborted) return [];
    const rows = this.#database
      .query<{ region: string }, []>("SELECT region FROM regions ORDER BY rowid")
      .all();
    return rows.map(({ region }) => region);
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
    if (replyTo.length > 0) {
      this.options.logger.warn(
        { job_id: result.job_id, reply_to: replyTo },
        "reply_to ignored: the embedded queue has no reply queues",
      );
    }
    await this.#write(() => {
      this.#database.run("DELETE FROM results WHERE at < ?", [Date.now() - this.options.resultMemoryMs]);
      this.#database.run(
        "INSERT OR REPLACE INTO results (job_id, correlation_id, body, at) VALUES (?, ?, ?, ?)",
        [result.job_id, correlationId ?? null, JSON.stringify(result), Date.now()],
      );
    }, signal);
  }

  /** A published result, for as long as results are stored. */
  findResult(jobId: string): JobResult | undefined {
    const row = this.#database
      .query<{ body: string }, [string]>("SELECT body FROM results WHERE job_id = ?")
      .get(jobId);
    return row ? (JSON.parse(row.body) as JobResult) : undefined;
  }

  publishEvent(event: JobEvent): void {
    this.options.logger.debug({ job_id: event.job_id, seq: event.seq, state: event.state }, "event");
  }

  async close(): Promise<void> {
    if (this.#closing.signal.aborted) return;
    const reason = new QueueClosed("the queue was closed");
    this.#closing.abort(reason);
    for (const delivery of this.#unsettled) delivery.revoke(reason);
    this.#unsettled.clear();
    this.#database.run("UPDATE messages SET in_hand = 0 WHERE in_hand = 1");
  }

  #insert(place: string, body: Buffer, properties: MessageProperties, envelope?: Envelope, dueAt = 0): void {
    this.#database.run(
      `INSERT INTO messages (place, body, message_id, correlation_id, reply_to, job_id, accepted_at, default_region,
         attempts, last_worker_id, due_at)
       VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
      [
        place,
        body,
        properties.messageId ?? null,
        properties.correlationId ?? null,
        properties.replyTo ?? null,
        envelope?.jobId ?? null,
        envelope?.acceptedAt.getTime() ?? null,
        envelope?.defaultRegion ?? null,
        envelope?.retry?.attempts ?? 0,
        envelope?.retry?.lastWorkerId ?? "",
        dueAt,
      ],
    );
  }

  #insertRegion(region: string): void {
    this.#database.run("INSERT OR IGNORE INTO regions (region) VALUES (?)", [region]);
  }

  /** The ready queues for which jobs are parked. */
  #parkedQueues(): readonly ReadyQueue[] {
    this.#closing.signal.throwIfAborted();
    const rows = this.#database
      .query<{ place: string }, [string]>("SELECT DISTINCT place FROM messages WHERE place GLOB ?")
      .all(`${PARKED_PREFIX}*`);
    return rows.map(({ place }) => readyQueueAt(place.slice(PARKED_PREFIX.length)));
  }

  #unparkAll(readyQueue: ReadyQueue): void {
    this.#insertRegion(readyQueue.region);
    const place = placeOf(readyQueue);
    this.#database.run("UPDATE messages SET place = ? WHERE place = ?", [place, `${PARKED_PREFIX}${place}`]);
  }

  /**
   * Marks the oldest message of a place as delivered. When the disk is full, it stays undelivered. A message that is due
   * later than any delay is due now: the clock was set back.
   */
  #takeRow(place: string): MessageRow | undefined {
    const nowMs = Date.now();
    try {
      const row = this.#database
        .query<MessageRow, [string, number, number]>(
          `UPDATE messages SET in_hand = 1, deliveries = deliveries + 1
           WHERE id = (SELECT id FROM messages WHERE place = ? AND in_hand = 0 AND NOT (due_at > ? AND due_at <= ?)
                       ORDER BY id LIMIT 1)
           RETURNING *`,
        )
        .get(place, nowMs, nowMs + MAX_DELAY_MS);
      return row ?? undefined;
    } catch (error) {
      this.options.logger.error({ err: error, place }, "failed to take a message from the embedded queue");
      return undefined;
    }
  }

  /** Delivers submitted messages until none is left or too many are unsettled. */
  #deliver(): void {
    while (this.isReady && !this.#isPaused && this.#handler && this.#unsettledSubmissions.size < PREFETCH) {
      const row = this.#takeRow(SUBMITTED);
      if (!row) return;
      const afterSettling = () => {
        this.#unsettledSubmissions.delete(delivery);
        this.#deliver();
      };
      const settlement = this.#settlement(row.id, afterSettling);
      const delivery: SqliteDelivery = new SqliteDelivery(row, settlement);
      this.#unsettledSubmissions.add(delivery);
      this.#unsettled.add(delivery);
      void this.#receive(this.#handler, delivery);
    }
  }

  #pause(): void {
    this.#isPaused = true;
    for (const delivery of this.#unsettledSubmissions) {
      delivery.requeue();
      delivery.revoke(new Error("the deliveries of submitted messages are paused"));
    }
  }

  async #receive(handler: (delivery: Delivery) => Promise<void>, delivery: SqliteDelivery): Promise<void> {
    try {
      await handler(delivery);
      this.#failureDelays.forget(delivery);
    } catch (error) {
      if (delivery.revoked.aborted) return;
      this.options.logger.warn(
        { err: error },
        "failed to process a submitted message, returning it to the queue",
      );
      await sleep(this.#failureDelays.nextMs(delivery), delivery.revoked).catch(() => undefined);
      await delivery.requeue();
    }
  }

  #settlement(id: number, afterSettling: () => void = () => undefined): Settlement {
    const settle = async (delivery: SqliteDelivery, statement: string) => {
      this.#unsettled.delete(delivery);
      try {
        // When the disk is full, an ack is retried until the queue closes.
        await this.#write(() => this.#database.run(statement, [id]), undefined);
      } catch (error) {
        // Then the message is redelivered at the next start, like every unacked one.
        if (!(error instanceof QueueClosed)) throw error;
      }
    };
    return {
      ack: (delivery) =>
        void settle(delivery, "DELETE FROM messages WHERE id = ?").then(() => {
          this.#eraseDeleted();
          afterSettling();
        }),
      requeue: (delivery) =>
        settle(delivery, "UPDATE messages SET in_hand = 0 WHERE id = ?").then(afterSettling),
    };
  }

  /** The write-ahead log contains earlier versions of what was deleted from the file, with secrets. */
  #eraseDeleted(): void {
    if (this.#closing.signal.aborted) return;
    try {
      this.#database.run("PRAGMA wal_checkpoint(TRUNCATE)");
    } catch (error) {
      this.options.logger.warn({ err: error }, "failed to empty the embedded queue's write-ahead log");
    }
  }

  /** One transaction, retried until it is written. */
  async #write(change: () => void, signal: AbortSignal | undefined): Promise<void> {
    const delay = new Backoff(WRITE_RETRY_DELAY);
    for (;;) {
      this.#closing.signal.throwIfAborted();
      signal?.throwIfAborted();
      try {
        return this.#database.transaction(change)();
      } catch (error) {
        this.options.logger.error({ err: error }, "failed to write the embedded queue, retrying");
      }
      await orAbort(sleep(delay.nextMs()), signal, this.#closing.signal);
    }
  }

  #announce(readyQueue: ReadyQueue): void {
    if (this.isReady) this.#listeners.notify(readyQueue);
  }
}

function placeOf(readyQueue: ReadyQueue): string {
  return `${READY_PREFIX}${readyQueue.region}/${readyQueue.priority}`;
}

/** The inverse of `placeOf`. */
function readyQueueAt(place: string): ReadyQueue {
  const [, region = "", priority] = place.split("/");
  return { region, priority: priority as Priority };
}
