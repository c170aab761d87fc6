/** Queues and policies that make RabbitMQ lose messages. */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import type { Options } from "amqplib";
import pino from "pino";
import { RETRY_DELAYS_MS, type ReadyMessage } from "../../../../../src/orchestrator/queue/queue.ts";
import type { RabbitMqQueue } from "../../../../../src/orchestrator/queue/rabbitmq/queue.ts";
import { freePort } from "../../../../support/machine/free-port.ts";
import { inFullCheck } from "../../../../support/machine/full-check.ts";
import { waitFor } from "../../../../support/machine/wait-for.ts";
import { borrowRabbitMq } from "../../../../support/servers/pool.ts";
import type { RabbitMqServer } from "../../../../support/servers/rabbitmq.ts";
import { type BrokerOptions, type RabbitMqBroker, rabbitMqBroker } from "./broker.ts";

const region = "eu-central-1";
let server: RabbitMqServer;
let broker: RabbitMqBroker;
let queue: RabbitMqQueue;
const lines: { readonly level: string; readonly msg: string; readonly err?: { readonly message: string } }[] =
  [];
const logger = pino(
  { level: "info", formatters: { level: (level) => ({ level }) } },
  { write: (line: string) => void lines.push(JSON.parse(line)) },
);

beforeAll(async () => {
  server = await borrowRabbitMq();
});

afterAll(() => server.stop());

beforeEach(() => {
  lines.length = 0;
  use({});
});

afterEach(async () => {
  await queue.close();
  await broker.remove();
});

function use(options: BrokerOptions): void {
  broker = rabbitMqBroker(server.url, { logger, checkIntervalMs: 100, ...options });
  queue = broker.open();
}

async function start(): Promise<void> {
  queue.start();
  await until(() => queue.isReady, "the queue to be ready");
}

function until(condition: () => boolean | Promise<boolean>, what: string): Promise<unknown> {
  return waitFor(condition, { timeoutMs: 60_000, what });
}

function declare(name: string, options: Options.AssertQueue): Promise<unknown> {
  return broker.withChannel((channel) => channel.assertQueue(name, { durable: true, ...options }));
}

/** Messages of this level, without those about connections. */
const logged = (level: string) =>
  lines.filter((line) => line.level === level && !line.msg.includes("onnect")).map(({ msg }) => msg);

/** More than one check has been made since the call: each problem that is added is found by another one. */
async function untilCheckedAgain(): Promise<void> {
  for (const added of ["added-1", "added-2"]) {
    await declare(`${broker.readyPrefix}.${added}.high`, { arguments: { "x-expires": 600_000 } });
    await queue.addRegion(added);
    await until(() => queue.problems.some((problem) => problem.includes(added)), "a problem that was added");
  }
}

function readyMessage(): ReadyMessage {
  const envelope = { jobId: "job-1", acceptedAt: new Date(), defaultRegion: "us-east-1" };
  return { body: Buffer.from("{}"), properties: {}, envelope };
}

test("a stream as job queue is named and not consumed; once it is deleted, the queue is declared and consumed", async () => {
  const stream = { arguments: { "x-queue-type": "stream" } };
  await declare(broker.jobQueue, stream);
  const bodies: string[] = [];
  queue.onSubmitted(async (delivery) => {
    bodies.push(delivery.body.toString());
    delivery.ack();
  });
  await start();
  expect(queue.problems).toEqual([
    `queue ${broker.jobQueue}: declared as a stream: nothing is consumed from it, since a stream does not deliver what arrived before its consumer; delete the queue, and Blacktree declares a durable quorum queue`,
  ]);
  const submitted = queue.submit(Buffer.from("later"), {});
  await broker.withChannel(async (channel) => {
    channel.sendToQueue(broker.jobQueue, Buffer.from("to the stream"));
    await channel.checkQueue(broker.jobQueue);
  });
  await queue.addRegion(region);
  await untilCheckedAgain();
  expect(bodies).toEqual([]);
  expect(logged("error").filter((message) => message.includes("stream"))).toHaveLength(1);
  await broker.withChannel((channel) => channel.deleteQueue(broker.jobQueue));
  await submitted;
  await until(() => bodies.length > 0, "the job that was submitted meanwhile");
  expect(bodies).toEqual(["later"]);
  await until(() => !queue.problems.join().includes("stream"), "the end of the problem");
  expect(logged("info").join()).toContain(`no longer found: queue ${broker.jobQueue}: declared as a stream`);
});

