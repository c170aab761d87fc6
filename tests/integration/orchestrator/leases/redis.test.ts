import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { randomUUID } from "node:crypto";
import { createServer } from "node:net";
import pino from "pino";
import { type Leases, LeasesUnavailable } from "../../../../src/orchestrator/leases/leases.ts";
import { RedisLeases, type RedisLeasesOptions } from "../../../../src/orchestrator/leases/redis.ts";
import { REDIS_TIMEOUTS } from "../../../../src/orchestrator/redis/client.ts";
import { freePort } from "../../../support/machine/free-port.ts";
import { waitFor } from "../../../support/machine/wait-for.ts";
import { describeRedisServers, PATIENT, type Redis, startRedis } from "../../../support/servers/redis.ts";
import { ageRedis } from "../redis/age-redis.ts";
import { settlesBefore } from "../settles-before.ts";
import { describeLeasesContract, join, type LeaseTimes } from "./leases-contract.ts";

const TIMES: LeaseTimes = { leaseTtlMs: 60_000, jobMemoryMs: 600_000, settleMs: 0 };
const TIMEOUT_MS = 30_000;
const DEFAULT_PREFIX = "{blacktree}:";
const CALL_LIMIT_MS = REDIS_TIMEOUTS.commandMs + 1_000;
const silent = pino({ level: "silent" });
let server: Redis;

beforeAll(async () => {
  server = await startRedis();
});

afterAll(() => server.stop());

async function openLeases(
  url: string,
  times: LeaseTimes,
  keyPrefix = DEFAULT_PREFIX,
  changes: Partial<RedisLeasesOptions> = {},
): Promise<Leases> {
  const options = { url, ...times, keyPrefix, logger: silent, timeouts: PATIENT, ...changes };
  const leases = new RedisLeases(options);
  leases.start();
  await waitFor(() => leases.isReady, { timeoutMs: TIMEOUT_MS, what: "Redis to be connected" });
  return leases;
}

await describeRedisServers((name) => {
  let server: Redis;
  beforeAll(async () => {
    server = await startRedis({ server: name });
  });
  afterAll(() => server.stop());

  describeLeasesContract("leases", async (times) => {
    const keyPrefix = `{${randomUUID()}}:`;
    const opened: Leases[] = [];
    return {
      async open() {
        const leases = await openLeases(server.url, times, keyPrefix);
        opened.push(leases);
        return leases;
      },
      advance: (ms) => ageRedis(server.url, keyPrefix, ms),
      async remove() {
        await Promise.all(opened.map((leases) => leases.close()));
      },
    };
  });
});

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
const claimRequest = { jobId: "j1", regions: ["us-east-1"] };

