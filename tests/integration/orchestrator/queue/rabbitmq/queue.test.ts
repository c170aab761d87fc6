import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import { connect, type GetMessage } from "amqplib";
import pino from "pino";
import type {
  Delivery,
  JobQueue,
  ReadyDelivery,
  ReadyMessage,
  ReadyQueue,
} from "../../../../../src/orchestrator/queue/queue.ts";
import { waitFor } from "../../../../support/machine/wait-for.ts";
import { borrowRabbitMq } from "../../../../support/servers/pool.ts";
import type { RabbitMqServer } from "../../../../support/servers/rabbitmq.ts";
import { sampleResult } from "../../sample-result.ts";
import { letterOf } from "../letter-of.ts";
import { describeQueueContract } from "../queue-contract.ts";
import { type RabbitMqBroker, rabbitMqBroker } from "./broker.ts";

const TIMEOUT_MS = 120_000;
const readyQueue: ReadyQueue = { region: "eu-central-1", priority: "normal" };
let server: RabbitMqServer;

async function got(getting: Promise<GetMessage | false>): Promise<GetMessage | undefined> {
  return (await getting) || undefined;
}

beforeAll(async () => {
  server = await borrowRabbitMq();
});

afterAll(() => server.stop());

describeQueueContract("RabbitMQ", async () => rabbitMqBroker(server.url));

