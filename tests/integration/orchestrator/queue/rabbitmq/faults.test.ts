import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import { type ChannelModel, connect } from "amqplib";
import pino from "pino";
import type {
  Delivery,
  JobQueue,
  ReadyDelivery,
  ReadyMessage,
  ReadyQueue,
} from "../../../../../src/orchestrator/queue/queue.ts";
import {
  onDedicatedChannel,
  ReopeningChannel,
  type Session,
} from "../../../../../src/orchestrator/queue/rabbitmq/channel.ts";
import { ExclusiveQueueLock } from "../../../../../src/orchestrator/queue/rabbitmq/declaration-lock.ts";
import { freePort } from "../../../../support/machine/free-port.ts";
import { waitFor } from "../../../../support/machine/wait-for.ts";
import { type RabbitMq, startRabbitMq } from "../../../../support/servers/rabbitmq.ts";
import { startTcpProxy, type TcpProxy } from "../../../../support/servers/tcp-proxy.ts";
import { sampleResult } from "../../sample-result.ts";
import { settlesBefore } from "../../settles-before.ts";
import { type RabbitMqBroker, rabbitMqBroker } from "./broker.ts";

const TIMEOUT_MS = 120_000;
/** More than closing waits for a broker, less than connecting does. */
const CLOSE_LIMIT_MS = 8_000;
/** AMQP's class and method of the request to close a channel. */
const CHANNEL_CLOSE = Buffer.from([0, 20, 0, 40]);
/** Of the confirmation of a publish. */
const CONFIRMATION = Buffer.from([0, 60, 0, 80]);
const readyQueue: ReadyQueue = { region: "eu-central-1", priority: "normal" };
let server: RabbitMq;

beforeAll(async () => {
  server = await startRabbitMq();
});

afterAll(() => server.stop());

