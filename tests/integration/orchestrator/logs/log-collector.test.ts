/** Copies of logs from a worker over real gRPC; the test decides what goes wrong. */

import { Database } from "bun:sqlite";
import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { status } from "@grpc/grpc-js";
import pino from "pino";
import { DirectoryStore } from "../../../../src/orchestrator/logs/directory-store.ts";
import { LogCollector, type LogCollectorParts } from "../../../../src/orchestrator/logs/log-collector.ts";
import { openLogFolder } from "../../../../src/orchestrator/logs/log-folder.ts";
import type { LogKey } from "../../../../src/orchestrator/logs/log-store.ts";
import { type JobRecord, RecordsUnavailable } from "../../../../src/orchestrator/records/job-records.ts";
import type { LogPlaces, PlacedLog } from "../../../../src/orchestrator/records/log-places.ts";
import { SqliteLogPlaces } from "../../../../src/orchestrator/records/sqlite-log-places.ts";
import { WorkerClient } from "../../../../src/orchestrator/workers/worker-client.ts";
import { decodeEntry, encodeEntry } from "../../../../src/shared/log-journal.ts";
import { RpcError } from "../../../../src/shared/rpc/status.ts";
import type { PipelineJob } from "../../../../src/worker/job/job.ts";
import { makeSmallDisk, missingSmallDisks } from "../../../support/machine/small-disk.ts";
import { makeTempDir, type TempDir } from "../../../support/machine/temp-dir.ts";
import { waitFor } from "../../../support/machine/wait-for.ts";
import { startTcpProxy, type TcpProxy } from "../../../support/servers/tcp-proxy.ts";
import { sampleResult } from "../sample-result.ts";
import { INCARNATION, type ServedWorker, serveWorker, successfulEnd } from "../workers/worker-service.ts";

const LINES = 20_000;
const LINE = "x".repeat(200);
const LOG_LIMITS = { keptBytes: 64_000_000, tail: { lines: 10, bytes: 1000 } };
const signal = new AbortController().signal;

let temp: TempDir;
let worker: ServedWorker;
let proxy: TcpProxy;
/** Of the proxy: bytes of the worker have arrived. */
let onAnswer: (bytes: number) => void;
let opened: (() => void)[];

beforeEach(async () => {
  temp = await makeTempDir("log-collector");
  opened = [];
  worker = await serveWorker(
    async (_, reporter) => {
      for (let number = 0; number < LINES; number++) reporter.log(`${number} ${LINE}`);
      return successfulEnd();
    },
    LOG_LIMITS,
    { slots: 8 },
  );
  onAnswer = () => undefined;
  proxy = await startTcpProxy(worker, { onAnswer: ({ length }) => onAnswer(length) });
});

afterEach(async () => {
  for (const close of opened) close();
  await proxy.stop();
  await worker.stop(100);
  await temp.remove();
});

async function endedRun(jobId: string) {
  await worker.runs.run({ jobId, attempt: 1, tenant: "acme" } as PipelineJob, 60_000);
  return {
    jobId,
    attempt: 1,
    tenant: "acme",
    workerId: "w",
    incarnation: INCARNATION,
    address: proxy.address,
  };
}

interface Started {
  readonly collector: LogCollector;
  readonly store: DirectoryStore;
  readonly places: LogPlaces;
  readonly logged: string[];
  /** The log's text. */
  read(key: LogKey): Promise<string | undefined>;
}