test("an internal queue that is a stream is named, and used once it is deleted", async () => {
  await declare(`${broker.readyPrefix}.regions`, { arguments: { "x-queue-type": "stream" } });
  const bodies: string[] = [];
  queue.onSubmitted(async (delivery) => {
    bodies.push(delivery.body.toString());
    delivery.ack();
  });
  queue.start();
  const message = `(the internal queue ${broker.readyPrefix}.regions is a stream: delete it)`;
  await until(() => lines.some(({ msg }) => msg.includes(message)), "the name of the stream");
  expect(queue.isReady).toBe(false);
  await broker.withChannel((channel) => channel.deleteQueue(`${broker.readyPrefix}.regions`));
  await until(() => queue.isReady, "the queue to be ready");
  await queue.submit(Buffer.from("submitted"), {});
  await until(() => bodies.length > 0, "the submission");

  // A message taken from it would cost the connection.
  const readyQueue = `${broker.readyPrefix}.${region}.high`;
  await declare(readyQueue, { arguments: { "x-queue-type": "stream" } });
  await queue.addRegion(region);
  expect(
    lines.some(({ err }) =>
      err?.message.startsWith(`the internal queue ${readyQueue} is a stream: delete it`),
    ),
  ).toBe(true);
  await broker.withChannel((channel) => channel.deleteQueue(readyQueue));
  await queue.addRegion(region);
  expect(queue.regions()).toEqual([region]);
});

test("arguments with which RabbitMQ drops messages are named, and others are not", async () => {
  await declare(broker.jobQueue, { deadLetterExchange: "", messageTtl: 60_000, expires: 600_000 });
  await declare(broker.resultQueue, { durable: false });
  await declare(`${broker.readyPrefix}.${region}.high`, { maxLength: 5, overflow: "reject-publish" });
  await declare(`${broker.readyPrefix}.${region}.normal`, { maxLength: 5, maxPriority: 3 });
  const limits = { "x-queue-type": "quorum", "x-delivery-limit": 3 };
  await declare(`${broker.readyPrefix}.${region}.low`, { arguments: limits });
  await declare(`${broker.jobQueue}.dead`, { messageTtl: 1000 });
  await start();
  await queue.addRegion(region);
  await until(() => queue.problems.length >= 4, "the problems");
  const remedy = "delete the queue, and Blacktree declares a durable quorum queue";
  const ready = `${broker.readyPrefix}.${region}`;
  expect(queue.problems.toSorted()).toEqual(
    [
      `queue ${broker.jobQueue}: declared with x-message-ttl 60000: RabbitMQ drops messages that wait for 60000 ms; ${remedy}`,
      `queue ${broker.jobQueue}: declared with x-expires 600000: RabbitMQ deletes it with its messages after 600000 ms without use; ${remedy}`,
      `queue ${ready}.normal: declared with x-max-length 5: RabbitMQ drops the oldest messages above the limit; ${remedy}`,
      `queue ${ready}.low: declared with x-delivery-limit 3: RabbitMQ may drop messages after 3 deliveries; ${remedy}`,
    ].toSorted(),
  );
  expect(logged("error").toSorted()).toEqual(queue.problems.toSorted());
  expect(logged("warn").toSorted()).toEqual(
    [
      `queue ${broker.resultQueue}: declared as not durable: RabbitMQ deletes it with its messages when it restarts; ${remedy}`,
      `queue ${ready}.high: declared with x-max-length 5: RabbitMQ refuses messages above the limit; ${remedy}`,
    ].toSorted(),
  );
});

test("a classic job queue without limits is used as it is, and a queue that is missing is not declared by a check", async () => {
  await declare(broker.jobQueue, { maxPriority: 5, deadLetterExchange: "elsewhere" });
  await start();
  await queue.offer({ region, priority: "low" }, readyMessage());
  await broker.withChannel((channel) => channel.deleteQueue(`${broker.readyPrefix}.${region}.high`));
  await untilCheckedAgain();
  const checked = broker.withChannel((channel) => channel.checkQueue(`${broker.readyPrefix}.${region}.high`));
  await expect(checked).rejects.toThrow("NOT_FOUND");
  expect(queue.problems.filter((problem) => !problem.includes("added-"))).toEqual([]);
  expect(logged("warn")).toEqual([]);
});

