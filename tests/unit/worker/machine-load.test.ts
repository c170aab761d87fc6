import { afterEach, expect, test } from "bun:test";
import pino from "pino";
import { MachineLoadMeter } from "../../../src/worker/machine-load.ts";
import { makeTempDir, type TempDir } from "../../support/machine/temp-dir.ts";
import { waitFor } from "../../support/machine/wait-for.ts";

const logger = pino({ level: "silent" });
let folder: TempDir | undefined;

afterEach(async () => {
  await folder?.remove();
  folder = undefined;
});

async function meter(sizeBytes: () => Promise<number>, minIntervalMs = 0): Promise<MachineLoadMeter> {
  folder = await makeTempDir("load");
  return new MachineLoadMeter({ workDir: folder.path, checkoutCache: { sizeBytes }, logger, minIntervalMs });
}

test("the load is known soon after it was first asked for", async () => {
  const load = await meter(async () => 7);
  expect(load.latest()).toBeUndefined();
  const known = await waitFor(() => load.latest(), { timeoutMs: 30_000, what: "a measurement" });
  expect(known.cacheBytes).toBe(7);
  expect(known.processors).toBeGreaterThan(0);
  expect(known.loadAverage).toBeGreaterThanOrEqual(0);
  expect(known.memoryAvailableBytes).toBeWithin(1, known.memoryBytes);
  expect(known.diskFreeBytes).toBeWithin(0, known.diskBytes + 1);
});

test("a measurement that takes long delays no answer, and no other one begins meanwhile", async () => {
  let measurements = 0;
  const gate = Promise.withResolvers<number>();
  const load = await meter(() => {
    measurements += 1;
    return gate.promise;
  });
  for (const _ping of [1, 2, 3]) expect(load.latest()).toBeUndefined();
  gate.resolve(1);
  await waitFor(() => load.latest(), { timeoutMs: 30_000, what: "the measurement" });
  // The answer that found it began the next one.
  expect(measurements).toBe(2);
});

test("nothing is measured again before the interval has passed", async () => {
  let measurements = 0;
  const load = await meter(async () => ++measurements, 3_600_000);
  await waitFor(() => load.latest(), { timeoutMs: 30_000, what: "a measurement" });
  expect(load.latest()?.cacheBytes).toBe(1);
  expect(measurements).toBe(1);
});

test("the load is not known any more when it cannot be measured", async () => {
  let fails = false;
  const load = await meter(async () => {
    if (fails) throw new Error("no such folder");
    return 1;
  });
  await waitFor(() => load.latest(), { timeoutMs: 30_000, what: "a measurement" });
  fails = true;
  await waitFor(() => load.latest() === undefined, { timeoutMs: 30_000, what: "the failure" });
});
