/** The queues of one test in a RabbitMQ that several tests share: every test has separate names. */
import { randomUUID } from "node:crypto";
import { type Channel, type ChannelModel, connect, type GetMessage } from "amqplib";
import pino, { type Logger } from "pino";
import { RabbitMqQueue } from "../../../../../src/orchestrator/queue/rabbitmq/queue.ts";
import { openProgramLog } from "../../../../support/machine/program-logs.ts";
import { waitFor } from "../../../../support/machine/wait-for.ts";
import type { Broker } from "../queue-contract.ts";

export interface RabbitMqBroker extends Broker {
  readonly jobQueue: string;
  readonly resultQueue: string;
  readonly readyPrefix: string;
  readonly eventExchange: string;
  /** A channel on a separate connection. Refusals close a channel, so every use gets a new one. */
  withChannel<T>(use: (channel: Channel) => Promise<T>): Promise<T>;
  /** Waits for messages and removes them. */
  drain(queue: string, count: number): Promise<readonly GetMessage[]>;
  /** `as`: the URL of another user */
  open(as?: string): RabbitMqQueue;
}

export interface BrokerOptions {
  readonly heartbeatSeconds?: number;
  readonly prepareTimeoutMs?: number;
  readonly takeTimeoutMs?: number;
  readonly managementUrl?: string;
  readonly replyPatterns?: readonly string[];
  readonly checkIntervalMs?: number;
  readonly logger?: Logger;
  /** Tried before the broker's own URL. */
  readonly otherUrls?: readonly string[];
}

let queueLogger: Logger | undefined;

/** One log for all queues of a test file, kept with the logs of its programs. */
function fileLogger(): Logger {
  if (!queueLogger) {
    const log = openProgramLog(["queue"]);
    queueLogger = pino({ level: "info" }, { write: (line: string) => log.write(Buffer.from(line)) });
  }
  return queueLogger;
}

export function rabbitMqBroker(url: string, options: BrokerOptions = {}): RabbitMqBroker {
  const prefix = `t${randomUUID().slice(0, 8)}`;
  const names = {
    jobQueue: `${prefix}.build`,
    resultQueue: `${prefix}.results`,
    readyPrefix: `${prefix}.ready`,
    eventExchange: `${prefix}.events`,
  };
  let model: Promise<ChannelModel> | undefined;

  async function connection(): Promise<ChannelModel> {
    model ??= connect(url).then((connected) => {
      connected.on("error", () => undefined);
      connected.on("close", () => {
        model = undefined;
      });
      return connected;
    });
    return await model;
  }

  async function withChannel<T>(use: (channel: Channel) => Promise<T>): Promise<T> {
    const channel = await (await connection()).createChannel();
    let open = true;
    channel.on("error", () => undefined);
    channel.on("close", () => {
      open = false;
    });
    try {
      return await use(channel);
    } finally {
      if (open) await channel.close();
    }
  }

  function drain(queue: string, count: number): Promise<readonly GetMessage[]> {
    return withChannel(async (channel) => {
      const messages: GetMessage[] = [];
      await waitFor(
        async () => {
          for (;;) {
            const message = await channel.get(queue, { noAck: true });
            if (message === false) return messages.length >= count;
            messages.push(message);
          }
        },
        { timeoutMs: 120_000, what: `${count} messages in ${queue}` },
      );
      return messages;
    });
  }

  return {
    ...names,
    withChannel,
    drain,
    open: (as = url) =>
      new RabbitMqQueue({
        urls: [...(options.otherUrls ?? []), as],
        ...names,
        heartbeatSeconds: options.heartbeatSeconds,
        prepareTimeoutMs: options.prepareTimeoutMs,
        takeTimeoutMs: options.takeTimeoutMs,
        managementUrl: options.managementUrl,
        replyPatterns: options.replyPatterns,
        checkIntervalMs: options.checkIntervalMs,
        logger: options.logger ?? fileLogger(),
      }),
    async deadLetters() {
      const messages = await drain(`${names.jobQueue}.dead`, 1);
      return messages.map(({ content, properties }) => ({
        body: content,
        reason: properties.headers?.["x-blacktree-reason"],
        at: new Date(properties.headers?.["x-blacktree-at"]),
        messageId: properties.messageId,
        correlationId: properties.correlationId,
      }));
    },
    async results() {
      const messages = await drain(names.resultQueue, 1);
      return messages.map(({ content, properties }) => ({
        body: JSON.parse(content.toString("utf8")),
        jobId: properties.messageId,
        correlationId: properties.correlationId,
      }));
    },
    async remove() {
      if (model) await (await model).close();
    },
  };
}