describe("RabbitMQ under faults", () => {
  let broker: RabbitMqBroker;
  const opened: JobQueue[] = [];
  const logLines: string[] = [];
  const logger = pino({ level: "debug" }, { write: (line: string) => void logLines.push(line) });

  beforeEach(() => {
    logLines.length = 0;
    broker = rabbitMqBroker(server.url, { logger });
  });

  afterEach(async () => {
    await Promise.all(opened.splice(0).map((queue) => queue.close()));
    await broker.remove();
  });

  function newQueue(of: RabbitMqBroker = broker): JobQueue {
    const queue = of.open();
    opened.push(queue);
    queue.start();
    return queue;
  }

  async function startedQueue(of: RabbitMqBroker = broker): Promise<JobQueue> {
    const queue = newQueue(of);
    await readiness(queue, true);
    return queue;
  }

  function readiness(queue: JobQueue, expected: boolean): Promise<unknown> {
    return waitFor(() => queue.isReady === expected, {
      timeoutMs: TIMEOUT_MS,
      what: expected ? "the queue to be ready" : "the loss to be detected",
    });
  }

  function aborted(delivery: Delivery | undefined): Promise<unknown> {
    return waitFor(() => delivery?.revoked.aborted, {
      timeoutMs: TIMEOUT_MS,
      what: "the delivery to be revoked",
    });
  }

  function urlThrough(proxy: TcpProxy): string {
    const url = new URL(server.url);
    url.port = String(proxy.port);
    return url.href;
  }

  function takeOne(queue: JobQueue): Promise<ReadyDelivery> {
    return waitFor(() => queue.take(readyQueue), { timeoutMs: TIMEOUT_MS, what: "a waiting job" });
  }

  function message(jobId: string): ReadyMessage {
    return {
      body: Buffer.from(jobId),
      properties: {},
      envelope: { jobId, acceptedAt: new Date(), defaultRegion: "us-east-1" },
    };
  }

  test("after a restart of the broker unacked messages are redelivered, and publishing waits until it is confirmed", async () => {
    const queue = await startedQueue();
    const deliveries: Delivery[] = [];
    const hinted: ReadyQueue[] = [];
    queue.onSubmitted(async (delivery) => void deliveries.push(delivery));
    await queue.submit(Buffer.from("submitted"), {});
    await queue.offer(readyQueue, message("taken"));
    await queue.offer(readyQueue, message("waiting"));
    const taken = await takeOne(queue);
    await waitFor(() => deliveries.length === 1, { timeoutMs: TIMEOUT_MS, what: "the submission" });
    queue.onReady((each) => void hinted.push(each));

    const restart = server.restart();
    await readiness(queue, false);
    expect(taken.revoked.aborted).toBe(true);
    expect(deliveries[0]?.revoked.aborted).toBe(true);
    expect(await queue.take(readyQueue)).toBeUndefined();
    taken.ack();
    deliveries[0]?.requeue();
    queue.publishEvent({
      job_id: "lost",
      tenant: "acme",
      attempt: 1,
      seq: 1,
      state: "BUILDING",
      at: new Date().toISOString(),
    });
    const publishing = Promise.all([
      queue.submit(Buffer.from("meanwhile"), {}),
      queue.offer(readyQueue, message("meanwhile")),
      queue.offer({ region: "new-1", priority: "low" }, message("new")),
      queue.publishResult(sampleResult("meanwhile"), undefined, []),
    ]);
    await restart;
    await publishing;
    await readiness(queue, true);

    const bodies = () => new Set(deliveries.slice(1).map(({ body }) => body.toString()));
    await waitFor(() => bodies().size === 2, { timeoutMs: TIMEOUT_MS, what: "both submissions" });
    expect([...bodies()].toSorted()).toEqual(["meanwhile", "submitted"]);
    expect(deliveries.slice(1).find(({ body }) => body.toString() === "submitted")?.redelivered).toBe(true);
    const jobIds: string[] = [];
    for (let index = 0; index < 3; index++) jobIds.push((await takeOne(queue)).envelope.jobId);
    expect(jobIds.toSorted()).toEqual(["meanwhile", "taken", "waiting"]);
    expect(await broker.results()).toHaveLength(1);
    await waitFor(
      () => hinted.some(({ region, priority }) => region === readyQueue.region && priority === "low"),
      { timeoutMs: TIMEOUT_MS, what: "the hint" },
    );
  });

  test("a broker that is killed without warning loses nothing confirmed", async () => {
    const queue = await startedQueue();
    await queue.offer(readyQueue, message("job-0"));
    await server.writeQueueList();
    const jobIds = Array.from({ length: 300 }, (_, index) => `job-${index}`);
    const offers = jobIds.slice(1).map((jobId) => queue.offer(readyQueue, message(jobId)));
    await offers[20];
    await server.kill();
    await server.start();
    await Promise.all(offers);
    const seen = new Set<string>();
    await waitFor(
      async () => {
        const delivery = await queue.take(readyQueue);
        if (delivery) seen.add(delivery.envelope.jobId);
        delivery?.ack();
        return seen.size === jobIds.length;
      },
      { timeoutMs: TIMEOUT_MS, intervalMs: 0, what: "every job" },
    );
  });

  test("a frozen broker is detected by its missed heartbeats, and used again later", async () => {
    const queue = await startedQueue(rabbitMqBroker(server.url, { heartbeatSeconds: 1, logger }));
    await queue.offer(readyQueue, message("job-1"));
    const held = await takeOne(queue);
    server.pause();
    try {
      const offering = queue.offer(readyQueue, message("job-2"));
      await aborted(held);
      await readiness(queue, false);
      server.resume();
      await offering;
    } finally {
      server.resume();
    }
    await readiness(queue, true);
    // A busy machine may miss a heartbeat as well, and then a job is delivered twice.
    const again = new Set<string>();
    while (again.size < 2) again.add((await takeOne(queue)).envelope.jobId);
    expect([...again].toSorted()).toEqual(["job-1", "job-2"]);
  });

  test("a frozen broker does not keep the queue from closing", async () => {
    // The heartbeat is so rare that a missed one does not end the connection meanwhile.
    const queue = await startedQueue(rabbitMqBroker(server.url, { heartbeatSeconds: 60, logger }));
    server.pause();
    try {
      const unconnected = newQueue();
      const closing = Promise.all([queue.close(), unconnected.close()]);
      expect(await settlesBefore(CLOSE_LIMIT_MS, closing)).toBeTrue();
    } finally {
      server.resume();
    }
  });

  test("a request for a waiting job that is not answered is given up, and loses no job", async () => {
    const options = { heartbeatSeconds: 60, takeTimeoutMs: 2_000, logger };
    const queue = await startedQueue(rabbitMqBroker(server.url, options));
    await queue.offer(readyQueue, message("job-1"));
    const first = await takeOne(queue);
    // Leaves a channel for the next request.
    expect(await queue.take(readyQueue)).toBeUndefined();
    await queue.offer(readyQueue, message("job-2"));
    server.pause();
    try {
      expect(await queue.take(readyQueue)).toBeUndefined();
    } finally {
      server.resume();
    }
    const second = await takeOne(queue);
    expect([first, second].map(({ envelope }) => envelope.jobId)).toEqual(["job-1", "job-2"]);
    expect(first.revoked.aborted).toBeFalse();
  });

  test("a publish that is aborted after it was sent still waits for its confirmation", async () => {
    let isConfirmed = false;
    const proxy = await startTcpProxy(server, {
      onAnswer: (chunk) => {
        isConfirmed ||= chunk.includes(CONFIRMATION);
      },
    });
    try {
      const through = rabbitMqBroker(urlThrough(proxy), { heartbeatSeconds: 60, logger });
      const queue = await startedQueue(through);
      await queue.publishResult(sampleResult("earlier"), undefined, []);
      const revoked = new AbortController();
      isConfirmed = false;
      proxy.cut("answers");
      const publishing = queue.publishResult(sampleResult("sent"), undefined, [], revoked.signal);
      // The wait after an abort is short: by then the confirmation is on its way.
      await waitFor(() => isConfirmed, { timeoutMs: TIMEOUT_MS, what: "the confirmation" });
      revoked.abort(new Error("the broker revoked the delivery"));
      // What does not wait for it ends now.
      await Bun.sleep(1);
      proxy.heal();
      expect(await publishing).toBeUndefined();
      await queue.close();
    } finally {
      await proxy.stop();
    }
  });

  test("a publish that is aborted while the broker does not answer ends", async () => {
    const queue = await startedQueue(rabbitMqBroker(server.url, { heartbeatSeconds: 60, logger }));
    await queue.publishResult(sampleResult("earlier"), undefined, []);
    const revoked = new AbortController();
    server.pause();
    try {
      const publishing = queue.publishResult(sampleResult("sent"), undefined, [], revoked.signal);
      await new Promise((resolve) => setImmediate(resolve));
      revoked.abort(new Error("the broker revoked the delivery"));
      await expect(publishing).rejects.toThrow("the broker revoked the delivery");
    } finally {
      server.resume();
    }
  });

  function sessionOf(model: ChannelModel): Session {
    const lost = new AbortController();
    model.on("error", () => undefined);
    model.on("close", () => lost.abort(new Error("connection lost")));
    return {
      model,
      frameMaxBytes: 128 * 1024,
      channelMax: 2047,
      lost: lost.signal,
      heartbeatMs: 60_000,
      declarations: new ExclusiveQueueLock("lock"),
      unanswered: new Set(),
    };
  }

  test("a channel whose connection is lost while it closes is not waited for", async () => {
    let isUsed = false;
    const proxy = await startTcpProxy(server, {
      onRequest: (chunk) => void (isUsed && chunk.includes(CHANNEL_CLOSE) && proxy.reset()),
    });
    try {
      const session = sessionOf(await connect(urlThrough(proxy)));
      const used = onDedicatedChannel(session, "a channel", async () => {
        // The request to close the channel is never answered.
        proxy.cut();
        isUsed = true;
      });
      // Which of the two is noticed first does not matter.
      await used.catch((error) => expect(error).toBe(session.lost.reason));
    } finally {
      await proxy.stop();
    }
  });

  test("the late loss of an earlier session leaves the channel of the current one in use", async () => {
    const earlier = sessionOf(await connect(server.url));
    const current = sessionOf(await connect(server.url));
    try {
      const channel = new ReopeningChannel({
        open: (model) => model.createChannel(),
        prepare: async () => undefined,
        closing: new AbortController().signal,
        logger,
      });
      await channel.attach(earlier);
      await channel.attach(current);
      const open = channel.current;
      await earlier.model.close();
      await waitFor(() => earlier.lost.aborted, { timeoutMs: TIMEOUT_MS, what: "the loss of the session" });
      expect(channel.current).toBe(open);
      expect(open?.lost.aborted).toBeFalse();
    } finally {
      await current.model.close();
    }
  });

  test("a request that is never answered ends with its session", async () => {
    const proxy = await startTcpProxy(server);
    try {
      const session = sessionOf(await connect(urlThrough(proxy)));
      const used = onDedicatedChannel(session, "a channel", () => {
        proxy.reset();
        return new Promise<never>(() => undefined);
      });
      await expect(used).rejects.toThrow("connection lost");
    } finally {
      await proxy.stop();
    }
  });

  test("a session whose declaration is not answered is given up, and opened again; its submissions are handled", async () => {
    let hasCut = false;
    const proxy = await startTcpProxy(server, {
      onRequest: (chunk) => {
        if (hasCut || !chunk.includes(`${delayed.readyPrefix}.declaring`)) return;
        hasCut = true;
        proxy.cut();
      },
    });
    const delayed = rabbitMqBroker(urlThrough(proxy), {
      // The heartbeat is so rare that a missed one does not end the connection.
      heartbeatSeconds: 60,
      prepareTimeoutMs: 4_000,
      logger,
    });
    try {
      const queue = newQueue(delayed);
      const bodies: string[] = [];
      queue.onSubmitted(async (delivery) => {
        bodies.push(delivery.body.toString());
        delivery.ack();
      });
      const reason = `(not prepared within 4 s, still waiting for queue ${delayed.readyPrefix}.declaring); trying again`;
      await waitFor(() => logLines.some((line) => line.includes(reason)), {
        timeoutMs: TIMEOUT_MS,
        what: "the session to be given up",
      });
      proxy.heal();
      await readiness(queue, true);
      expect(proxy.connections).toBeGreaterThan(1);
      await queue.submit(Buffer.from("submitted"), {});
      await waitFor(() => bodies.length > 0, { timeoutMs: TIMEOUT_MS, what: "the submission" });
      await queue.close();
    } finally {
      await proxy.stop();
    }
  });

  test("a connection that the broker closes is opened again, and the handler keeps working", async () => {
    const queue = await startedQueue();
    const bodies: string[] = [];
    queue.onSubmitted(async (delivery) => {
      bodies.push(delivery.body.toString());
      delivery.ack();
    });
    for (let round = 0; round < 3; round++) {
      await server.rabbitmqctl(["close_all_connections", "test"]);
      await queue.submit(Buffer.from(`round-${round}`), {});
      await waitFor(() => bodies.includes(`round-${round}`), {
        timeoutMs: TIMEOUT_MS,
        what: `round ${round}`,
      });
    }
  });

  test("only the delivery that exceeds the consumer timeout is revoked", async () => {
    const timeoutMs = 3_000;
    await server.setConsumerTimeout(timeoutMs, 500);
    try {
      const queue = await startedQueue();
      await queue.offer(readyQueue, message("long"));
      const long = await takeOne(queue);
      const others: ReadyDelivery[] = [];
      const revokedAfterMs: number[] = [];
      const offering = setInterval(
        () => queue.offer(readyQueue, message("short")).catch(() => undefined),
        200,
      );
      try {
        await waitFor(
          async () => {
            const askedAtMs = performance.now();
            const other = await queue.take(readyQueue);
            other?.revoked.addEventListener("abort", () =>
              revokedAfterMs.push(performance.now() - askedAtMs),
            );
            // Kept for a moment beyond the end of the long one.
            if (other) others.push(other);
            if (others.length > 4) others.shift()?.ack();
            return long.revoked.aborted;
          },
          { timeoutMs: TIMEOUT_MS, what: "the long delivery to be revoked" },
        );
      } finally {
        clearInterval(offering);
      }
      // On a busy machine another delivery may exceed the timeout itself.
      expect(revokedAfterMs.filter((heldMs) => heldMs < timeoutMs)).toEqual([]);
      expect(queue.isReady).toBe(true);
      // The loop above may already have taken it again.
      const again =
        others.find(({ envelope }) => envelope.jobId === "long") ??
        (await waitFor(
          async () => {
            const delivery = await queue.take(readyQueue);
            if (delivery?.envelope.jobId === "long") return delivery;
            delivery?.ack();
            return undefined;
          },
          { timeoutMs: TIMEOUT_MS, what: "the long job again" },
        ));
      expect(again.redelivered).toBe(true);
      const isAlsoLate = again.revoked.aborted;
      long.ack();
      expect(again.revoked.aborted).toBe(isAlsoLate);
      again.ack();
    } finally {
      await server.setConsumerTimeout();
    }
  });

  test("a submission that exceeds the consumer timeout is delivered again", async () => {
    await server.setConsumerTimeout(1_500, 500);
    try {
      const queue = await startedQueue();
      const deliveries: Delivery[] = [];
      queue.onSubmitted(async (delivery) => void deliveries.push(delivery));
      await queue.submit(Buffer.from("slow"), {});
      await waitFor(() => deliveries.length >= 2, { timeoutMs: TIMEOUT_MS, what: "the second delivery" });
      expect(deliveries[0]?.revoked.aborted).toBe(true);
      expect(deliveries[1]?.redelivered).toBe(true);
      deliveries[1]?.ack();
    } finally {
      await server.setConsumerTimeout();
    }
  });

  test("an unreachable address is logged without its password, and the next one is tried", async () => {
    const port = await freePort();
    const other = `amqp://user:very-secret@127.0.0.1:${port}`;
    const twoAddresses = rabbitMqBroker(server.url, { otherUrls: [other], logger });
    await startedQueue(twoAddresses);
    await twoAddresses.remove();
    const warning = logLines
      .map((line) => JSON.parse(line).msg)
      .find((line) => line.includes("not reachable"));
    expect(warning).toMatch(
      new RegExp(
        `^RabbitMQ is not reachable at amqp://user:\\*\\*\\*@127\\.0\\.0\\.1:${port} \\(ECONNREFUSED\\); trying again in [0-9.]+ s$`,
      ),
    );
    expect(logLines.join("")).not.toContain("very-secret");
  });

  test("all addresses are tried in quick succession, and the delay grows from round to round", async () => {
    const closed = await Promise.all([freePort(), freePort(), freePort()]);
    const [url = "", ...otherUrls] = closed.map((port) => `amqp://127.0.0.1:${port}`);
    newQueue(rabbitMqBroker(url, { otherUrls, logger }));
    const delaysMs = () => logLines.flatMap((line) => JSON.parse(line).retry_in_ms ?? []);
    await waitFor(() => delaysMs().length >= 6, { timeoutMs: TIMEOUT_MS, what: "two rounds" });
    const [last, ...earlier] = delaysMs().slice(0, 6).toReversed();
    expect(Math.max(...earlier)).toBeLessThanOrEqual(250);
    expect(last).toBeGreaterThanOrEqual(250);
  });

  test("a connection that is lost while it is prepared is logged with what it was waiting for", async () => {
    const proxy = await startTcpProxy(server, {
      onRequest: (chunk) => {
        if (chunk.includes(`${interrupted.readyPrefix}.declaring`)) proxy.reset();
      },
    });
    const interrupted = rabbitMqBroker(urlThrough(proxy), { logger });
    try {
      const queue = newQueue(interrupted);
      const text = `, while waiting for queue ${interrupted.readyPrefix}.declaring)`;
      await waitFor(() => logLines.some((line) => line.includes("not reachable") && line.includes(text)), {
        timeoutMs: TIMEOUT_MS,
        what: "the log line",
      });
      await queue.close();
    } finally {
      await proxy.stop();
    }
  });

  test("a broker that confirms nothing is a problem, until it confirms", async () => {
    const queue = await startedQueue();
    await server.evaluate("vm_memory_monitor:set_vm_memory_high_watermark({absolute, 1})");
    const submitting: Promise<void>[] = [];
    const isBlocked = () => {
      // RabbitMQ blocks a connection when that publishes.
      submitting.push(queue.submit(Buffer.from("waiting"), {}));
      return logLines.some((line) => line.includes("is blocking publishers"));
    };
    try {
      await waitFor(isBlocked, { timeoutMs: TIMEOUT_MS, what: "the alarm" });
      await waitFor(() => queue.problems.length > 0, { timeoutMs: TIMEOUT_MS, what: "the problem" });
      expect(queue.problems).toEqual([`${broker.jobQueue} does not confirm messages`]);
      expect(queue.isReady).toBeTrue();
    } finally {
      await server.evaluate("vm_memory_monitor:set_vm_memory_high_watermark(0.6)");
    }
    await Promise.all(submitting);
    expect(queue.problems).toEqual([]);
  });

  test("without a broker only a signal or the close of the queue ends a publish", async () => {
    const absent = rabbitMqBroker(`amqp://127.0.0.1:${await freePort()}`);
    const queue = newQueue(absent);
    const reason = new Error("enough");
    const controller = new AbortController();
    const abortedPublish = queue.submit(Buffer.from("x"), {}, controller.signal);
    const closedPublish = queue.offer(readyQueue, message("x"));
    abortedPublish.catch(() => undefined);
    closedPublish.catch(() => undefined);
    expect(queue.isReady).toBe(false);
    expect(await queue.take(readyQueue)).toBeUndefined();
    controller.abort(reason);
    await expect(abortedPublish).rejects.toBe(reason);
    await queue.close();
    await expect(closedPublish).rejects.toMatchObject({ name: "QueueClosed" });
  });
});
