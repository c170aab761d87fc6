/** The drill's own end of RabbitMQ: puts jobs in and takes results out, however often the broker goes away. */
import { type ConfirmChannel, type ConsumeMessage, connect } from "amqplib";
import type { JobResult } from "../../src/shared/job.ts";
import { waitFor } from "../support/machine/wait-for.ts";
import type { QueueTotals, RabbitMqServer } from "../support/servers/rabbitmq.ts";
import type { DrillJob } from "./workload.ts";

export interface ReceivedResult {
  readonly at: number;
  readonly result: JobResult;
  readonly text: string;
}

const RECONNECT_MS = 200;
const CONFIRM_MS = 20_000;

export class Postbox {
  /** By job id, in the order of their arrival. */
  readonly results = new Map<string, ReceivedResult[]>();
  /** When each job was sent, all times: a confirm that was lost makes it be sent again. */
  readonly sent = new Map<string, number[]>();
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

  /** Resolves once the broker has it. */
  async send({ message }: DrillJob): Promise<void> {
    const times = this.sent.get(message.job_id) ?? [];
    this.sent.set(message.job_id, times);
    for (;;) {
      const channel = await waitFor(() => this.#channel, {
        timeoutMs: 120_000,
        what: "the drill's own connection to RabbitMQ",
      });
      times.push(Date.now());
      if (await isConfirmed(channel, JSON.stringify(message))) return;
      // Also for a channel that has given up without a word.
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
      this.#channel = channel;
      await ended.promise;
    } finally {
      this.#channel = undefined;
      // Of a broker that is frozen or gone there is no answer to wait for.
      void connection.close().catch(() => undefined);
    }
  }

  #receive(channel: ConfirmChannel, message: ConsumeMessage): void {
    const text = message.content.toString();
    const result = JSON.parse(text) as JobResult;
    const known = this.results.get(result.job_id) ?? [];
    // The very message once more, since an ack of ours was lost, is the drill's own doing.
    const isOurs = message.fields.redelivered && known.some((earlier) => earlier.text === text);
    if (!isOurs) known.push({ at: Date.now(), result, text });
    this.results.set(result.job_id, known);
    channel.ack(message);
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

/** Every queue of the drill with a message in it, or in somebody's hands. */
export async function messagesLeft(rabbitmq: RabbitMqServer): Promise<QueueTotals[]> {
  const totals = await rabbitmq.queueTotals(rabbitmq.vhost);
  if (totals.length === 0) throw new Error("RabbitMQ lists no queues");
  // That one has a message for each region, and keeps it.
  return totals.filter(
    ({ name, ready, unacked }) => name !== "jobs.ready.regions" && (ready > 0 || unacked > 0),
  );
}