test("a policy that drops messages is named once with its queues, until it is removed", async () => {
  const watcher = `watcher-${broker.jobQueue}`;
  await server.addUser(server.vhost, watcher, "management");
  use({ managementUrl: server.managementUrl.replace(/\/\/.*@/, `//${watcher}:pw@`) });
  const [name, ready] = [`drops-${broker.jobQueue}`, broker.readyPrefix];
  await start();
  await queue.addRegion(region);
  const definition = { "message-ttl": 60_000, "dead-letter-routing-key": "trap" };
  await server.setPolicy(server.vhost, name, `^${ready}[.]`, definition);
  await until(() => queue.problems.length >= 2, "the problems");
  const retries = RETRY_DELAYS_MS.map((delayMs) => `${ready}.later.${delayMs}ms`).join(", ");
  const remedy = "exclude Blacktree's queues from the policy";
  const problems = [
    `queues ${ready}.regions, ${ready}.unknown-region, ${ready}.unknown-region.checked and 3 more: policy "${name}" sets message-ttl to 60000: RabbitMQ drops messages that wait for 60000 ms; ${remedy}`,
    `queues ${retries}: policy "${name}" sets dead-letter-routing-key to trap: jobs that wait for another attempt go to the queue trap instead of theirs; ${remedy}`,
  ];
  expect(queue.problems).toEqual(problems);
  await untilCheckedAgain();
  // The other one is logged again, as it concerns more queues.
  expect(logged("error").filter((message) => message === problems[1])).toHaveLength(1);
  await server.clearPolicy(server.vhost, name);
  await until(() => !queue.problems.join().includes(name), "the end of the problems");
  expect(logged("info").filter((message) => message.includes("no longer found"))).toHaveLength(2);
});

describe("a management API that cannot be used", () => {
  const withLogin = (url: string) => url.replace("//", "//watcher:hush@");

  function serving(answer: () => Response) {
    const other = Bun.serve({ port: 0, hostname: "127.0.0.1", fetch: answer });
    return { url: withLogin(`http://127.0.0.1:${other.port}`), stop: () => other.stop(true) };
  }

  const cases: Readonly<Record<string, { why: string; answer: () => Response }>> = {
    "answers with a page": { why: "not a list of policies", answer: () => new Response("<html></html>") },
    "is another server": {
      why: "it answered 404: expected the URL",
      answer: () => new Response("", { status: 404 }),
    },
    "redirects elsewhere": {
      why: "it answered 302",
      answer: () => Response.redirect("http://127.0.0.1:1/", 302),
    },
    "answers with other JSON": { why: "not a list of policies", answer: () => Response.json([{ name: 1 }]) },
    "answers without an end": { why: "has more than", answer: () => new Response(endless()) },
  };

  function endless(): ReadableStream<Uint8Array> {
    return new ReadableStream({ pull: (controller) => controller.enqueue(new Uint8Array(65_536)) });
  }

  async function expectOneWarning(why: string): Promise<void> {
    await start();
    await untilCheckedAgain();
    expect(logged("warn")).toHaveLength(1);
    expect(logged("warn")[0]).toInclude("policies are not checked");
    expect(logged("warn")[0]).toInclude(why);
    expect(lines.map(({ msg }) => msg).join()).not.toContain("hush");
    expect(queue.problems.filter((problem) => !problem.includes("added-"))).toEqual([]);
  }

  for (const [index, [what, { why, answer }]] of Object.entries(cases).entries()) {
    inFullCheck(index > 0).test(`since it ${what}, is named once, and has no effect otherwise`, async () => {
      const other = serving(answer);
      use({ managementUrl: other.url });
      await expectOneWarning(why).finally(other.stop);
    });
  }

  test("since it refuses the user, is named once, and has no effect otherwise", async () => {
    use({ managementUrl: withLogin(server.managementUrl.replace(/\/\/.*@/, "//")) });
    await expectOneWarning("it answered 401: the user needs the tag management");
  });

  test("is named, and used once it answers", async () => {
    const port = await freePort();
    use({ managementUrl: withLogin(`http://127.0.0.1:${port}`) });
    await start();
    await until(() => lines.some(({ msg }) => msg.includes("policies are not checked")), "the failure");
    const definition = { "max-length": 5 };
    const policy = { name: "own", pattern: ".*", "apply-to": "all", priority: 0, definition };
    const other = Bun.serve({
      port,
      hostname: "127.0.0.1",
      fetch: ({ url }) => Response.json(url.includes("/api/policies/") ? [policy] : []),
    });
    await until(() => queue.problems.length > 0, "the policy");
    other.stop(true);
    expect(lines.map(({ msg }) => msg).join()).toContain("can be used again");
    expect(queue.problems[0]).toContain(
      'policy "own" sets max-length to 5: RabbitMQ drops the oldest messages',
    );
  });
});
