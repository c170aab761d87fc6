import { expect, test } from "bun:test";
import { RunState } from "../../../src/shared/rpc/generated/blacktree/v1/run.ts";
import { EventStream, type WatchOptions } from "../../../src/worker/event-stream.ts";

const ALL: WatchOptions = { afterSeq: 0, statesOnly: false };

async function collect(stream: EventStream, options: WatchOptions, signal = new AbortController().signal) {
  return Array.fromAsync(stream.watch(options, signal), (event) => event.logLine ?? event.state);
}

test("a watcher that comes late gets what was, then what comes", async () => {
  const stream = new EventStream();
  stream.add({ state: RunState.RUN_STATE_CLONING });
  const watched = collect(stream, ALL);
  stream.add({ logLine: "one" });
  stream.add({ logLine: "two" });
  stream.close();
  expect(await watched).toEqual([RunState.RUN_STATE_CLONING, "one", "two"]);
});

test("goes on after a sequence number, and can leave out the log", async () => {
  const stream = new EventStream();
  stream.add({ logLine: "one" });
  stream.add({ state: RunState.RUN_STATE_BUILDING });
  stream.add({ logLine: "two" });
  stream.close();
  expect(await collect(stream, { afterSeq: 1, statesOnly: false })).toEqual([
    RunState.RUN_STATE_BUILDING,
    "two",
  ]);
  expect(await collect(stream, { afterSeq: 0, statesOnly: true })).toEqual([RunState.RUN_STATE_BUILDING]);
  expect(await collect(stream, { afterSeq: 99, statesOnly: false })).toEqual([]);
});

test("a watcher that leaves is let go", async () => {
  const stream = new EventStream();
  const gone = new AbortController();
  const watched = collect(stream, ALL, gone.signal);
  gone.abort();
  expect(await watched).toEqual([]);
});

test("keeps the newest events of a very long log, with their numbers", async () => {
  const stream = new EventStream();
  for (let line = 1; line <= 25_000; line += 1) stream.add({ logLine: String(line) });
  stream.close();
  const kept = await Array.fromAsync(stream.watch(ALL, new AbortController().signal));
  expect(kept.length).toBeGreaterThanOrEqual(10_000);
  expect(kept.length).toBeLessThanOrEqual(20_000);
  expect(kept.at(-1)).toMatchObject({ seq: 25_000, logLine: "25000" });
  expect(kept.every((event) => event.logLine === String(event.seq))).toBe(true);
});
