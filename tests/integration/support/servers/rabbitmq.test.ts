import { afterAll, beforeAll, expect, test } from "bun:test";
import amqp from "amqplib";
import { inFullCheck } from "../../../support/machine/full-check.ts";
import { type RabbitMq, startRabbitMq } from "../../../support/servers/rabbitmq.ts";

let rabbit: RabbitMq;

// The tests of Blacktree start, kill, freeze and configure brokers in every check.
inFullCheck().describe("a dedicated broker", () => {
  beforeAll(async () => {
    rabbit = await startRabbitMq({ config: ["consumer_timeout = 2000"] });
  });
  afterAll(() => rabbit.stop());

  async function withChannel<T>(use: (channel: amqp.ConfirmChannel) => Promise<T>): Promise<T> {
    const connection = await amqp.connect(rabbit.url);
    connection.on("error", () => undefined);
    const channel = await connection.createConfirmChannel();
    channel.on("error", () => undefined);
    try {
      return await use(channel);
    } finally {
      await connection.close().catch(() => undefined);
    }
  }

  async function declare(channel: amqp.Channel): Promise<void> {
    await channel.assertQueue("durable", { durable: true, arguments: { "x-queue-type": "quorum" } });
  }

  async function publish(text: string): Promise<void> {
    await withChannel(async (channel) => {
      await declare(channel);
      channel.sendToQueue("durable", Buffer.from(text), { persistent: true });
      await channel.waitForConfirms();
    });
  }

  function take(): Promise<string | undefined> {
    return withChannel(async (channel) => {
      const message = await channel.get("durable", { noAck: true });
      return message ? message.content.toString() : undefined;
    });
  }

  test("a persistent message survives an orderly restart", async () => {
    await publish("one");
    await rabbit.restart();
    expect(await take()).toBe("one");
  });

  test("a persistent message survives a killed broker", async () => {
    await publish("two");
    await rabbit.writeQueueList();
    await rabbit.kill();
    await expect(amqp.connect(rabbit.url)).rejects.toThrow();
    await rabbit.start();
    expect(await take()).toBe("two");
  });

  test("a paused broker keeps its clients waiting, and serves them again when resumed", async () => {
    await withChannel(async (channel) => {
      await declare(channel);
      rabbit.pause();
      let answered = false;
      const checking = channel.checkQueue("durable").then((queue) => {
        answered = true;
        return queue.queue;
      });
      expect(answered).toBe(false);
      rabbit.resume();
      expect(await checking).toBe("durable");
    });
  });

  test("rabbitmqctl connects to the broker, and the broker has the test's settings", async () => {
    const expression = "application:get_env(rabbit, consumer_timeout).";
    expect((await rabbit.rabbitmqctl(["eval", expression])).stdout).toContain("{ok,2000}");
    const { stdout } = await rabbit.rabbitmqctl(["--quiet", "list_vhosts"]);
    expect(stdout).toContain(rabbit.vhost);
  });
});