describe("Redis leases: a control", () => {
  const DAY_MS = 86_400_000;
  const target = { kind: "worker", name: "w1" } as const;

  async function controlled() {
    const keyPrefix = `{${randomUUID()}}:`;
    const leases = await openLeases(server.url, TIMES, keyPrefix);
    await join({ ...worker, keepsId: true }, leases);
    await leases.control(target, { kind: "drained", reason: "a b" });
    await leases.control({ kind: "region", name: "us-east-1" }, { kind: "drained", reason: "" });
    return { keyPrefix, leases };
  }

  /** Orchestrators remove expired controls several times per lease time: one with a short lease time does it soon. */
  async function untilExpiredAreForgotten(keyPrefix: string): Promise<void> {
    const touching = await openLeases(server.url, { ...TIMES, leaseTtlMs: 1000 }, keyPrefix);
    const seen = `${keyPrefix}orchestrators`;
    const touches = async () => Number(await server.cli("HLEN", seen));
    await server.cli("DEL", seen);
    await waitFor(async () => (await touches()) > 0, { timeoutMs: TIMEOUT_MS, what: "the removal" });
    await touching.close();
  }

  test("is kept for 90 days while its worker, or all workers of its region, are away, then forgotten", async () => {
    const { keyPrefix, leases } = await controlled();
    try {
      await leases.deregister("w1", "first");
      for (let days = 0; days < 88; days += 44) {
        await ageRedis(server.url, keyPrefix, 44 * DAY_MS);
        await untilExpiredAreForgotten(keyPrefix);
      }
      await join({ ...worker, incarnation: "second" }, leases);
      expect((await leases.workers())[0]?.control).toMatchObject({ kind: "drained", reason: "a b" });
      expect([...(await leases.drainedRegions()).keys()]).toEqual(["us-east-1"]);
      await leases.deregister("w1", "second");
      const other = { ...worker, workerId: "w2", region: "eu-west-1" };
      await join(other, leases);
      await leases.control({ kind: "worker", name: "w2" }, { kind: "paused", reason: "" });
      for (let days = 0; days < 132; days += 44) {
        await ageRedis(server.url, keyPrefix, 44 * DAY_MS);
        await join(other, leases);
        await untilExpiredAreForgotten(keyPrefix);
      }
      expect(await leases.control(target, undefined)).toEqual({ kind: "unknown" });
      expect([...(await leases.drainedRegions()).keys()]).toEqual([]);
    } finally {
      await leases.close();
    }
  });

  test("is kept while its worker is registered, however long that is", async () => {
    const { keyPrefix, leases } = await controlled();
    try {
      for (let days = 0; days < 132; days += 44) {
        await ageRedis(server.url, keyPrefix, 44 * DAY_MS);
        // Its pings would have continued meanwhile.
        await join({ ...worker, keepsId: true }, leases);
        await untilExpiredAreForgotten(keyPrefix);
      }
      expect((await leases.workers())[0]?.control).toMatchObject({ kind: "drained", reason: "a b" });
      expect([...(await leases.drainedRegions()).keys()]).toEqual(["us-east-1"]);
    } finally {
      await leases.close();
    }
  });

  test("lasts until the worker's restart if its id is made at each start", async () => {
    const { leases } = await controlled();
    try {
      const order = { kind: "paused", reason: "" } as const;
      expect(await leases.control(target, order)).toMatchObject({ lasts: "until-resumed" });
      await join({ ...worker, workerId: "w2", address: "w2.example:6000" }, leases);
      const other = { kind: "worker", name: "w2" } as const;
      expect(await leases.control(other, order)).toMatchObject({ lasts: "until-worker-restarts" });
    } finally {
      await leases.close();
    }
  });
});

describe("Redis leases of orchestrators with different lease times", () => {
  const short: LeaseTimes = { ...TIMES, leaseTtlMs: 1_000 };

  async function both() {
    const keyPrefix = `{${randomUUID()}}:`;
    const logged: string[] = [];
    const logger = pino({ level: "warn" }, { write: (line: string) => void logged.push(line) });
    const [long, brief] = await Promise.all([
      openLeases(server.url, TIMES, keyPrefix),
      openLeases(server.url, short, keyPrefix, { logger }),
    ]);
    return { keyPrefix, logged, long, brief, close: () => Promise.all([long.close(), brief.close()]) };
  }

  test("what one has granted is not cut by the other's pings and confirmations", async () => {
    const { keyPrefix, long, brief, close } = await both();
    const run = { jobId: "j1", attempt: 1 };
    try {
      await join(worker, long);
      const outcome = await long.claim(claimRequest);
      if (outcome.kind !== "claimed") throw new Error("nothing was claimed");
      expect(await long.confirm(run, "w1", "first")).toBe(TIMES.leaseTtlMs);
      await brief.observe("w1", "first", { status: "BUSY", runs: [run] });
      expect(await brief.confirm(run, "w1", "first")).toBe(short.leaseTtlMs);
      // In steps, since half a lease time without a call counts as one without any orchestrator.
      for (let step = 0; step < 8; step += 1) {
        await ageRedis(server.url, keyPrefix, TIMES.leaseTtlMs / 20);
        await long.freeSlots();
      }
      expect(await brief.fence(outcome.claim)).toEqual({ kind: "alive" });
      expect((await brief.workers())[0]).toMatchObject({ hasLease: true, jobs: ["j1"] });
    } finally {
      await close();
    }
  });

  test("are reported with both values", async () => {
    const { logged, close } = await both();
    try {
      await waitFor(() => logged.some((line) => line.includes("orchestrators have different settings")), {
        timeoutMs: TIMEOUT_MS,
        what: "the warning",
      });
      const { here, elsewhere } = JSON.parse(
        logged.find((line) => line.includes("different settings")) ?? "",
      );
      expect([here.BLACKTREE_LEASE_TTL, elsewhere.BLACKTREE_LEASE_TTL]).toEqual(["1000ms", "60000ms"]);
    } finally {
      await close();
    }
  });
});

