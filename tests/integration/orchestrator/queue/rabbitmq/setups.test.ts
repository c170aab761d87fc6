/** Brokers whose virtual hosts, permissions or limits do not let an orchestrator work, or barely do. */
import { afterAll, afterEach, beforeAll, expect, test } from "bun:test";
import { randomUUID } from "node:crypto";
import { join } from "node:path";
import pino from "pino";
import { RabbitMqQueue } from "../../../../../src/orchestrator/queue/rabbitmq/queue.ts";
import { inFullCheck } from "../../../../support/machine/full-check.ts";
import { waitFor } from "../../../../support/machine/wait-for.ts";
import { borrowRabbitMq } from "../../../../support/servers/pool.ts";
import type { Permissions, RabbitMqServer } from "../../../../support/servers/rabbitmq.ts";
import { sampleResult } from "../../sample-result.ts";

const TIMEOUT_MS = 120_000;
const USER = "blacktree";
const DOCS = join(import.meta.dir, "../../../../../docs/many-machines.md");
// Unique: other files use this broker too.
const LIMITED = `limited-${randomUUID().slice(0, 8)}`;
const vhostNamed = (name: string) => `${LIMITED}-${name}`;
let server: RabbitMqServer;
const added: string[] = [];
let queue: RabbitMqQueue | undefined;
let messages: string[];

beforeAll(async () => {
  server = await borrowRabbitMq();
  await server.addUser(server.vhost, LIMITED, "");
});
afterAll(async () => {
  await Promise.all(added.map((vhost) => server.deleteVhost(vhost)));
  await server.deleteUser(LIMITED);
  await server.stop();
});
afterEach(async () => {
  await queue?.close();
  queue = undefined;
});

function start(vhost: string, password = "pw"): RabbitMqQueue {
  messages = [];
  const { host } = new URL(server.url);
  queue = new RabbitMqQueue({
    urls: [`amqp://${LIMITED}:${password}@${host}/${vhostNamed(vhost)}`],
    jobQueue: "jobs.build",
    resultQueue: "jobs.results",
    logger: pino({}, { write: (line: string) => void messages.push(JSON.parse(line).msg) }),
  });
  queue.start();
  return queue;
}

async function firstMessage(vhost: string, password?: string): Promise<string> {
  const started = start(vhost, password);
  const message = await waitFor(() => messages[0], { timeoutMs: TIMEOUT_MS, what: "a message" });
  expect(started.isReady).toBe(false);
  await started.close();
  return message;
}

async function addVhost(name: string): Promise<void> {
  await server.addVhost(vhostNamed(name));
  added.push(vhostNamed(name));
}

const permit = (vhost: string, ...patterns: Permissions) =>
  server.permit(vhostNamed(vhost), LIMITED, patterns);

test("a refused login or virtual host is named, with the remedy", async () => {
  expect(await firstMessage("missing", "wrong")).toContain(
    "is not usable: it refuses the user or the password of RABBITMQ_URL",
  );
  expect(await firstMessage("missing")).toContain(
    `is not usable: it refuses virtual host ${vhostNamed("missing")}: create it with rabbitmqctl add_vhost`,
  );
});

inFullCheck().test("a missing right is named with its queue", async () => {
  await addVhost("rights");
  await permit("rights", "^$", ".*", ".*");
  expect(await firstMessage("rights")).toContain(
    `is not usable: user ${LIMITED} may not configure queue jobs.build in virtual host ${vhostNamed("rights")}: grant it`,
  );
});

inFullCheck().test("a limit that is reached is named", async () => {
  await addVhost("limits");
  await permit("limits", ".*", ".*", ".*");
  await server.rabbitmqctl(["set_vhost_limits", "-p", vhostNamed("limits"), '{"max-queues": 2}']);
  expect(await firstMessage("limits")).toMatch(
    /is not usable: cannot declare queue '[^']+': queue limit in vhost '[^']+-limits' \(2\) is reached: raise it/,
  );
});

/** The patterns of the documented command that is not the one for all rights. */
async function documentedPermissions(): Promise<[string, string, string]> {
  const docs = await Bun.file(DOCS).text();
  const command = new RegExp(
    `^rabbitmqctl set_permissions --vhost blacktree ${USER} '(\\^.*)' '(.*)' '(.*)'$`,
    "m",
  );
  const [, configure = "", write = "", read = ""] = command.exec(docs) ?? [];
  expect(read).not.toBe("");
  return [configure, write, read];
}

test("the documented permissions are enough, and without the right to configure what exists is used", async () => {
  const [configure, write, read] = await documentedPermissions();
  await addVhost("least");
  await permit("least", configure, write, read);
  const work = async () => {
    const started = start("least");
    await waitFor(() => started.isReady, { timeoutMs: TIMEOUT_MS, what: "the queue to be ready" });
    const taken = Promise.withResolvers<string>();
    started.onSubmitted(async (delivery) => {
      await started.offer(
        { region: "us-east-1", priority: "normal" },
        {
          body: delivery.body,
          properties: {},
          envelope: { jobId: "job-1", acceptedAt: new Date(), defaultRegion: "us-east-1" },
        },
      );
      delivery.ack();
      taken.resolve(delivery.body.toString());
    });
    await started.submit(Buffer.from("job"), {});
    expect(await taken.promise).toBe("job");
    const ready = await waitFor(() => started.take({ region: "us-east-1", priority: "normal" }), {
      timeoutMs: TIMEOUT_MS,
      what: "the job",
    });
    await started.offerLater(ready, { attempts: 1, lastWorkerId: "w" }, 2000);
    ready.ack();
    await started.publishResult(sampleResult("job-1"), undefined, []);
    expect(messages.filter((message) => !message.startsWith("connected to RabbitMQ"))).toEqual([]);
    await started.close();
  };
  await work();
  await permit("least", "^amq\\.gen-.*$", write, read);
  await work();
});
