import type { Database } from "bun:sqlite";
import { afterEach, beforeEach, expect, setSystemTime, test } from "bun:test";
import { readdir, readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import pino from "pino";
import { DatabaseInUse, openEmbeddedDatabase } from "../../../../../src/orchestrator/embedded-database.ts";
import { RETRY_DELAYS_MS } from "../../../../../src/orchestrator/queue/queue.ts";
import { SqliteQueue } from "../../../../../src/orchestrator/queue/sqlite/queue.ts";
import { startProcess } from "../../../../support/machine/processes.ts";
import { makeTempDir, type TempDir } from "../../../../support/machine/temp-dir.ts";
import { waitFor } from "../../../../support/machine/wait-for.ts";
import { sampleResult } from "../../sample-result.ts";
import { type Broker, describeQueueContract } from "../queue-contract.ts";

const logger = pino({ level: "silent" });

function openQueue(database: Database, resultMemoryMs = 60_000): SqliteQueue {
  return new SqliteQueue({ database, resultMemoryMs, logger });
}

async function sqliteBroker(): Promise<Broker> {
  const folder = await makeTempDir("queue");
  const database = openEmbeddedDatabase(join(folder.path, "blacktree.db"));
  return {
    open: () => openQueue(database),
    async deadLetters() {
      const rows = database
        .query<
          {
            body: Uint8Array;
            reason: string;
            at: number;
            message_id: string | null;
            correlation_id: string | null;
          },
          []
        >("SELECT * FROM dead_letters ORDER BY id")
        .all();
      return rows.map((row) => ({
        body: Buffer.from(row.body),
        reason: row.reason,
        at: new Date(row.at),
        messageId: row.message_id ?? undefined,
        correlationId: row.correlation_id ?? undefined,
      }));
    },
    async results() {
      const rows = database
        .query<{ job_id: string; correlation_id: string | null; body: string }, []>("SELECT * FROM results")
        .all();
      return rows.map((row) => ({
        body: JSON.parse(row.body),
        jobId: row.job_id,
        correlationId: row.correlation_id ?? undefined,
      }));
    },
    async remove() {
      database.close();
      await folder.remove();
    },
  };
}

describeQueueContract("SQLite", sqliteBroker);

let folder: TempDir;
let path: string;

beforeEach(async () => {
  folder = await makeTempDir("queue");
  path = join(folder.path, "blacktree.db");
});

afterEach(() => folder.remove());

test("a job's next attempt does not wait for a clock that was set back", async () => {
  const database = openEmbeddedDatabase(path);
  const queue = openQueue(database);
  const readyQueue = { region: "eu-central-1", priority: "normal" } as const;
  const envelope = { jobId: "job-1", acceptedAt: new Date(), defaultRegion: "us-east-1" };
  try {
    // From now on the clock stands still.
    setSystemTime(new Date());
    queue.start();
    await queue.offer(readyQueue, { body: Buffer.from("{}"), properties: {}, envelope });
    const first = await queue.take(readyQueue);
    const [delayMs] = RETRY_DELAYS_MS;
    if (first) await queue.offerLater(first, { attempts: 1, lastWorkerId: "worker-1" }, delayMs);
    first?.ack();
    expect(await queue.take(readyQueue)).toBeUndefined();
    setSystemTime(new Date(Date.now() - 365 * 24 * 3600 * 1000));
    expect((await queue.take(readyQueue))?.envelope.jobId).toBe("job-1");
  } finally {
    setSystemTime();
    await queue.close();
    database.close();
  }
});

test("the file and its journal are readable only by their owner", async () => {
  const database = openEmbeddedDatabase(path);
  const queue = openQueue(database);
  await queue.submit(Buffer.from("secret"), {});
  for (const name of [path, `${path}-wal`]) expect((await stat(name)).mode & 0o777).toBe(0o600);
  await queue.close();
  database.close();
});

test("nothing of a message is left in the files once its job has ended", async () => {
  const database = openEmbeddedDatabase(path);
  const queue = openQueue(database);
  const token = `token-${crypto.randomUUID()}`;
  // Longer than a page, so that a part is on overflow pages.
  const body = Buffer.from(JSON.stringify({ git_token: token, padding: "x".repeat(20_000), end: token }));
  const readyQueue = { region: "us-east-1", priority: "normal" } as const;
  const envelope = { jobId: "job-1", acceptedAt: new Date(), defaultRegion: "us-east-1" };
  const filesWithToken = async () => {
    const names = await readdir(folder.path);
    const texts = await Promise.all(names.map((name) => readFile(join(folder.path, name))));
    return names.filter((_, index) => texts[index]?.includes(token));
  };
  try {
    queue.onSubmitted(async (delivery) => {
      await queue.offer(readyQueue, { body: delivery.body, properties: {}, envelope });
      delivery.ack();
    });
    queue.start();
    await queue.submit(body, {});
    const take = () => queue.take(readyQueue);
    const first = await waitFor(take, { timeoutMs: 120_000, what: "the offered message" });
    expect(await filesWithToken()).not.toEqual([]);
    await queue.offerLater(first, { attempts: 1, lastWorkerId: "worker-1" }, RETRY_DELAYS_MS[0]);
    first.ack();
    const second = await waitFor(take, { timeoutMs: 120_000, what: "the next attempt" });
    second.ack();
    await waitFor(async () => (await filesWithToken()).length === 0, {
      timeoutMs: 120_000,
      what: "the message to be erased",
    });
  } finally {
    await queue.close();
    database.close();
  }
});

test("the file cannot be opened twice at the same time", async () => {
  const database = openEmbeddedDatabase(path);
  expect(() => openEmbeddedDatabase(path)).toThrow(DatabaseInUse);
  database.close();
  openEmbeddedDatabase(path).close();
});

test("a killed process leaves no lock, and its messages are delivered again", async () => {
  const holder = startProcess([process.execPath, join(import.meta.dir, "sqlite-holder.ts"), path]);
  try {
    await holder.waitForLine("unsettled", { timeoutMs: 120_000 });
    expect(() => openEmbeddedDatabase(path)).toThrow(DatabaseInUse);
    await holder.kill("SIGKILL");

    const database = openEmbeddedDatabase(path);
    const queue = openQueue(database);
    const bodies: [string, boolean][] = [];
    queue.onSubmitted(async ({ body, redelivered }) => void bodies.push([body.toString(), redelivered]));
    queue.start();
    await waitFor(() => bodies.length === 2, { timeoutMs: 120_000, what: "both submissions" });
    expect(bodies.toSorted()).toEqual([
      ["submitted-1", true],
      ["submitted-2", true],
    ]);
    expect(queue.regions()).toEqual(["us-east-1"]);
    const taken = await queue.take({ region: "us-east-1", priority: "high" });
    expect(taken?.envelope.jobId).toBe("taken");
    expect(taken?.redelivered).toBe(true);
    const untouched = await queue.take({ region: "us-east-1", priority: "high" });
    expect(untouched?.envelope.jobId).toBe("untouched");
    expect(untouched?.redelivered).toBe(false);
    await queue.close();
    database.close();
  } finally {
    await holder.kill();
  }
});

test("results can be read back until they expire", async () => {
  const database = openEmbeddedDatabase(path);
  const queue = openQueue(database, 50);
  await queue.publishResult(sampleResult("job-1"), undefined, ["nowhere"]);
  expect(queue.findResult("job-1")).toEqual(sampleResult("job-1"));
  await waitFor(
    async () => {
      await queue.publishResult(sampleResult("job-2"), undefined, []);
      return queue.findResult("job-1") === undefined;
    },
    { timeoutMs: 120_000, what: "the first result to expire" },
  );
  expect(queue.findResult("job-2")).toBeDefined();
  await queue.close();
  database.close();
});
