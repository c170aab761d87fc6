import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import { randomUUID } from "node:crypto";
import pino from "pino";
import type { ReadyMessage, ReadyQueue } from "../../../../../src/orchestrator/queue/queue.ts";
import type { RabbitMqQueue } from "../../../../../src/orchestrator/queue/rabbitmq/queue.ts";
import { isFullCheck } from "../../../../support/machine/full-check.ts";
import { waitFor } from "../../../../support/machine/wait-for.ts";
import { borrowRabbitMq } from "../../../../support/servers/pool.ts";
import type { RabbitMqServer } from "../../../../support/servers/rabbitmq.ts";
import { startTcpProxy, type TcpProxy } from "../../../../support/servers/tcp-proxy.ts";
import { type RabbitMqBroker, rabbitMqBroker } from "./broker.ts";

const TIMEOUT_MS = 120_000;
/** A race is not lost in each of them. */
const ROUNDS = isFullCheck ? 15 : 4;
const MAX_OFFERS = 300;
let server: RabbitMqServer;

beforeAll(async () => {
  server = await borrowRabbitMq();
});

afterAll(() => server.stop());

describe("Declarations of several orchestrators at the same moment", () => {
  const opened: RabbitMqQueue[] = [];
  const logLines: string[] = [];
  const logger = pino({ level: "info" }, { write: (line: string) => void logLines.push(line) });

  beforeEach(() => {
    logLines.length = 0;
  });

  afterEach(() => closeAll());

  async function closeAll(): Promise<void> {
    await Promise.all(opened.splice(0).map((queue) => queue.close()));
  }

  async function started(brokers: readonly RabbitMqBroker[]): Promise<readonly RabbitMqQueue[]> {
    const queues = brokers.map((broker) => broker.open());
    opened.push(...queues);
    for (const queue of queues) queue.start();
    await waitFor(() => queues.every((queue) => queue.isReady), {
      timeoutMs: TIMEOUT_MS,
      what: "all queues to be ready",
    });
    return queues;
  }

  function message(jobId: string): ReadyMessage {
    return {
      body: Buffer.from(jobId),
      properties: {},
      envelope: { jobId, acceptedAt: new Date(), defaultRegion: "us-east-1" },
    };
  }

  function through(proxy: TcpProxy): string {
    const url = new URL(server.url);
    url.port = String(proxy.port);
    return url.href;
  }

  /** What the broker refuses while it is declaring a queue for another client. */
  function refusals(): readonly string[] {
    return logLines.filter((line) => /541 \(INTERNAL|did not accept/.test(line));
  }

  test("no connection is closed when several start on a fresh broker", async () => {
    for (let round = 0; round < ROUNDS; round++) {
      const broker = rabbitMqBroker(server.url, { logger });
      await started([broker, broker, broker, broker]);
      await closeAll();
    }
    expect(refusals()).toEqual([]);
  });

  test("no message is refused when several offer the first job of a region", async () => {
    const broker = rabbitMqBroker(server.url, { logger });
    const queues = await started([broker, broker]);
    for (let round = 0; round < ROUNDS; round++) {
      const readyQueue: ReadyQueue = { region: `new-${round}`, priority: "normal" };
      await Promise.all(
        queues.map(async (queue, index) => {
          await queue.offer(readyQueue, message(`job-${index}`));
          const delivery = await queue.take(readyQueue);
          delivery?.ack();
        }),
      );
    }
    expect(refusals()).toEqual([]);
  });

  test("jobs that arrive while a region's queues are being set up stay in their order, also without the first one", async () => {
    let hasCut = false;
    const proxy = await startTcpProxy(server, {
      onRequest: (chunk) => {
        // The region's message, which follows the declarations.
        if (hasCut || !chunk.includes("text/plain")) return;
        hasCut = true;
        proxy.cut();
      },
    });
    const broker = rabbitMqBroker(through(proxy), { logger });
    const readyQueue: ReadyQueue = { region: "new-1", priority: "normal" };
    try {
      const [queue] = await started([broker]);
      const offers: Promise<void>[] = [];
      let offered = 0;
      const offer = async () => {
        await queue?.offer(readyQueue, message(`job-${offers.length}`));
        offered += 1;
      };
      const givenUp = new AbortController();
      const first = queue?.offer(readyQueue, message("given-up"), givenUp.signal);
      for (let count = 0; count < 10; count++) offers.push(offer());
      await waitFor(() => hasCut, { timeoutMs: TIMEOUT_MS, what: "the region's message" });
      for (let count = 0; count < 10; count++) offers.push(offer());
      givenUp.abort(new Error("enough"));
      await expect(first).rejects.toThrow("enough");
      proxy.heal();
      // Until the first one is confirmed; a slow broker must not get any number of them.
      while (offered === 0 && offers.length < MAX_OFFERS) {
        offers.push(offer());
        await new Promise(setImmediate);
      }
      await Promise.all(offers);
      const jobIds: (string | undefined)[] = [];
      for (const _ of offers) {
        const delivery = await queue?.take(readyQueue);
        jobIds.push(delivery?.envelope.jobId);
        delivery?.ack();
      }
      expect(jobIds).toEqual(offers.map((_, index) => `job-${index}`));
      await closeAll();
    } finally {
      await proxy.stop();
    }
  });

  test("a start that finds all queues needs no lock", async () => {
    const broker = rabbitMqBroker(server.url, { logger });
    const [first] = await started([broker]);
    await first?.offer({ region: "existing-1", priority: "normal" }, message("job-1"));
    await closeAll();

    const requests: string[] = [];
    const proxy = await startTcpProxy(server, {
      onRequest: (chunk) => void requests.push(chunk.toString("latin1")),
    });
    try {
      await started([{ ...broker, open: () => broker.open(through(proxy)) }]);
      await closeAll();
    } finally {
      await proxy.stop();
    }
    expect(requests.join("")).not.toContain(`${broker.readyPrefix}.declaring`);
    expect(requests.join("")).toContain(`${broker.readyPrefix}.existing-1.normal`);
  });

  test("a user who may not declare queues uses existing ones", async () => {
    const broker = rabbitMqBroker(server.url, { logger });
    const readyQueue: ReadyQueue = { region: "existing-1", priority: "normal" };
    const [first] = await started([broker]);
    await first?.offer(readyQueue, message("job-1"));
    await closeAll();
    // Without the region's message, the next orchestrator cannot know that its ready queues exist.
    await broker.withChannel((channel) => channel.purgeQueue(`${broker.readyPrefix}.regions`));

    const configure = "^(amq[.]gen.*|.*[.]later[.].*)$";
    const user = `limited-${randomUUID().slice(0, 8)}`;
    await server.addUser(server.vhost, user, "");
    await server.permit(server.vhost, user, [configure, ".*", ".*"]);
    const url = new URL(server.url);
    url.username = user;
    url.password = "pw";
    const [limited] = await started([{ ...broker, open: () => broker.open(url.href) }]);
    await limited?.offer(readyQueue, message("job-2"));
    const jobIds: (string | undefined)[] = [];
    for (let count = 0; count < 2; count++) {
      const delivery = await waitFor(() => limited?.take(readyQueue), {
        timeoutMs: TIMEOUT_MS,
        what: "a waiting job",
      });
      jobIds.push(delivery.envelope.jobId);
      delivery.ack();
    }
    expect(jobIds).toEqual(["job-1", "job-2"]);
    await closeAll();
    await server.deleteUser(user);
    await broker.remove();
  });
});
