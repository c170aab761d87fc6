import { afterEach, expect, setSystemTime, test } from "bun:test";
import pino from "pino";
import { Registration } from "../../../../src/worker/control-plane/registration.ts";
import { waitFor } from "../../../support/machine/wait-for.ts";
import { answeringOrchestrators, IDENTITY, shiftClock, YEAR_MS } from "./answering-orchestrators.ts";

afterEach(() => setSystemTime());

const unheard = { waiting: () => undefined, registered: () => undefined };

test("a worker whose clock is set back registers again when its lease has expired", async () => {
  let registrations = 0;
  const orchestrators = answeringOrchestrators({ leaseTtlMs: 20, pingIntervalMs: 5 }, () => {
    registrations += 1;
    shiftClock(-YEAR_MS);
  });
  const info = { ...IDENTITY, address: "127.0.0.1:1", region: "us-east-1", slots: 1, version: "1", runs: [] };
  const logger = pino({ level: "silent" });
  const registration = new Registration(
    orchestrators,
    () => ({ ...info, capabilities: undefined }),
    unheard,
    logger,
  );
  const stop = new AbortController();
  const kept = registration.keep(stop.signal);
  await waitFor(() => registrations >= 2, { timeoutMs: 10_000, what: "the second registration" });
  stop.abort(new Error("the test is over"));
  expect(await kept).toBeUndefined();
});