describe("Redis leases of two orchestrators, one of which does not reach the worker", () => {
  async function both() {
    const keyPrefix = `{${randomUUID()}}:`;
    const [near, cutOff] = await Promise.all([
      openLeases(server.url, TIMES, keyPrefix),
      openLeases(server.url, TIMES, keyPrefix),
    ]);
    await join(worker, near);
    return { near, cutOff, close: () => Promise.all([near.close(), cutOff.close()]) };
  }

  test("that one gets no slot of it, but attaches to a job that runs there", async () => {
    const { near, cutOff, close } = await both();
    try {
      expect(await cutOff.freeSlots()).toEqual([]);
      expect(await cutOff.claim(claimRequest)).toEqual({ kind: "none" });
      expect((await cutOff.workers())[0]).toMatchObject({ status: "FREE", hasLease: true, isReached: false });
      const claimed = await near.claim(claimRequest);
      if (claimed.kind !== "claimed") throw new Error("nothing was claimed");
      expect(await cutOff.claim(claimRequest)).toEqual({ kind: "held", claim: claimed.claim });
    } finally {
      await close();
    }
  });

  test("its missed pings concern no other one", async () => {
    const { near, cutOff, close } = await both();
    try {
      await cutOff.suspect("w1", "first");
      expect((await cutOff.workers())[0]).toMatchObject({ status: "LOST", hasLease: true, isReached: false });
      expect((await near.workers())[0]).toMatchObject({ status: "FREE", isReached: true });
      expect(await near.freeSlots()).toEqual([{ region: "us-east-1", capabilities: [], free: 1 }]);
      // The other's pings do not show that this one reaches it.
      await near.observe("w1", "first", { status: "FREE", runs: [] });
      expect(await cutOff.claim(claimRequest)).toEqual({ kind: "none" });
      const second = { ...worker, workerId: "w2" };
      expect(await near.register(second)).toEqual({ addressOf: "w1" });
      expect((await near.claim(claimRequest)).kind).toBe("claimed");
    } finally {
      await close();
    }
  });
});

