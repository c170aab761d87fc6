import { afterEach, expect, setSystemTime, test } from "bun:test";
import pino from "pino";
import { Orchestrators } from "../../../../src/worker/control-plane/orchestrator-client.ts";
import { Registration } from "../../../../src/worker/control-plane/registration.ts";
import { freePort } from "../../../support/machine/free-port.ts";
import { waitFor } from "../../../support/machine/wait-for.ts";
import { answeringOrchestrators, IDENTITY, shiftClock, YEAR_MS } from "./answering-orchestrators.ts";

afterEach(() => setSystemTime());

const unheard = { waiting: () => undefined, registered: () => undefined };

const info = { ...IDENTITY, address: "127.0.0.1:1", region: "us-east-1", slots: 1, version: "1", runs: [] };
const describeWorker = () => ({ ...info, capabilities: undefined, labels: {}, keepsId: false });
const logger = pino({ level: "silent" });

test("the listener is notified of the registration", async () => {
  const heard: string[] = [];
  const listener = {
    waiting: (reason: string) => heard.push(reason),
    registered: () => heard.push("registered"),
  };
  const orchestrators = answeringOrchestrators({ leaseTtlMs: 60_000, pingIntervalMs: 5 }, () => undefined);
  const stop = new AbortController();
  const kept = new Registration(orchestrators, describeWorker, listener, logger).keep(stop.signal);
  await waitFor(() => heard.length > 0, { timeoutMs: 30_000, what: "the registration" });
  stop.abort(new Error("the test is over"));
  await kept;
  expect(heard).toEqual(["registered"]);
});

test("the listener is notified which orchestrators do not answer, and why", async () => {
  const heard: string[] = [];
  const listener = {
    waiting: (reason: string) => heard.push(reason),
    registered: () => heard.push("registered"),
  };
  const port = await freePort();
  const orchestrators = new Orchestrators([{ host: "127.0.0.1", port }], undefined, logger);
  const stop = new AbortController();
  const kept = new Registration(orchestrators, describeWorker, listener, logger).keep(stop.signal);
  await waitFor(() => heard.length > 0, { timeoutMs: 30_000, what: "the first attempt" });
  stop.abort(new Error("the test is over"));
  await kept;
  orchestrators.close();
  expect(heard[0]).toStartWith(`no orchestrator reachable: 127.0.0.1:${port} (`);
  expect(heard[0]).toContain("ECONNREFUSED");
});

test("a worker whose clock is set back registers again when its lease has expired", async () => {
  let registrations = 0;
  const orchestrators = answeringOrchestrators({ leaseTtlMs: 20, pingIntervalMs: 5 }, () => {
    registrations += 1;
    shiftClock(-YEAR_MS);
  });
  const registration = new Registration(orchestrators, describeWorker, unheard, logger);
  const stop = new AbortController();
  const kept = registration.keep(stop.signal);
  await waitFor(() => registrations >= 2, { timeoutMs: 30_000, what: "the second registration" });
  stop.abort(new Error("the test is over"));
  expect(await kept).toBeUndefined();
});

test("a worker whose description has changed registers again at once", async () => {
  let registrations = 0;
  const orchestrators = answeringOrchestrators({ leaseTtlMs: 3_600_000, pingIntervalMs: 5 }, () => {
    registrations += 1;
  });
  const registration = new Registration(orchestrators, describeWorker, unheard, logger);
  const stop = new AbortController();
  const kept = registration.keep(stop.signal);
  await waitFor(() => registrations === 1, { timeoutMs: 30_000, what: "the registration" });
  registration.renew();
  await waitFor(() => registrations === 2, { timeoutMs: 30_000, what: "the second registration" });
  stop.abort(new Error("the test is over"));
  await kept;
  expect(registrations).toBe(2);
});