function startCollector(
  path = join(temp.path, `logs-${opened.length}`),
  replaced: Partial<LogPlaces> = {},
  changed: Partial<LogCollectorParts> = {},
): Started {
  const folder = openLogFolder(path);
  const logged: string[] = [];
  const logger = pino({ level: "info" }, { write: (line: string) => void logged.push(line) });
  const store = new DirectoryStore({ folder, limits: { sizeBytes: 1e9, ageMs: 1e9 }, logger });
  const real = new SqliteLogPlaces({ database: new Database(":memory:"), memoryMs: 1e6 });
  const places: LogPlaces = Object.assign(real, replaced);
  const record = { result: { ...sampleResult("job"), tenant: "acme" }, events: [] } as unknown as JobRecord;
  const collector = new LogCollector({
    store,
    folder,
    place: { kind: "orchestrator", id: folder.id },
    places,
    records: { find: async () => record },
    logger,
    connectDedicated: (address) => new WorkerClient(address, undefined, { isDedicated: true }),
    adoptAfterMs: 0,
    ...changed,
  });
  collector.start();
  opened.push(() => {
    collector.stop();
    folder.close();
  });
  const read = async (key: LogKey) => {
    const chunks = await store.read(key, signal);
    if (!chunks) return undefined;
    const text = Buffer.concat(await Array.fromAsync(chunks)).toString();
    const entries = text.trimEnd().split("\n").map(decodeEntry);
    expect(entries.map(({ seq }) => seq)).toEqual(entries.map((_, index) => index + 1));
    return entries.map((entry) => ("line" in entry ? `${entry.line}\n` : "")).join("");
  };
  return { collector, store, places, logged, read };
}

const WHOLE = Array.from({ length: LINES }, (_, number) => `${number} ${LINE}\n`).join("");
/** Texts of this size are not to be printed. */
const isWhole = (text: string | undefined) => text === WHOLE;
const placeOf = async (places: LogPlaces, jobId: string): Promise<PlacedLog | undefined> =>
  (await places.find(jobId)).get(1);

test("a log is kept before its run is acknowledged, and leaves no other file", async () => {
  const { collector, places, read } = startCollector();
  const runs = await Promise.all(["a", "b", "c"].map(endedRun));
  for (const run of runs) collector.keep(run);
  await collector.idle();
  for (const run of runs) {
    expect(isWhole(await read(run))).toBe(true);
    expect(await placeOf(places, run.jobId)).toMatchObject({ kind: "orchestrator", tenant: "acme" });
  }
  expect(worker.runs.held()).toEqual([]);
  expect(await readdir(join(temp.path, "logs-0", "unfinished"))).toEqual([]);
});

test("a copy that a broken connection interrupts goes on where it was", async () => {
  const { collector, read } = startCollector();
  const run = await endedRun("job");
  const broken = Promise.withResolvers<void>();
  let leftBytes = WHOLE.length / 2;
  onAnswer = (bytes) => {
    leftBytes -= bytes;
    if (leftBytes > 0) return;
    onAnswer = () => undefined;
    proxy.reset();
    broken.resolve();
  };
  collector.keep(run);
  await broken.promise;
  proxy.heal();
  await collector.idle();
  expect(isWhole(await read(run))).toBe(true);
  expect(worker.runs.held()).toEqual([]);
});

test("a copy is given up only if it gets no further", async () => {
  const breaks = 3;
  let calls = 0;
  const client = {
    async *readLog(_: unknown, __: unknown, { afterSeq }: { afterSeq: number }): AsyncGenerator<Buffer> {
      calls += 1;
      const entry = { seq: afterSeq + 1, at: "2026-01-02T03:04:05Z" };
      if (afterSeq === breaks) return yield Buffer.from(encodeEntry({ ...entry, state: "SUCCEEDED" }));
      yield Buffer.from(encodeEntry({ ...entry, line: String(afterSeq) }));
      throw new RpcError(status.UNAVAILABLE, "the connection broke");
    },
    acknowledge: async () => undefined,
    close: () => undefined,
  };
  const connectDedicated = () => client as unknown as WorkerClient;
  const { collector, read } = startCollector(undefined, {}, { connectDedicated, giveUpAfterMs: 0 });
  const run = { jobId: "job", attempt: 1, tenant: "acme", workerId: "w", incarnation: "i", address: "w:1" };
  collector.keep(run);
  await collector.idle();
  expect(await read(run)).toBe("0\n1\n2\n");
  // Each of these breaks before an entry.
  client.readLog = async function* () {
    calls += 1;
    yield* [];
    throw new RpcError(status.UNAVAILABLE, "the connection broke");
  };
  calls = 0;
  collector.keep({ ...run, jobId: "other" });
  await collector.idle();
  expect([calls, await read({ ...run, jobId: "other" })]).toEqual([1, undefined]);
});