describe("Redis leases under faults", () => {
  async function failureOf(call: Promise<unknown>): Promise<LeasesUnavailable> {
    const error = await call.then(
      () => undefined,
      (reason) => reason,
    );
    expect(error).toBeInstanceOf(LeasesUnavailable);
    return error;
  }

  /** The call failed without sending a command, so it did not have to wait. */
  async function expectRefusal(call: Promise<unknown>): Promise<void> {
    const { message, cause } = await failureOf(call);
    expect({ message, cause }).toEqual({ message: "Redis is not connected", cause: undefined });
  }

  test("calls fail at once without a server, and work once it is reachable", async () => {
    const own = await startRedis();
    await own.kill();
    const leases = new RedisLeases({
      url: own.url,
      ...TIMES,
      keyPrefix: DEFAULT_PREFIX,
      logger: silent,
      timeouts: PATIENT,
    });
    leases.start();
    try {
      expect(leases.isReady).toBe(false);
      await expectRefusal(leases.claim(claimRequest));
      await own.start();
      await waitFor(() => leases.isReady, { timeoutMs: TIMEOUT_MS, what: "Redis to be connected" });
      expect(await leases.register(worker)).toBe("registered");
    } finally {
      await leases.close();
      await own.stop();
    }
  });

  test("the loss of a server's data costs only that data", async () => {
    const own = await startRedis();
    const leases = await openLeases(own.url, TIMES);
    let changes = 0;
    leases.onChange(() => changes++);
    try {
      await leases.register(worker);
      await leases.claim(claimRequest);
      await own.kill();
      await waitFor(() => !leases.isReady, { timeoutMs: TIMEOUT_MS, what: "the loss to be detected" });
      await expectRefusal(leases.freeSlots());
      await own.start();
      await waitFor(() => leases.isReady, { timeoutMs: TIMEOUT_MS, what: "Redis to be reachable again" });
      expect(
        await leases.observe("w1", "first", { status: "BUSY", runs: [{ jobId: "j1", attempt: 1 }] }),
      ).toBeUndefined();
      await leases.register({ ...worker, runs: [{ jobId: "j1", attempt: 1 }] });
      expect((await leases.claim(claimRequest)).kind).toBe("held");
      // The subscription is restored as well.
      await waitFor(
        async () => {
          await leases.register(worker);
          return changes > 0;
        },
        { timeoutMs: TIMEOUT_MS, what: "a hint" },
      );
    } finally {
      await leases.close();
      await own.stop();
    }
  });

  test("calls to a frozen server fail at the command timeout, with their cause", async () => {
    const own = await startRedis();
    const leases = await openLeases(own.url, TIMES, DEFAULT_PREFIX, { timeouts: REDIS_TIMEOUTS });
    const answered = <T>(call: () => Promise<T>, what: string) =>
      waitFor(call, { timeoutMs: TIMEOUT_MS, what });
    try {
      await answered(() => join(worker, leases).then(() => true), "the registration");
      own.pause();
      const call = leases.claim(claimRequest);
      expect(await settlesBefore(CALL_LIMIT_MS, call)).toBeTrue();
      expect((await failureOf(call)).cause).toMatchObject({ message: "Command timed out" });
      own.resume();
      await answered(() => leases.claim(claimRequest), "Redis to answer again");
      // The claim whose reply was lost may exist; a second request attaches to it, and no slot is lost.
      const claim = await answered(() => leases.find("j1"), "the claim");
      expect(claim.attempt).toBe(1);
    } finally {
      own.resume();
      await leases.close();
      await own.stop();
    }
  });

  test("an unreachable server is logged once per interval, without the password", async () => {
    const lines: string[] = [];
    const logger = pino({ level: "debug" }, { write: (line: string) => void lines.push(line) });
    const port = await freePort();
    let attempts = 0;
    const hangingUp = createServer((socket) => {
      attempts++;
      socket.destroy();
    });
    const leases = new RedisLeases({
      url: `redis://user:very-secret@127.0.0.1:${port}/3`,
      ...TIMES,
      keyPrefix: DEFAULT_PREFIX,
      logger,
      timeouts: PATIENT,
    });
    leases.start();
    try {
      await waitFor(() => lines.length > 0, { timeoutMs: TIMEOUT_MS, what: "a log line" });
      await new Promise<void>((resolve) => hangingUp.listen(port, "127.0.0.1", resolve));
      await waitFor(() => attempts >= 8, { timeoutMs: TIMEOUT_MS, what: "further attempts to connect" });
      expect(lines).toHaveLength(1);
      expect(JSON.parse(lines[0] ?? "").msg).toBe(
        `Redis is not reachable at redis://user:***@127.0.0.1:${port}/3 (ECONNREFUSED); trying again`,
      );
    } finally {
      await leases.close();
      hangingUp.close();
    }
  });

  test("a password is used", async () => {
    const own = await startRedis({ password: "p@ss/word" });
    const leases = await openLeases(own.url, TIMES);
    try {
      expect(await leases.register(worker)).toBe("registered");
    } finally {
      await leases.close();
      await own.stop();
    }
  });

  test("leases, claims and the settle time end by the server's clock", async () => {
    const keyPrefix = `{${randomUUID()}}:`;
    const soonMs = 200;
    const [settling, late, soon] = await Promise.all([
      openLeases(server.url, { ...TIMES, settleMs: 60_000 }, keyPrefix),
      openLeases(server.url, { ...TIMES, settleMs: soonMs }, keyPrefix),
      openLeases(server.url, { ...TIMES, leaseTtlMs: soonMs }, keyPrefix),
    ]);
    expect(await settling.cancel("j0", "")).toEqual({ kind: "unknown" });
    const ended = (condition: () => Promise<unknown>, what: string) =>
      waitFor(condition, { timeoutMs: TIMEOUT_MS, what: `the end of ${what}` });
    await ended(async () => (await late.cancel("j0", "")).kind === "unclaimed", "the time to report");
    // On a busy machine the short lease may end before the claim.
    const isClaimed = async () => {
      await join(worker, late, soon);
      return (await soon.claim(claimRequest)).kind === "claimed";
    };
    await waitFor(isClaimed, { timeoutMs: TIMEOUT_MS, what: "a claim" });
    await ended(async () => (await late.find("j1")) === undefined, "the claim");
    await soon.register({ ...worker, workerId: "w2", address: "w2.example:6000" });
    const statusOfW2 = async () => (await late.workers()).find(({ workerId }) => workerId === "w2")?.status;
    await ended(async () => (await statusOfW2()) === "LOST", "the worker's lease");
    await Promise.all([settling.close(), late.close(), soon.close()]);
  });

  test("after a lease time without any orchestrator, workers get time to report their runs", async () => {
    const keyPrefix = `{${randomUUID()}}:`;
    const before = await openLeases(server.url, { ...TIMES, leaseTtlMs: 300 }, keyPrefix);
    await before.register(worker);
    await before.close();
    const since = `${keyPrefix}since`;
    await waitFor(async () => (await server.cli("exists", since)) === "0", {
      timeoutMs: TIMEOUT_MS,
      what: "the lease time to pass",
    });
    const after = await openLeases(server.url, { ...TIMES, settleMs: 60_000 }, keyPrefix);
    await join(worker, after);
    expect(await after.claim({ ...claimRequest, mayBeRunning: true })).toEqual({ kind: "none" });
    expect(await after.claim(claimRequest)).toMatchObject({ kind: "claimed" });
    await after.close();
  });

  test("claims that have ended are removed from the set of their worker", async () => {
    const keyPrefix = `{${randomUUID()}}:`;
    const leases = await openLeases(server.url, TIMES, keyPrefix);
    for (const jobId of ["j1", "j2", "j3", "j4"]) {
      await join({ ...worker, slots: 2 }, leases);
      expect(await leases.claim({ ...claimRequest, jobId })).toMatchObject({ kind: "claimed" });
      // Each claim ends when the one after the next is made.
      await ageRedis(server.url, keyPrefix, TIMES.leaseTtlMs / 2);
    }
    expect(await server.cli("zcard", `${keyPrefix}claims:w1:first`)).toBe("2");
    await leases.close();
  });

  test("keys of jobs and workers expire", async () => {
    const keyPrefix = `{${randomUUID()}}:`;
    const leases = await openLeases(server.url, TIMES, keyPrefix);
    await join(worker, leases);
    await leases.claim({ ...claimRequest, source: "owner/name" });
    await leases.claim({ ...claimRequest, jobId: "j2", needs: ["secrets"] });
    await leases.control({ kind: "worker", name: "w1" }, { kind: "paused", reason: "" });
    const keys = (await server.cli("--scan", "--pattern", `${keyPrefix}*`)).split("\n");
    const immortal: string[] = [];
    for (const key of keys)
      if ((await server.cli("pttl", key)) === "-1") immortal.push(key.slice(keyPrefix.length));
    expect(keys.length).toBeGreaterThan(5);
    // Keys bounded by the number of workers and regions, and single numbers.
    expect(immortal.toSorted()).toEqual(["region:us-east-1", "uses", "workers"]);
    await leases.close();
  });
});
