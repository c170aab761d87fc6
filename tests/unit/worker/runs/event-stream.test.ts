import { expect, test } from "bun:test";
import { RunState } from "../../../../src/shared/rpc/generated/blacktree/v1/run.ts";
import { EventStream, type WatchOptions } from "../../../../src/worker/runs/event-stream.ts";

const ALL: WatchOptions = { afterSeq: 0, statesOnly: false };

const STEP = {
  number: 1,
  name: "[1/1] RUN make",
  startedAt: "2026-01-20T10:00:00.000Z",
  endedAt: "",
  durationMs: 0,
  cached: false,
  error: "",
};

async function collect(stream: EventStream, options: WatchOptions, signal = new AbortController().signal) {
  return Array.fromAsync(
    stream.watch(options, signal),
    (event) => event.logLine ?? event.buildStep ?? event.state,
  );
}

test("event stream: a late watcher receives earlier events, then new ones", async () => {
  const stream = new EventStream();
  stream.add({ state: RunState.RUN_STATE_CLONING });
  const watched = collect(stream, ALL);
  stream.add({ logLine: "one" });
  stream.add({ logLine: "two" });
  stream.close();
  expect(await watched).toEqual([RunState.RUN_STATE_CLONING, "one", "two"]);
});

test("event stream: a watcher can continue after a sequence number, and can omit the log", async () => {
  const stream = new EventStream();
  stream.add({ logLine: "one" });
  stream.add({ state: RunState.RUN_STATE_BUILDING });
  stream.add({ buildStep: STEP });
  stream.add({ logLine: "two" });
  stream.close();
  expect(await collect(stream, { afterSeq: 1, statesOnly: false })).toEqual([
    RunState.RUN_STATE_BUILDING,
    STEP,
    "two",
  ]);
  expect(await collect(stream, { afterSeq: 0, statesOnly: true })).toEqual([RunState.RUN_STATE_BUILDING]);
  expect(await collect(stream, { afterSeq: 99, statesOnly: false })).toEqual([]);
});

function watched(stream: EventStream) {
  return Array.fromAsync(stream.watch(ALL, new AbortController().signal));
}

test("event stream: states are kept in order, however long the log is", async () => {
  const stream = new EventStream();
  stream.add({ state: RunState.RUN_STATE_CLONING });
  for (let line = 1; line <= 50_000; line += 1) stream.add({ logLine: String(line) });
  stream.add({ state: RunState.RUN_STATE_PUSHING });
  stream.add({ logLine: "end" });
  stream.close();
  expect(await collect(stream, { afterSeq: 0, statesOnly: true })).toEqual([
    RunState.RUN_STATE_CLONING,
    RunState.RUN_STATE_PUSHING,
  ]);
  const numbers = (await watched(stream)).map(({ seq }) => seq);
  expect(numbers).toEqual(numbers.toSorted((one, other) => one - other));
  expect(numbers.slice(-3)).toEqual([50_001, 50_002, 50_003]);
});

test("event stream: long lines count by their length", async () => {
  const stream = new EventStream();
  for (let line = 1; line <= 2000; line += 1) stream.add({ logLine: "x".repeat(16_384) });
  stream.close();
  const chars = (await watched(stream)).reduce((sum, { logLine = "" }) => sum + logLine.length, 0);
  expect(chars).toBeWithin(4 * 1024 * 1024, 8 * 1024 * 1024 + 1);
});

test("event stream: its lines can be dropped", async () => {
  const stream = new EventStream();
  stream.add({ logLine: "one" });
  stream.add({ state: RunState.RUN_STATE_SUCCEEDED });
  stream.close();
  stream.forgetLines();
  expect(await collect(stream, ALL)).toEqual([RunState.RUN_STATE_SUCCEEDED]);
});

test("event stream: a watcher that leaves is released", async () => {
  const stream = new EventStream();
  const gone = new AbortController();
  const watched = collect(stream, ALL, gone.signal);
  gone.abort();
  expect(await watched).toEqual([]);
});

test("event stream: the newest events of a very long log are kept, with their numbers", async () => {
  const stream = new EventStream();
  for (let line = 1; line <= 25_000; line += 1) stream.add({ logLine: String(line) });
  stream.close();
  const kept = await watched(stream);
  expect(kept.length).toBeGreaterThanOrEqual(10_000);
  expect(kept.length).toBeLessThanOrEqual(20_000);
  expect(kept.at(-1)).toMatchObject({ seq: 25_000, logLine: "25000" });
  expect(kept.every((event) => event.logLine === String(event.seq))).toBe(true);
});
