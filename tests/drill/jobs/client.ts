/**
 * The drill's RabbitMQ client: sends messages, receives results and dead letters, and reconnects whenever the broker is
 * down.
 */
import { type ConfirmChannel, type ConsumeMessage, connect } from "amqplib";
import type { JobResult } from "../../../src/shared/job.ts";
import { waitFor } from "../../support/machine/wait-for.ts";
import type { QueueTotals, RabbitMqServer } from "../../support/servers/rabbitmq.ts";

export interface ReceivedResult {
  readonly at: number;
  /** When its job was sent for the first time. */
  readonly sentAt: number;
  readonly result: JobResult;
  readonly text: string;
}

export interface DeadLetter {
  readonly at: number;
  readonly text: string;
  readonly reason: string;
}

const RECONNECT_MS = 200;
const CONFIRM_MS = 20_000;

export class JobClient {
  /** By job id, in the order of their arrival. */
  readonly results = new Map<string, ReceivedResult[]>();
  /** The times at which each job was sent; a message is sent again when its confirmation was lost. */
  readonly sent = new Map<string, number[]>();
  readonly deadLetters: DeadLetter[] = [];
  readonly #rabbitmq: RabbitMqServer;
  #channel: ConfirmChannel | undefined;
  #close: (() => void) | undefined;
  #isStopped = false;
  #loop: Promise<void> | undefined;

  constructor(rabbitmq: RabbitMqServer) {
    this.#rabbitmq = rabbitmq;
  }

  start(): void {
    this.#loop = this.#keepConnected();
  }

  async stop(): Promise<void> {
    this.#isStopped = true;
    this.#close?.();
    await this.#loop;
  }

  /** Resolves once the broker has confirmed the message. */
  async send(jobId: string, body: string): Promise<void> {
    const times = this.sent.get(jobId) ?? [];
    this.sent.set(jobId, times);
    for (;;) {
      const channel = await waitFor(() => this.#channel, {
        timeoutMs: 120_000,
        what: "the drill's connection to RabbitMQ",
      });
      times.push(Date.now());
      if (await isConfirmed(channel, body)) return;
      // Also needed for a channel that failed without an event.
      if (this.#channel === channel) this.#close?.();
      await Bun.sleep(RECONNECT_MS);
    }
  }

  async #keepConnected(): Promise<void> {
    while (!this.#isStopped) {
      await this.#connectOnce().catch(() => undefined);
      this.#channel = undefined;
      if (!this.#isStopped) await Bun.sleep(RECONNECT_MS);
    }
  }

  /** Resolves when the connection has ended. */
  async #connectOnce(): Promise<void> {
    const connection = await connect(`${this.#rabbitmq.url}?heartbeat=0`);
    const ended = Promise.withResolvers<void>();
    connection.on("error", () => undefined);
    connection.on("close", () => ended.resolve());
    this.#close = ended.resolve;
    try {
      const channel = await connection.createConfirmChannel();
      channel.on("error", () => undefined);
      channel.on("close", () => ended.resolve());
      await channel.consume("jobs.results", (message) => message && this.#receive(channel, message));
      await channel.consume("jobs.build.dead", (message) => message && this.#receiveDead(channel, message));
      this.#channel = channel;
      await ended.promise;
    } finally {
      this.#channel = undefined;
      // A frozen or stopped broker does not answer, so do not wait.
      void connection.close().catch(() => undefined);
    }
  }

  #receive(channel: ConfirmChannel, message: ConsumeMessage): void {
    const text = message.content.toString();
    const result = JSON.parse(text) as JobResult;
    const known = this.results.get(result.job_id) ?? [];
    // An identical redelivery comes from an ack that the drill lost, not from Blacktree.
    const isOurs = message.fields.redelivered && known.some((earlier) => earlier.text === text);
    const [sentAt = Date.now()] = this.sent.get(result.job_id) ?? [];
    if (!isOurs) known.push({ at: Date.now(), sentAt, result, text });
    this.results.set(result.job_id, known);
    channel.ack(message);
  }

  #receiveDead(channel: ConfirmChannel, { content, properties, fields }: ConsumeMessage): void {
    const text = content.toString();
    const isOurs = fields.redelivered && this.deadLetters.some((earlier) => earlier.text === text);
    const reason = String(properties.headers?.["x-blacktree-reason"]);
    if (!isOurs) this.deadLetters.push({ at: Date.now(), text, reason });
    channel.ack({ content, properties, fields });
  }
}

function isConfirmed(channel: ConfirmChannel, body: string): Promise<boolean> {
  return new Promise((resolve) => {
    const timer = setTimeout(() => settle(false), CONFIRM_MS);
    const onClose = () => settle(false);
    const settle = (confirmed: boolean) => {
      clearTimeout(timer);
      channel.off("close", onClose);
      resolve(confirmed);
    };
    channel.once("close", onClose);
    try {
      channel.sendToQueue("jobs.build", Buffer.from(body), { persistent: true }, (error) => settle(!error));
    } catch {
      settle(false);
    }
  });
}

/** Every queue of the drill with a ready or unacked message. */
export async function messagesLeft(rabbitmq: RabbitMqServer): Promise<QueueTotals[]> {
  const totals = await rabbitmq.queueTotals(rabbitmq.vhost);
  if (totals.length === 0) throw new Error("RabbitMQ lists no queues");
  // That queue always contains one message for each region.
  return totals.filter(
    ({ name, ready, unacked }) => name !== "jobs.ready.regions" && (ready > 0 || unacked > 0),
  );
}
