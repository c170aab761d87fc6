/** ReadLog over real gRPC, with a run whose output the test defines. */
import { afterEach, expect, test } from "bun:test";
import { createHash } from "node:crypto";
import { readdir, readlink } from "node:fs/promises";
import { join } from "node:path";
import { type ClientReadableStream, credentials, status } from "@grpc/grpc-js";
import { decodeEntry, isFinalEntry, type JournalEntry } from "../../../../src/shared/log-journal.ts";
import { CHANNEL_OPTIONS } from "../../../../src/shared/rpc/call.ts";
import type { LogChunk, LogSummary } from "../../../../src/shared/rpc/generated/blacktree/v1/run.ts";
import {
  JobRequest,
  type JobResponse,
  type RunDescription,
  WorkerServiceClient,
} from "../../../../src/shared/rpc/generated/blacktree/v1/worker.ts";
import { fromJobResponse } from "../../../../src/shared/rpc/outcome.ts";
import type { RunReporter } from "../../../../src/worker/pipeline/pipeline-parts.ts";
import { expectToShareEventLoop } from "../../../support/machine/event-loop-lag.ts";
import { waitFor } from "../../../support/machine/wait-for.ts";
import {
  INCARNATION,
  type ServedWorker,
  serveWorker,
  successfulEnd,
} from "../../orchestrator/workers/worker-service.ts";

const RUN = { jobId: "job", attempt: 1 };
const LIMITS = { keptBytes: 64_000_000, tail: { lines: 500, bytes: 262_144 } };
const UNTIL = { timeoutMs: 50_000 };
const LINE = "x".repeat(500);

let worker: ServedWorker | undefined;
const clients: WorkerServiceClient[] = [];

afterEach(async () => {
  for (const client of clients.splice(0)) client.close();
  await worker?.stop(100);
  worker = undefined;
});

/** With a dedicated connection: a stalled reader must not hold up others. */
function connect({ port }: ServedWorker): WorkerServiceClient {
  const options = { ...CHANNEL_OPTIONS, "grpc.use_local_subchannel_pool": 1 };
  const client = new WorkerServiceClient(`127.0.0.1:${port}`, credentials.createInsecure(), options);
  clients.push(client);
  return client;
}

interface Serving {
  readonly worker: ServedWorker;
  readonly reporter: RunReporter;
  /** Ends the run. */
  end(): Promise<JobResponse>;
}

async function serveRun(options: Parameters<typeof serveWorker>[2] = {}, limits = LIMITS): Promise<Serving> {
  const begun = Promise.withResolvers<RunReporter>();
  const ended = Promise.withResolvers<void>();
  const execute = async (_: unknown, reporter: RunReporter) => {
    begun.resolve(reporter);
    await ended.promise;
    return successfulEnd();
  };
  const serving = await serveWorker(execute, limits, options);
  worker = serving;
  const client = connect(serving);
  const request = JobRequest.fromPartial({
    ...RUN,
    incarnation: INCARNATION,
    repoUrl: "owner/name",
    branch: "main",
    deploymentVersion: "v1",
    awsAccount: "123456789012",
    ecrRepo: "app",
    region: "us-east-1",
    timeoutMs: 600_000,
  });
  const response = new Promise<JobResponse>((resolve, reject) => {
    client.runJob(request, (error, answer) => (error ? reject(error) : resolve(answer)));
  });
  const end = () => {
    ended.resolve();
    return response;
  };
  return { worker: serving, reporter: await begun.promise, end };
}

function readLog(serving: ServedWorker, afterSeq = 0, incarnation = INCARNATION) {
  return connect(serving).readLog({ run: RUN, incarnation, tenant: "", afterSeq, pastOnly: false });
}

async function* entriesOf(stream: ClientReadableStream<LogChunk>): AsyncGenerator<JournalEntry> {
  for await (const { entries } of stream) {
    const text = (entries as Buffer).toString();
    expect(text).toEndWith("\n");
    yield* text.trimEnd().split("\n").map(decodeEntry);
  }
}

