/** Messages that amqplib or the broker does not accept: they go on in another form, or wait, and delay no other one. */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import type { GetMessage } from "amqplib";
import pino from "pino";
import {
  RETRY_DELAYS_MS,
  type ReadyDelivery,
  type ReadyQueue,
} from "../../../../../src/orchestrator/queue/queue.ts";
import type { RabbitMqQueue } from "../../../../../src/orchestrator/queue/rabbitmq/queue.ts";
import type { JobResult } from "../../../../../src/shared/job.ts";
import { waitFor } from "../../../../support/machine/wait-for.ts";
import { type RabbitMq, startRabbitMq } from "../../../../support/servers/rabbitmq.ts";
import {
  headerEntry,
  longString,
  publishRaw,
  type RawProperties,
} from "../../../../support/servers/raw-amqp.ts";
import { sampleResult } from "../../sample-result.ts";
import { letterOf } from "../letter-of.ts";
import { type RabbitMqBroker, rabbitMqBroker } from "./broker.ts";

const TIMEOUT_MS = 120_000;
const FRAME_MAX_BYTES = 16 * 1024;
const MAX_MESSAGE_BYTES = 64 * 1024;
const CHANNEL_MAX = 64;
/** After a refusal, for this time no event is published. */
const EVENTS_PAUSE_MS = 10_000;
const [RETRY_DELAY_MS] = RETRY_DELAYS_MS;
const readyQueue: ReadyQueue = { region: "eu-central-1", priority: "normal" };
const RESTRICTED_USER = "restricted";
let server: RabbitMq;

beforeAll(async () => {
  server = await startRabbitMq({
    config: [
      `frame_max = ${FRAME_MAX_BYTES}`,
      `max_message_size = ${MAX_MESSAGE_BYTES}`,
      `channel_max = ${CHANNEL_MAX}`,
    ],
  });
  await server.addUser(server.vhost, RESTRICTED_USER, "");
});

afterAll(() => server.stop());

let broker: RabbitMqBroker;
let queue: RabbitMqQueue;
const logLines: string[] = [];
const logger = pino({ level: "info" }, { write: (line: string) => void logLines.push(line) });

const logged = (text: string) => logLines.filter((line) => line.includes(text)).length;

async function start(url = server.url): Promise<void> {
  broker = rabbitMqBroker(url, { logger });
  queue = broker.open();
  queue.start();
  await waitFor(() => queue.isReady, { timeoutMs: TIMEOUT_MS, what: "the queue to be ready" });
}

beforeEach(() => {
  logLines.length = 0;
});

afterEach(async () => {
  await queue.close();
  await broker.remove();
});

function until(condition: () => boolean | Promise<boolean>, what: string): Promise<unknown> {
  return waitFor(condition, { timeoutMs: TIMEOUT_MS, what });
}