test("a run whose log is recorded nowhere is not acknowledged", async () => {
  let isAvailable = false;
  const noted = new Map<number, PlacedLog>();
  const note: LogPlaces["note"] = async ({ tenant, attempt }, place) => {
    if (!isAvailable) throw new RecordsUnavailable("Redis is away");
    noted.set(attempt, { ...place, tenant });
  };
  const { collector, read } = startCollector(undefined, { note });
  const run = await endedRun("job");
  collector.keep(run);
  await waitFor(async () => (await read(run)) !== undefined, { timeoutMs: 60_000, what: "the copy" });
  expect(worker.runs.held()).toHaveLength(1);
  isAvailable = true;
  await collector.idle();
  expect(noted.size).toBe(1);
  expect(worker.runs.held()).toEqual([]);
});

test("another orchestrator copies the log of a run that the first one has left, and only acknowledges one that is kept", async () => {
  const first = startCollector();
  const second = startCollector(undefined, {
    note: (run, place) => first.places.note(run, place),
    claim: (run, id) => first.places.claim(run, id),
  });
  const [left, kept] = [await endedRun("left"), await endedRun("kept")];
  first.collector.stop();
  await first.places.note(kept, { kind: "orchestrator", id: "first" });
  for (const run of [left, kept]) second.collector.adopt(run);
  await waitFor(() => worker.runs.held().length === 0, {
    timeoutMs: 60_000,
    what: "both to be acknowledged",
  });
  expect(isWhole(await second.read(left))).toBe(true);
  expect(await second.read(kept)).toBeUndefined();
  expect(await placeOf(first.places, "kept")).toMatchObject({ id: "first" });
});

test("what another orchestrator copies at the moment is left to it", async () => {
  const { collector } = startCollector(undefined, { claim: async () => "taken" });
  const run = await endedRun("job");
  for (let report = 0; report < 5; report++) collector.adopt(run);
  await collector.idle();
  expect(worker.runs.held()).toHaveLength(1);
});

test("the log of a worker that no longer has it, or has lost it, is recorded as missing", async () => {
  const { collector, places, logged } = startCollector();
  const run = await endedRun("gone");
  collector.keep({ ...run, incarnation: "earlier" });
  collector.lost({ ...run, jobId: "lost" }, "worker w was lost");
  await collector.idle();
  expect(await placeOf(places, "gone")).toMatchObject({
    kind: "missing",
    reason: "worker w no longer has the log",
  });
  expect(await placeOf(places, "lost")).toMatchObject({ kind: "missing", reason: "worker w was lost" });
  expect(logged.filter((line) => line.includes("log of an attempt is not kept"))).toHaveLength(1);
});

const noDisks = await missingSmallDisks();
describe.skipIf(noDisks !== undefined)(
  `a full disk${noDisks === undefined ? "" : ` (skipped: ${noDisks})`}`,
  () => {
    test("makes a log missing, with one line that says why, and releases its run; the next log is kept", async () => {
      const disk = await makeSmallDisk({ sizeMiB: 16 });
      try {
        const { collector, places, logged, read } = startCollector(join(disk.path, "logs"));
        const run = await endedRun("job");
        await disk.fill(1_000_000);
        collector.keep(run);
        await collector.idle();
        expect(worker.runs.held()).toEqual([]);
        const place = await placeOf(places, "job");
        expect(place).toMatchObject({ kind: "missing", reason: expect.stringContaining("was full") });
        expect(logged.filter((line) => line.includes("not kept") && line.includes("ENOSPC"))).toHaveLength(1);
        expect(await readdir(join(disk.path, "logs", "unfinished"))).toEqual([]);
        await disk.removeFillers();
        const next = await endedRun("next");
        collector.keep(next);
        await collector.idle();
        expect(isWhole(await read(next))).toBe(true);
      } finally {
        for (const close of opened.splice(0)) close();
        await disk.remove();
      }
    });
  },
);