function describe(entries: readonly JournalEntry[]): Omit<LogSummary, "truncated"> {
  const text = entries.map((entry) => ("line" in entry ? `${entry.line}\n` : "")).join("");
  const lines = entries.filter((entry) => "line" in entry).length;
  return { bytes: Buffer.byteLength(text), lines, sha256: createHash("sha256").update(text).digest("hex") };
}

function acknowledge(serving: ServedWorker): Promise<void> {
  return new Promise((resolve, reject) => {
    const client = connect(serving);
    client.ackResult({ run: RUN, incarnation: INCARNATION }, (error) => (error ? reject(error) : resolve()));
  });
}

/** The files of journals that this process has open, also those without a name. */
async function openJournals({ logs }: ServedWorker): Promise<string[]> {
  const descriptors = await readdir("/proc/self/fd");
  const paths = await Promise.all(
    descriptors.map((name) => readlink(join("/proc/self/fd", name)).catch(() => "")),
  );
  return paths.filter((path) => path.startsWith(logs));
}

/** Returns how many bytes the worker has read so far for the next reader. */
function countNextReader({ runs }: ServedWorker): () => number {
  let bytes = 0;
  const readLog = runs.readLog.bind(runs);
  runs.readLog = async function* (...options) {
    runs.readLog = readLog;
    for await (const entries of readLog(...options)) {
      bytes += entries.length;
      yield entries;
    }
  };
  return () => bytes;
}

const namesIn = (folder: string) => readdir(folder).catch(() => []);

test("readers of a log of 25 MB get all of it at their own pace, also from the middle on, and it is the log of the result", async () => {
  const { worker: serving, reporter, end } = await serveRun();
  const readForStalled = countNextReader(serving);
  const stalled = entriesOf(readLog(serving));
  reporter.state("CLONING");
  expect((await stalled.next()).value).toMatchObject({ seq: 1, state: "CLONING" });
  const followed = Array.fromAsync(entriesOf(readLog(serving)));
  // Pings are answered meanwhile.
  await expectToShareEventLoop(async () => {
    for (let number = 0; number < 50_000; number++) {
      reporter.log(`${number} é\t"${LINE}`);
      if (number % 100 === 0) await Bun.sleep(0);
    }
    await end();
  });
  const { log } = await end();

  const whole = await Array.fromAsync(entriesOf(readLog(serving)));
  expect(whole.map(({ seq }) => seq)).toEqual(whole.map((_, index) => index + 1));
  expect({ ...describe(whole), truncated: false }).toEqual(log as LogSummary);
  const last = whole.at(-1);
  expect(last && isFinalEntry(last)).toBe(true);
  expect(await followed).toEqual(whole);
  // Buffers of gRPC and of the connection.
  expect(readForStalled()).toBeLessThan(8_000_000);
  for (const afterSeq of [1, 25_000, whole.length - 1, whole.length]) {
    const rest = await Array.fromAsync(entriesOf(readLog(serving, afterSeq)));
    expect(rest).toEqual(whole.slice(afterSeq));
  }
  expect([whole[0], ...(await Array.fromAsync(stalled))]).toEqual(whole);
});

test("an entry reaches a reader while the run continues, also the first lines, which no file has", async () => {
  const { worker: serving, reporter, end } = await serveRun();
  const entries = entriesOf(readLog(serving));
  for (const line of ["one", "two"]) {
    reporter.log(line);
    expect((await entries.next()).value).toMatchObject({ line });
  }
  expect(await namesIn(serving.logs)).toEqual([]);
  const late = entriesOf(readLog(serving, 3));
  reporter.log("three");
  reporter.log("four");
  expect((await late.next()).value).toMatchObject({ seq: 4, line: "four" });
  await end();
  expect((await late.next()).value).toMatchObject({ seq: 5, state: "SUCCEEDED" });
  expect(await late.next()).toMatchObject({ done: true });
});