describe("a message that amqplib cannot send again", () => {
  const text = (content: string) => longString(Buffer.from(content));
  const poison: Readonly<Record<string, RawProperties>> = {
    "the largest timestamp": { timestamp: 2n ** 64n - 1n },
    "a content type that is not UTF-8": { contentType: Buffer.alloc(255, 0xff) },
    "a correlation id that is not UTF-8": { correlationId: Buffer.alloc(200, 0xfe) },
    "the name of a header that is not UTF-8": {
      headers: headerEntry(Buffer.alloc(200, 0xff), "S", text("value")),
    },
    "a table with the key !": {
      headers: headerEntry("table", "F", longString(headerEntry("!", "S", text("unknown")))),
    },
    "a timestamp in a header": {
      headers: headerEntry("at", "T", Buffer.alloc(8, 0xff)),
    },
    "headers that fill a frame": {
      headers: headerEntry("big", "S", text("x".repeat(FRAME_MAX_BYTES - 200))),
    },
    "very many headers": {
      headers: Buffer.concat(
        Array.from({ length: 1000 }, (_, index) => headerEntry(`header-${index}`, "t", Buffer.from([1]))),
      ),
    },
  };

  for (const [what, properties] of Object.entries(poison)) {
    test(`becomes one dead letter, with the rest as text: ${what}`, async () => {
      await start();
      let deliveries = 0;
      queue.onSubmitted(async (delivery) => {
        deliveries += 1;
        if (delivery.body.toString() === "poison")
          await queue.deadLetter(delivery, letterOf(delivery, "wrong"));
        delivery.ack();
      });
      await broker.withChannel(async (channel) => {
        publishRaw(channel, broker.jobQueue, properties, Buffer.from("poison"));
        channel.sendToQueue(broker.jobQueue, Buffer.from("next"));
        await until(() => deliveries === 2, "both messages");
      });
      const [letter] = (await broker.drain(`${broker.jobQueue}.dead`, 1)) as [GetMessage];
      expect(letter.content.toString()).toBe("poison");
      expect(letter.properties.headers?.["x-blacktree-reason"]).toBe("wrong");
      expect(letter.properties.headers?.["x-blacktree-unsent"]).toBeString();
      expect(deliveries).toBe(2);
      expect(logged("connected to RabbitMQ")).toBe(1);
    });
  }

  test("keeps the properties and headers that can be sent", async () => {
    await start();
    queue.onSubmitted(async (delivery) => {
      await queue.deadLetter(delivery, letterOf(delivery, "wrong"));
      delivery.ack();
    });
    const headers = Buffer.concat([
      headerEntry("small", "S", text("kept")),
      headerEntry("big", "S", text("x".repeat(FRAME_MAX_BYTES - 1000))),
      headerEntry("at", "T", Buffer.from([0, 0, 0, 0, 0, 0, 0, 5])),
    ]);
    const properties = { contentType: Buffer.from("text/plain"), timestamp: 2n ** 64n - 1n, headers };
    await broker.withChannel(async (channel) => {
      publishRaw(channel, broker.jobQueue, properties, Buffer.from("poison"));
      const [letter] = (await broker.drain(`${broker.jobQueue}.dead`, 1)) as [GetMessage];
      expect(letter.properties).toMatchObject({
        contentType: "text/plain",
        headers: { small: "kept", at: { "!": "timestamp", value: 5 } },
      });
      const unsent = String(letter.properties.headers?.["x-blacktree-unsent"]);
      expect(unsent).toStartWith('{"timestamp":18446744073709552000,"headers":{"big":"xxx');
    });
  });
});