describe("RabbitMQ", () => {
  let broker: RabbitMqBroker;
  const opened: JobQueue[] = [];
  const logLines: string[] = [];

  beforeEach(() => {
    logLines.length = 0;
    const logger = pino({ level: "warn" }, { write: (line: string) => void logLines.push(line) });
    broker = rabbitMqBroker(server.url, { logger });
  });

  afterEach(async () => {
    await Promise.all(opened.splice(0).map((queue) => queue.close()));
    await broker.remove();
  });

  async function startedQueue(of: RabbitMqBroker = broker) {
    const queue = of.open();
    opened.push(queue);
    queue.start();
    await waitFor(() => queue.isReady, { timeoutMs: TIMEOUT_MS, what: "the queue to be ready" });
    return queue;
  }

  function takeOne(queue: JobQueue, from: ReadyQueue = readyQueue): Promise<ReadyDelivery> {
    return waitFor(() => queue.take(from), { timeoutMs: TIMEOUT_MS, what: "a waiting job" });
  }

  async function deadLetterAndAck(queue: JobQueue, delivery: Delivery): Promise<void> {
    await queue.deadLetter(delivery, letterOf(delivery, "wrong"));
    delivery.ack();
  }

  function message(jobId: string): ReadyMessage {
    return {
      body: Buffer.from(jobId),
      properties: {},
      envelope: { jobId, acceptedAt: new Date(), defaultRegion: "us-east-1" },
    };
  }

  /** A busy machine may cause other warnings. */
  function repliesNotSent(): readonly { readonly reply_to: string; readonly answer?: string }[] {
    return logLines.map((line) => JSON.parse(line)).filter(({ reply_to }) => reply_to !== undefined);
  }

  /** One line per queue: name, type, durable, arguments. */
  async function listQueues(): Promise<readonly string[]> {
    const { stdout } = await server.rabbitmqctl([
      "list_queues",
      "-q",
      "-p",
      server.vhost,
      "--no-table-headers",
      "name",
      "type",
      "durable",
      "arguments",
    ]);
    return stdout.split("\n");
  }

  async function ownQueues(): Promise<readonly string[]> {
    const names = (await listQueues()).map((line) => line.split("\t")[0] ?? "");
    return names.filter((name) => name.startsWith(broker.readyPrefix)).toSorted();
  }

  test("declares durable quorum queues, and dead letters expire after seven days", async () => {
    const queue = await startedQueue();
    await queue.offer(readyQueue, message("job-1"));
    const queues = await listQueues();
    const queueNamed = (name: string) => queues.find((line) => line.startsWith(`${name}\t`));
    for (const name of [
      broker.jobQueue,
      broker.resultQueue,
      `${broker.jobQueue}.dead`,
      `${broker.readyPrefix}.regions`,
      `${broker.readyPrefix}.unknown-region`,
      `${broker.readyPrefix}.unknown-region.checked`,
      `${broker.readyPrefix}.eu-central-1.high`,
      `${broker.readyPrefix}.eu-central-1.normal`,
      `${broker.readyPrefix}.eu-central-1.low`,
    ]) {
      expect(queueNamed(name)).toStartWith(`${name}\tquorum\ttrue`);
    }
    expect(queueNamed(`${broker.jobQueue}.dead`)).toContain(`"x-message-ttl",604800000`);
  });

  test("uses existing queues with other arguments as they are", async () => {
    await broker.withChannel(async (channel) => {
      await channel.assertQueue(broker.jobQueue, { durable: true, maxPriority: 5 });
      await channel.assertQueue(broker.resultQueue, { durable: false, autoDelete: false });
      await channel.assertQueue(`${broker.jobQueue}.dead`, { durable: true, messageTtl: 60_000 });
      await channel.assertQueue(`${broker.readyPrefix}.eu-central-1.normal`, { durable: true });
      await channel.assertExchange(broker.eventExchange, "fanout", { durable: false });
    });
    const queue = await startedQueue();
    const deliveries: Delivery[] = [];
    queue.onSubmitted(async (delivery) => void deliveries.push(delivery));
    await queue.submit(Buffer.from("bad"), {});
    await waitFor(() => deliveries[0], { timeoutMs: TIMEOUT_MS, what: "the submission" });
    await queue.deadLetter(deliveries[0] as Delivery, letterOf(deliveries[0], "reason"));
    expect(await broker.deadLetters()).toHaveLength(1);
    await queue.publishResult(sampleResult("job-1"), undefined, []);
    expect(await broker.results()).toHaveLength(1);
    await queue.offer(readyQueue, message("job-1"));
    expect((await takeOne(queue)).envelope.jobId).toBe("job-1");
  });

  test("a dead letter keeps the sender's properties and headers, without CC, BCC and expiration", async () => {
    await startedQueue().then((queue) => queue.onSubmitted((delivery) => deadLetterAndAck(queue, delivery)));
    const body = Buffer.from([0x7b, 0xff, 0x00]);
    await broker.withChannel(async (channel) => {
      await channel.assertQueue(`${broker.jobQueue}.copies`, { durable: true });
      channel.publish("", broker.jobQueue, body, {
        messageId: "m-1",
        type: "build",
        appId: "the-api",
        contentType: "text/plain",
        contentEncoding: "identity",
        timestamp: 1_700_000_000,
        userId: "blacktree",
        expiration: 60_000,
        CC: [`${broker.jobQueue}.copies`],
        headers: { tenant: "t-1", nested: { list: [1, "two", true] }, "x-death": [{ count: 1 }] },
      });
    });
    const [letter] = await broker.drain(`${broker.jobQueue}.dead`, 1);
    expect(letter?.content.equals(body)).toBe(true);
    expect(letter?.properties).toMatchObject({
      messageId: "m-1",
      type: "build",
      appId: "the-api",
      contentType: "text/plain",
      contentEncoding: "identity",
      timestamp: 1_700_000_000,
      expiration: undefined,
      deliveryMode: 2,
    });
    expect(letter?.properties.headers).toMatchObject({
      tenant: "t-1",
      nested: { list: [1, "two", true] },
      "x-blacktree-reason": "wrong",
    });
    // The sender's own CC copy, and no second one.
    expect(await broker.drain(`${broker.jobQueue}.copies`, 1)).toHaveLength(1);
  });

  test("a message with another user's id can still be dead-lettered", async () => {
    await server.addUser(server.vhost, broker.jobQueue, "");
    await server.permit(server.vhost, broker.jobQueue, [".*", ".*", ".*"]);
    const queue = await startedQueue();
    queue.onSubmitted((delivery) => deadLetterAndAck(queue, delivery));
    const sender = await connect(server.url.replace(/\/\/.*@/, `//${broker.jobQueue}:pw@`));
    const channel = await sender.createConfirmChannel();
    channel.sendToQueue(broker.jobQueue, Buffer.from("theirs"), { userId: broker.jobQueue });
    await channel.waitForConfirms();
    await sender.close();
    expect((await broker.deadLetters())[0]?.body.toString()).toBe("theirs");
  });

  test("a message whose headers fill the limit is still dead-lettered", async () => {
    const queue = await startedQueue();
    queue.onSubmitted((delivery) => deadLetterAndAck(queue, delivery));
    await broker.withChannel(async (channel) => {
      channel.sendToQueue(broker.jobQueue, Buffer.from("stuffed"), { headers: { big: "x".repeat(65_000) } });
    });
    const [letter] = await broker.deadLetters();
    expect(letter?.body.toString()).toBe("stuffed");
    expect(letter?.reason).toBe("wrong");
  });

  test("sends the result to reply_to as well", async () => {
    const queue = await startedQueue();
    const answers = `${broker.jobQueue}.answers`;
    await broker.withChannel((channel) => channel.assertQueue(answers, { durable: true }));
    await queue.publishResult(sampleResult("job-1"), "c-1", [answers, answers]);
    for (const name of [answers, broker.resultQueue]) {
      const messages = await broker.drain(name, 1);
      expect(messages).toHaveLength(1);
      expect(messages[0]?.properties).toMatchObject({
        messageId: "job-1",
        correlationId: "c-1",
        contentType: "application/json",
        deliveryMode: 2,
      });
      expect(JSON.parse(messages[0]?.content.toString() ?? "")).toEqual(sampleResult("job-1"));
    }
  });

  test("a reply_to queue that is missing, full or Blacktree's own delays nothing", async () => {
    const queue = await startedQueue();
    await queue.offer(readyQueue, message("job-1"));
    const full = `${broker.jobQueue}.full`;
    await broker.withChannel((channel) =>
      channel.assertQueue(full, { durable: true, maxLength: 0, overflow: "reject-publish" }),
    );
    const own = [
      broker.jobQueue,
      broker.resultQueue,
      `${broker.jobQueue}.dead`,
      `${broker.readyPrefix}.eu-central-1.normal`,
    ];
    await queue.publishResult(sampleResult("job-2"), undefined, ["no-such-queue", "", full, ...own]);
    const answers = repliesNotSent().map(({ reply_to, answer }) => [reply_to, answer]);
    // After a wait up to the time limit the answer would be "none".
    expect(answers.toSorted()).toEqual(
      [
        ["no-such-queue", "unroutable"],
        ["", "unroutable"],
        [full, "refused"],
        ...own.map((name) => [name, undefined]),
      ].toSorted(),
    );
    expect(await broker.results()).toHaveLength(1);
    expect((await takeOne(queue)).envelope.jobId).toBe("job-1");
    expect(await queue.take(readyQueue)).toBeUndefined();
    const counts = await broker.withChannel((channel) => channel.checkQueue(broker.jobQueue));
    expect(counts.messageCount).toBe(0);
  });

  test("a direct reply-to gets the result, which is not reported as lost", async () => {
    const queue = await startedQueue();
    const answers: string[] = [];
    await broker.withChannel(async (channel) => {
      await channel.consume("amq.rabbitmq.reply-to", (answer) => answers.push(String(answer?.content)), {
        noAck: true,
      });
      channel.sendToQueue(broker.jobQueue, Buffer.from("job"), { replyTo: "amq.rabbitmq.reply-to" });
      const replyTo = Promise.withResolvers<string>();
      queue.onSubmitted(async (delivery) => {
        delivery.ack();
        replyTo.resolve(delivery.properties.replyTo ?? "");
      });
      await queue.publishResult(sampleResult("job-1"), undefined, [await replyTo.promise]);
      await waitFor(() => answers.length > 0, { timeoutMs: TIMEOUT_MS, what: "the answer" });
    });
    expect(JSON.parse(answers[0] ?? "")).toEqual(sampleResult("job-1"));
    expect(repliesNotSent()).toEqual([]);
  });

  test("BLACKTREE_REPLY_TO limits the queues that reply_to may name", async () => {
    const allowed = `${broker.jobQueue}.answers`;
    const logger = pino({ level: "warn" }, { write: (line: string) => void logLines.push(line) });
    const limited = rabbitMqBroker(server.url, { logger, replyPatterns: ["*.answers", "*.jobs"] });
    try {
      const queue = await startedQueue(limited);
      const refused = `${broker.jobQueue}.other`;
      await broker.withChannel(async (channel) => {
        for (const name of [allowed, refused]) await channel.assertQueue(name, { durable: true });
      });
      await queue.publishResult(sampleResult("job-1"), undefined, [allowed, refused]);
      expect(await broker.drain(allowed, 1)).toHaveLength(1);
      const counts = await broker.withChannel((channel) => channel.checkQueue(refused));
      expect(counts.messageCount).toBe(0);
      expect(repliesNotSent()).toMatchObject([
        {
          reply_to: refused,
          msg: "result not sent to reply_to: BLACKTREE_REPLY_TO does not allow the queue",
        },
      ]);
    } finally {
      await limited.remove();
    }
  });

  test("deleted queues are declared again, and no later message is lost", async () => {
    const queue = await startedQueue();
    const bodies: string[] = [];
    queue.onSubmitted(async (delivery) => {
      bodies.push(delivery.body.toString());
      delivery.ack();
    });
    await queue.offer(readyQueue, message("job-0"));
    await broker.withChannel(async (channel) => {
      for (const name of [
        broker.jobQueue,
        broker.resultQueue,
        `${broker.readyPrefix}.eu-central-1.normal`,
        `${broker.readyPrefix}.regions`,
      ]) {
        await channel.deleteQueue(name);
      }
    });
    expect(await queue.take(readyQueue)).toBeUndefined();
    await queue.submit(Buffer.from("submitted"), {});
    await waitFor(() => bodies.length === 1, { timeoutMs: TIMEOUT_MS, what: "the submission" });
    await queue.offer(readyQueue, message("job-1"));
    expect((await takeOne(queue)).envelope.jobId).toBe("job-1");
    await queue.publishResult(sampleResult("job-1"), undefined, []);
    expect(await broker.results()).toHaveLength(1);
  });

  test("a deleted event exchange is declared again", async () => {
    const queue = await startedQueue();
    await broker.withChannel((channel) => channel.deleteExchange(broker.eventExchange));
    const listening = broker.withChannel(async (channel) => {
      await waitFor(
        () => {
          queue.publishEvent({
            job_id: "j",
            tenant: "acme",
            attempt: 1,
            seq: 1,
            state: "BUILDING",
            at: new Date().toISOString(),
          });
          return broker.withChannel((other) => other.checkExchange(broker.eventExchange));
        },
        { timeoutMs: TIMEOUT_MS, what: "the exchange to be declared again" },
      );
      const { queue: name } = await channel.assertQueue("", { exclusive: true });
      await channel.bindQueue(name, broker.eventExchange, "job.building");
      return await waitFor(
        () => {
          queue.publishEvent({
            job_id: "j",
            tenant: "acme",
            attempt: 1,
            seq: 2,
            state: "BUILDING",
            at: new Date().toISOString(),
          });
          return got(channel.get(name, { noAck: true }));
        },
        { timeoutMs: TIMEOUT_MS, what: "an event" },
      );
    });
    expect(JSON.parse((await listening).content.toString()).job_id).toBe("j");
  });

  test("publishes events under their states", async () => {
    const queue = await startedQueue();
    const event = {
      job_id: "j",
      tenant: "acme",
      attempt: 2,
      seq: 3,
      state: "RETRYING",
      at: "2026-01-02T03:04:05Z",
      code: "DISK_FULL",
    } as const;
    const received = await broker.withChannel(async (channel) => {
      const { queue: name } = await channel.assertQueue("", { exclusive: true });
      await channel.bindQueue(name, broker.eventExchange, "job.retrying");
      queue.publishEvent(event);
      return await waitFor(() => got(channel.get(name, { noAck: true })), {
        timeoutMs: TIMEOUT_MS,
        what: "the event",
      });
    });
    expect(JSON.parse(received.content.toString())).toEqual(event);
    expect(received.properties.deliveryMode).toBe(2);
  });

  test("regions survive any number of restarts, one orchestrator after the other", async () => {
    const first = await startedQueue();
    await first.offer(readyQueue, message("job-1"));
    await first.close();
    for (let restart = 1; restart <= 12; restart += 1) {
      const queue = await startedQueue();
      expect({ restart, regions: queue.regions() }).toEqual({ restart, regions: ["eu-central-1"] });
      await queue.close();
    }
  });

  test("a region whose message is gone is restored while an orchestrator knows it", async () => {
    const queue = await startedQueue();
    await queue.offer(readyQueue, message("job-1"));
    await broker.withChannel((channel) => channel.purgeQueue(`${broker.readyPrefix}.regions`));
    await waitFor(() => logLines.some((line) => line.includes("restoring it")), {
      timeoutMs: TIMEOUT_MS,
      what: "the region to be restored",
    });
    await queue.close();
    const after = await startedQueue();
    expect(after.regions()).toEqual(["eu-central-1"]);
  });

  describe("with two orchestrators", () => {
    test("each is notified of the other's offers to the regions that it knows", async () => {
      const [first, second] = await Promise.all([startedQueue(), startedQueue()]);
      const hinted: ReadyQueue[] = [];
      second.onReady((each) => void hinted.push(each));
      const fresh: ReadyQueue = { region: "sa-east-1", priority: "high" };
      await second.addRegion(fresh.region);
      await first.offer(fresh, message("job-1"));
      first.publishEvent({
        job_id: "job-1",
        tenant: "acme",
        attempt: 1,
        seq: 1,
        state: "QUEUED",
        at: new Date().toISOString(),
        worker_region: "sa-east-1",
        priority: "high",
      });
      await waitFor(
        () => hinted.some(({ region, priority }) => region === "sa-east-1" && priority === "high"),
        {
          timeoutMs: TIMEOUT_MS,
          what: "the hint",
        },
      );
      expect(second.regions()).toEqual(["sa-east-1"]);
      expect((await takeOne(second, fresh)).envelope.jobId).toBe("job-1");
    });

    test("both learn every region when they start at the same time", async () => {
      const regions = Array.from({ length: 12 }, (_, index) => `region-${index + 10}`);
      const before = await startedQueue();
      await Promise.all(regions.map((region) => before.offer({ region, priority: "low" }, message(region))));
      await before.close();
      const both = await Promise.all([startedQueue(), startedQueue()]);
      for (const queue of both) {
        await waitFor(() => queue.regions().length === regions.length, {
          timeoutMs: TIMEOUT_MS,
          what: "every region",
        });
        expect(queue.regions().toSorted()).toEqual(regions);
      }
    });

    test("parked jobs keep their order when both check them at the same time", async () => {
      const both = await Promise.all([startedQueue(), startedQueue()]);
      const jobIds = Array.from({ length: 30 }, (_, index) => `job-${index}`);
      const region = readyQueue.region;
      for (const jobId of jobIds) {
        await both[0].park(readyQueue, message(jobId));
        await both[0].park({ ...readyQueue, region: "unknown-1" }, message(`other-${jobId}`));
      }
      await Promise.all(both.map((queue) => queue.unpark((each) => each === region)));
      const taken: string[] = [];
      while (taken.length < jobIds.length) taken.push((await takeOne(both[0])).envelope.jobId);
      expect(taken).toEqual(jobIds);
      expect(await both[0].take(readyQueue)).toBeUndefined();
    });

    test("an invalid event is ignored", async () => {
      const queue = await startedQueue();
      await broker.withChannel(async (channel) => {
        for (const body of [
          "{",
          "null",
          "[]",
          `{"worker_region":7,"priority":"low"}`,
          `{"worker_region":"x","priority":"?"}`,
          `{"worker_region":"made-up-1","priority":"low"}`,
        ]) {
          channel.publish(broker.eventExchange, "job.queued", Buffer.from(body));
        }
      });
      await queue.offer(readyQueue, message("job-1"));
      expect((await takeOne(queue)).envelope.jobId).toBe("job-1");
      expect(queue.regions()).toEqual(["eu-central-1"]);
      expect((await listQueues()).filter((line) => line.includes("made-up-1"))).toEqual([]);
    });
  });

  test("parked jobs of any number of regions create no queue", async () => {
    const queue = await startedQueue();
    const before = await ownQueues();
    for (let index = 0; index < 60; index++)
      await queue.park({ region: `made-up-${index}`, priority: "normal" }, message(`job-${index}`));
    await queue.unpark(() => false);
    expect(await ownQueues()).toEqual(before);
    expect(before).toContain(`${broker.readyPrefix}.unknown-region`);
  });

  test("a message in the queue of parked jobs that did not pass through intake is sent to intake", async () => {
    const queue = await startedQueue();
    const submitted: string[] = [];
    queue.onSubmitted(async (delivery) => {
      submitted.push(delivery.body.toString());
      delivery.ack();
    });
    await queue.park(readyQueue, message("job-1"));
    await broker.withChannel(async (channel) => {
      channel.sendToQueue(`${broker.readyPrefix}.unknown-region`, Buffer.from("stray"));
    });
    await waitFor(
      async () => {
        await queue.unpark(() => false);
        return submitted.length === 1;
      },
      { timeoutMs: TIMEOUT_MS, what: "the stray message" },
    );
    expect(submitted).toEqual(["stray"]);
    await queue.unpark(() => true);
    expect((await takeOne(queue)).envelope.jobId).toBe("job-1");
  });

  test("a message in a ready queue that did not pass through intake is sent to intake", async () => {
    const queue = await startedQueue();
    const submitted: string[] = [];
    queue.onSubmitted(async (delivery) => {
      submitted.push(delivery.body.toString());
      delivery.ack();
    });
    await queue.offer(readyQueue, message("job-1"));
    (await takeOne(queue)).ack();
    await broker.withChannel(async (channel) => {
      channel.sendToQueue(`${broker.readyPrefix}.eu-central-1.normal`, Buffer.from("stray"));
    });
    await waitFor(
      async () => {
        expect(await queue.take(readyQueue)).toBeUndefined();
        return submitted.length === 1;
      },
      { timeoutMs: TIMEOUT_MS, what: "the stray message" },
    );
    expect(submitted).toEqual(["stray"]);
  });

  test("a delivery limit drops neither submissions nor waiting jobs", async () => {
    const limited = { durable: true, arguments: { "x-queue-type": "quorum", "x-delivery-limit": 10 } };
    await broker.withChannel(async (channel) => {
      await channel.assertQueue(broker.jobQueue, limited);
      await channel.assertQueue(`${broker.readyPrefix}.eu-central-1.normal`, limited);
    });
    const queue = await startedQueue();
    let deliveries = 0;
    queue.onSubmitted(async (delivery) => {
      if (++deliveries < 30) delivery.requeue();
      else delivery.ack();
    });
    await queue.submit(Buffer.from("stubborn"), {});
    await waitFor(() => deliveries === 30, { timeoutMs: TIMEOUT_MS, what: "the thirtieth delivery" });
    await queue.offer(readyQueue, message("job-1"));
    for (let index = 0; index < 30; index++) await (await takeOne(queue)).requeue();
    const last = await takeOne(queue);
    expect(last.envelope.jobId).toBe("job-1");
    last.ack();
  });
});
