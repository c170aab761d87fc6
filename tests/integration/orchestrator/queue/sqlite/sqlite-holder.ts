/** Runs until it is killed, with unsettled messages. Its one argument is the database's path. */
import pino from "pino";
import { openEmbeddedDatabase } from "../../../../../src/orchestrator/embedded-database.ts";
import { SqliteQueue } from "../../../../../src/orchestrator/queue/sqlite/queue.ts";

const queue = new SqliteQueue({
  database: openEmbeddedDatabase(process.argv[2] ?? ""),
  resultMemoryMs: 60_000,
  logger: pino({ level: "silent" }),
});
queue.onSubmitted(async () => undefined);
queue.start();

const readyQueue = { region: "us-east-1", priority: "high" } as const;
const envelope = { acceptedAt: new Date(), defaultRegion: "us-east-1" };
await queue.submit(Buffer.from("submitted-1"), {});
await queue.submit(Buffer.from("submitted-2"), {});
await queue.offer(readyQueue, {
  body: Buffer.from("1"),
  properties: {},
  envelope: { ...envelope, jobId: "taken" },
});
await queue.offer(readyQueue, {
  body: Buffer.from("2"),
  properties: {},
  envelope: { ...envelope, jobId: "untouched" },
});
await queue.take(readyQueue);

process.stdout.write("unsettled\n");
setInterval(() => undefined, 1_000);