describe("a result that is larger than max_message_size", () => {
  const logs = Array.from({ length: 2000 }, (_, index) => `${index} ${"x".repeat(100)}`);
  const tooLarge = { ...sampleResult("large"), logs };

  test("is published with the last lines of its log, also to reply_to", async () => {
    await start();
    const answers = `${broker.jobQueue}.answers`;
    await broker.withChannel((channel) => channel.assertQueue(answers, { durable: true }));
    const small = queue.publishResult(sampleResult("small"), undefined, []);
    await Promise.all([queue.publishResult(tooLarge, undefined, [answers]), small]);
    const published = await broker.results();
    // The small one may have been in flight on the channel that the broker closed, and is published again then.
    expect([...new Set(published.map(({ jobId }) => jobId))].toSorted()).toEqual(["large", "small"]);
    const [reply] = (await broker.drain(answers, 1)) as [GetMessage];
    const shortened = [
      published.find(({ jobId }) => jobId === "large")?.body as JobResult,
      JSON.parse(reply.content.toString()) as JobResult,
    ];
    for (const result of shortened) {
      const { logs: shown, ...rest } = result;
      expect({ ...rest, logs }).toEqual(tooLarge);
      expect(shown.at(-1)).toBe(logs.at(-1));
      expect(shown[0]).toMatch(/^\[\d+ lines left out/);
      expect(shown.length).toBeGreaterThan(100);
    }
  });
});

describe("a message that the broker refuses", () => {
  async function permit(writable: string): Promise<void> {
    await server.permit(server.vhost, RESTRICTED_USER, [".*", writable, ".*"]);
  }

  async function startRestricted(): Promise<void> {
    await permit(".*");
    const url = new URL(server.url);
    url.username = RESTRICTED_USER;
    url.password = "pw";
    await start(url.href);
  }

  async function taken(jobId: string): Promise<ReadyDelivery> {
    const envelope = { jobId, acceptedAt: new Date(), defaultRegion: "us-east-1" };
    await queue.offer(readyQueue, { body: Buffer.from(jobId), properties: {}, envelope });
    return await waitFor(() => queue.take(readyQueue), { timeoutMs: TIMEOUT_MS, what: jobId });
  }

  const retry = { attempts: 1, lastWorkerId: "worker-1" };

  test("waits, is named, and delays no other one, until the broker accepts it", async () => {
    await startRestricted();
    const deliveries = [await taken("job-1"), await taken("job-2")];
    // Everything but the exchanges for retries.
    await permit("^(?!.*later).*$");
    const refusedAtMs = performance.now();
    let offered = 0;
    const offers = deliveries.map((delivery) =>
      queue.offerLater(delivery, retry, RETRY_DELAY_MS).then(() => {
        offered += 1;
      }),
    );
    await until(() => queue.problems.length > 0, "the refusal");
    expect(queue.problems[0]).toMatch(/later\.2000ms does not accept messages: .*ACCESS_REFUSED/);
    for (let index = 0; index < 100; index += 1) (await taken(`other-${index}`)).ack();
    expect(offered).toBe(0);
    // One shared channel for both, and a dedicated one for each try since, of which there is one in a second at most.
    const refusedForSeconds = (performance.now() - refusedAtMs) / 1000;
    expect(logged("RabbitMQ closed a channel")).toBeLessThan(10 + 2 * refusedForSeconds);
    await permit(".*");
    await Promise.all(offers);
    expect(queue.problems).toEqual([]);
  });

  test("and is an event closes one channel, and the next events wait", async () => {
    await startRestricted();
    await permit(`^(?!.*events).*$`);
    const event = { job_id: "job-1", tenant: "t", attempt: 1, at: new Date().toISOString() } as const;
    const publish = (seq: number) => queue.publishEvent({ ...event, seq, state: "BUILDING" });
    const refusedAtMs = performance.now();
    publish(1);
    await until(() => logged("RabbitMQ refused an event") === 1, "the refusal");
    for (let seq = 2; seq <= 50; seq += 1) {
      publish(seq);
      (await taken(`other-${seq}`)).ack();
    }
    const pauses = Math.floor((performance.now() - refusedAtMs) / EVENTS_PAUSE_MS);
    expect(logged("RabbitMQ closed a channel")).toBeWithin(1, 2 + pauses);
    await permit(".*");
    const received: unknown[] = [];
    await broker.withChannel(async (channel) => {
      const { queue: copies } = await channel.assertQueue("", { exclusive: true });
      await channel.bindQueue(copies, broker.eventExchange, "job.building");
      await channel.consume(copies, (message) => void received.push(message), { noAck: true });
      await until(() => {
        publish(51);
        return received.length > 0;
      }, "an event");
    });
  });

  test("because its exchange was deleted is accepted once the exchange is declared again", async () => {
    await start();
    const delivery = await taken("job-1");
    await broker.withChannel((channel) =>
      channel.deleteExchange(`${broker.readyPrefix}.later.${RETRY_DELAY_MS}ms`),
    );
    await queue.offerLater(delivery, retry, RETRY_DELAY_MS);
    delivery.ack();
    const again = await waitFor(() => queue.take(readyQueue), { timeoutMs: TIMEOUT_MS, what: "the retry" });
    expect(again.envelope).toMatchObject({ jobId: "job-1", retry });
  });
});

test("no more jobs are taken than the connection has channels, and the next one when a channel is free", async () => {
  await start();
  const envelopeOf = (jobId: string) => ({ jobId, acceptedAt: new Date(), defaultRegion: "us-east-1" });
  for (let index = 0; index < CHANNEL_MAX; index += 1) {
    const envelope = envelopeOf(`job-${index}`);
    await queue.offer(readyQueue, { body: Buffer.from("{}"), properties: {}, envelope });
  }
  const taken: ReadyDelivery[] = [];
  for (let next = await queue.take(readyQueue); next; next = await queue.take(readyQueue)) taken.push(next);
  expect(taken.length).toBeWithin(CHANNEL_MAX / 2, CHANNEL_MAX);
  expect(await queue.take(readyQueue)).toBeUndefined();
  expect(logged("as many jobs as its connection to RabbitMQ has channels")).toBe(1);
  expect(logged("failed to take a waiting job")).toBe(0);
  const free = Promise.withResolvers<ReadyQueue>();
  queue.onReady((each) => free.resolve(each));
  taken[0]?.ack();
  expect(await free.promise).toEqual(readyQueue);
  expect((await queue.take(readyQueue))?.envelope.jobId).toBe(`job-${taken.length}`);
  await queue.publishResult(sampleResult("while-full"), undefined, []);
});