test("a reader that has not read all of the log when its run is acknowledged holds no disk space, and gets an error", async () => {
  const { worker: serving, reporter, end } = await serveRun({ journalLimits: { readOnMs: 1 } });
  const stalled = entriesOf(readLog(serving));
  for (let number = 0; number < 50_000; number++) reporter.log(LINE);
  expect((await stalled.next()).value).toMatchObject({ seq: 1 });
  await end();
  const isWritten = async () => (await namesIn(serving.logs)).length === 1;
  await waitFor(isWritten, { ...UNTIL, what: "the journal's file" });
  await acknowledge(serving);
  const isGone = async () =>
    (await openJournals(serving)).length === 0 && (await namesIn(serving.logs)).length === 0;
  await waitFor(isGone, { ...UNTIL, what: "the journal's file to be gone" });
  await expect(Array.fromAsync(stalled)).rejects.toMatchObject({ code: status.UNAVAILABLE });
});

test("a reader that keeps up reads the log to its end, although the run is acknowledged at once", async () => {
  const { worker: serving, reporter, end } = await serveRun({ journalLimits: { readOnMs: 120_000 } });
  const read = Array.fromAsync(entriesOf(readLog(serving)));
  for (let number = 0; number < 20_000; number++) reporter.log(LINE);
  await end();
  await acknowledge(serving);
  expect(await read).toHaveLength(20_001);
  await waitFor(async () => (await openJournals(serving)).length === 0, {
    ...UNTIL,
    what: "the journal's file to be closed",
  });
});

test("a run whose log had to make space for others says so to readers, and still has its outcome and states", async () => {
  const { worker: serving, reporter, end } = await serveRun({ journalLimits: { diskShare: 1e-9 } });
  for (let number = 0; number < 2000; number++) reporter.log(LINE);
  const { logs } = await end();
  expect(logs.at(-1)).toBe(LINE);
  const isGone = async () => {
    const error = await Array.fromAsync(readLog(serving)).catch((reason) => reason);
    return error.code === status.NOT_FOUND && (await namesIn(serving.logs)).length === 0;
  };
  await waitFor(isGone, { ...UNTIL, what: "the log to make space" });
  const watched = connect(serving).watchJob({
    run: RUN,
    incarnation: INCARNATION,
    afterSeq: 0,
    statesOnly: true,
  });
  expect(await Array.fromAsync(watched)).toHaveLength(1);
});

test("a run's build steps are described while it runs, and are in its response", async () => {
  const { worker: serving, reporter, end } = await serveRun();
  const startedAt = new Date("2026-01-20T10:00:00.000Z");
  const step = { number: 1, name: "[1/1] RUN make", startedAt };
  reporter.step(step);
  const described = () =>
    new Promise<RunDescription>((resolve, reject) => {
      const request = { run: RUN, incarnation: INCARNATION };
      connect(serving).describeRun(request, (error, answer) => (error ? reject(error) : resolve(answer)));
    });
  expect((await described()).steps).toEqual([
    {
      number: 1,
      name: "[1/1] RUN make",
      startedAt: "2026-01-20T10:00:00.000Z",
      endedAt: "",
      durationMs: 0,
      cached: false,
      error: "",
    },
  ]);
  reporter.step({ ...step, end: { at: startedAt, durationMs: 7, isCached: true, error: "exit code 1" } });
  const response = await end();
  expect(response.steps).toMatchObject([{ number: 1, durationMs: 7, cached: true, error: "exit code 1" }]);
  expect(fromJobResponse(response).steps).toEqual([
    {
      number: 1,
      name: "[1/1] RUN make",
      started_at: "2026-01-20T10:00:00.000Z",
      ended_at: "2026-01-20T10:00:00.000Z",
      duration_ms: 7,
      cached: true,
      error: "exit code 1",
    },
  ]);
  expect((await described()).steps).toEqual(response.steps);
  const entries = await Array.fromAsync(entriesOf(readLog(serving)));
  expect(entries.slice(0, 2)).toMatchObject([{ step: { number: 1 } }, { step: { error: "exit code 1" } }]);
  await acknowledge(serving);
  await expect(described()).rejects.toMatchObject({ code: status.FAILED_PRECONDITION });
});

test("reading is refused for another incarnation, and for a run that the worker does not have", async () => {
  const { worker: serving, end } = await serveRun();
  const refused = { code: status.FAILED_PRECONDITION };
  await expect(Array.fromAsync(readLog(serving, 0, "another"))).rejects.toMatchObject(refused);
  await end();
  await acknowledge(serving);
  await expect(Array.fromAsync(readLog(serving))).rejects.toMatchObject(refused);
});
