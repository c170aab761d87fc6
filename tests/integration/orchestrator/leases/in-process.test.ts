import { expect, setSystemTime, test } from "bun:test";
import pino from "pino";
import { InProcessLeases } from "../../../../src/orchestrator/leases/in-process.ts";
import { waitFor } from "../../../support/machine/wait-for.ts";
import { describeLeasesContract, join, type LeaseTimes } from "./leases-contract.ts";

const logger = pino({ level: "silent" });
const LEASE_TTL_MS = 60_000;
const worker = {
  workerId: "w1",
  incarnation: "first",
  region: "us-east-1",
  address: "w1.example:6000",
  slots: 1,
  version: "0.1.0",
  capabilities: [],
  runs: [],
};

/** With a clock that only the test advances. */
function startLeases(times: LeaseTimes) {
  let nowMs = 0;
  const leases = new InProcessLeases({ ...times, logger, nowMs: () => nowMs });
  leases.start();
  const advance = (ms: number) => {
    nowMs += ms;
  };
  return { leases, advance };
}

describeLeasesContract("in process", async (times) => {
  const { leases, advance } = startLeases(times);
  return {
    open: async () => leases,
    advance: async (ms) => advance(ms),
    remove: () => leases.close(),
  };
});

test("in process: leases and claims outlast a suspension of the process", async () => {
  const { leases, advance } = startLeases({ leaseTtlMs: LEASE_TTL_MS, jobMemoryMs: 600_000, settleMs: 0 });
  await join(worker, leases);
  await leases.claim({ jobId: "j1", regions: ["us-east-1"] });
  advance(10 * LEASE_TTL_MS);
  expect(await leases.workers()).toMatchObject([{ status: "BUSY", jobs: ["j1"] }]);
  for (const _third of [1, 2]) {
    advance(LEASE_TTL_MS / 3);
    expect(await leases.find("j1")).toBeDefined();
  }
  advance(LEASE_TTL_MS / 3);
  expect(await leases.workers()).toMatchObject([{ status: "LOST", jobs: [] }]);
});

test("in process: a worker is not lost by the time of day, but after an hour of the leases' clock", async () => {
  const { leases, advance } = startLeases({ leaseTtlMs: LEASE_TTL_MS, jobMemoryMs: 600_000, settleMs: 0 });
  await join(worker, leases);
  try {
    setSystemTime(new Date(Date.now() + 2 * 60 * 60 * 1000));
    await leases.cancelling();
    expect(await leases.workers()).toHaveLength(1);
  } finally {
    setSystemTime();
  }
  for (let passedMs = 0; passedMs <= 60 * 60 * 1000; passedMs += LEASE_TTL_MS / 3) {
    expect(await leases.workers()).toHaveLength(1);
    advance(LEASE_TTL_MS / 3);
  }
  expect(await leases.workers()).toHaveLength(0);
});

test("in process: the default clock is the real time", async () => {
  const leases = new InProcessLeases({ leaseTtlMs: 200, jobMemoryMs: 200, settleMs: 0, logger });
  leases.start();
  await leases.register(worker);
  await waitFor(async () => (await leases.workers())[0]?.status === "LOST", {
    timeoutMs: 30_000,
    what: "the end of the lease",
  });
  await leases.close();
});
