/** The worker's own clock is changed while it waits for an orchestrator. */
import { afterEach, expect, setSystemTime, test } from "bun:test";
import pino from "pino";
import { confirmLease } from "../../../../src/worker/control-plane/lease-confirmation.ts";
import type { Orchestrators } from "../../../../src/worker/control-plane/orchestrator-client.ts";
import { Registration } from "../../../../src/worker/control-plane/registration.ts";
import { waitFor } from "../../../support/machine/wait-for.ts";

const YEAR_MS = 365 * 24 * 3600 * 1000;
const logger = pino({ level: "silent" });
const identity = { workerId: "worker", incarnation: "this-start" };

afterEach(() => setSystemTime());

function shiftClock(byMs: number): void {
  setSystemTime(new Date(Date.now() + byMs));
}

/** Orchestrators whose one client answers every call with `answer`, after `during` has run. */
function orchestrators(answer: object, during: () => void): Orchestrators {
  type Callback = (error: null, response: object) => void;
  const method = (_request: unknown, _metadata: unknown, _options: unknown, callback: Callback) => {
    setImmediate(() => {
      during();
      callback(null, answer);
    });
    return { cancel: () => undefined };
  };
  const client = { confirmLease: method, register: method };
  const askUntilAnswered = (question: (of: typeof client) => Promise<unknown>) => question(client);
  return { askUntilAnswered } as unknown as Orchestrators;
}

test.each([
  ["set back", -YEAR_MS],
  ["set forward", YEAR_MS],
])("a confirmation during which the clock is %s grants no more than the lease", async (_what, shiftMs) => {
  const granted = { granted: true, leaseRemainingMs: 10_000 };
  const run = { jobId: "job-1", attempt: 1 };
  const signal = new AbortController().signal;
  const leftMs = await confirmLease(
    orchestrators(granted, () => shiftClock(shiftMs)),
    identity,
    run,
    () => false,
    signal,
  );
  expect(leftMs).toBeLessThanOrEqual(10_000);
});

test("a worker whose clock is set back registers again when its lease has expired", async () => {
  let registrations = 0;
  const registered = () => {
    registrations += 1;
    shiftClock(-YEAR_MS);
  };
  const info = { ...identity, address: "127.0.0.1:1", region: "us-east-1", slots: 1, version: "1", runs: [] };
  const registration = new Registration(
    orchestrators({ leaseTtlMs: 20, pingIntervalMs: 5 }, registered),
    () => info as never,
    logger,
  );
  const stop = new AbortController();
  const kept = registration.keep(stop.signal);
  await waitFor(() => registrations >= 2, { timeoutMs: 10_000, what: "the second registration" });
  stop.abort(new Error("the test is over"));
  await kept;
});
