import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from "bun:test";
import { randomUUID } from "node:crypto";
import pino from "pino";
import { type Leases, LeasesUnavailable } from "../../../../src/orchestrator/leases/leases.ts";
import { RedisLeases } from "../../../../src/orchestrator/leases/redis.ts";
import { type JobRecords, RecordsUnavailable } from "../../../../src/orchestrator/records/job-records.ts";
import { RedisJobRecords } from "../../../../src/orchestrator/records/redis.ts";
import { inFullCheck } from "../../../support/machine/full-check.ts";
import { waitFor } from "../../../support/machine/wait-for.ts";
import { describeRedisServers, PATIENT, type RedisServer } from "../../../support/servers/redis.ts";
import { type RedisCluster, startRedisCluster } from "../../../support/servers/redis-cluster.ts";
import { join as joinWorker } from "../leases/leases-contract.ts";
import { sampleResult } from "../sample-result.ts";

const TIMEOUT_MS = 30_000;
const logger = pino({ level: "silent" });
const worker = {
  workerId: "w1",
  incarnation: "first",
  region: "us-east-1",
  address: "w1.example:6000",
  slots: 2,
  version: "0.1.0",
  capabilities: [],
  runs: [],
};

await describeRedisServers((name) => {
  inFullCheck(name !== "installed").describe("Cluster that moves a slot", () => describeSlotMove(name));
});

function describeSlotMove(name: RedisServer): void {
  let cluster: RedisCluster;
  let keyPrefix: string;
  let leases: Leases;
  let records: JobRecords;

  beforeAll(async () => {
    cluster = await startRedisCluster(name);
  });
  afterAll(() => cluster.stop());

  beforeEach(async () => {
    keyPrefix = `{${randomUUID()}}:`;
    const inRedis = { url: cluster.url, keyPrefix, jobMemoryMs: 600_000, timeouts: PATIENT, logger };
    leases = new RedisLeases({ ...inRedis, leaseTtlMs: 60_000, settleMs: 0 });
    records = new RedisJobRecords(inRedis);
    leases.start();
    records.start();
    await waitFor(() => leases.isReady && records.isReady, { timeoutMs: TIMEOUT_MS, what: "the cluster" });
  });
  afterEach(async () => {
    await Promise.all([leases.close(), records.close()]);
  });

  const claim = (jobId: string) => leases.claim({ jobId, regions: ["us-east-1"] });
  const admit = (jobId: string) => records.admit({ jobId, job: {}, identity: {}, acceptedAt: new Date() });

  async function succeeds<T>(call: () => Promise<T>): Promise<T> {
    return await waitFor(() => call().catch(() => undefined), {
      timeoutMs: TIMEOUT_MS,
      what: "the new node",
    });
  }

  test("while the slot moves, no decision is made on a part of the keys, and afterwards none is missing", async () => {
    await joinWorker(worker, leases);
    const claimed = await claim("running");
    if (claimed.kind !== "claimed") throw new Error("nothing was claimed");
    await admit("finished");
    await records.finish(sampleResult("finished"), "p-1");

    const move = await cluster.beginMove(keyPrefix);
    for (let moved = 0; moved < 3; moved += 1) {
      for (const jobId of ["running", "another"])
        await expect(claim(jobId)).rejects.toBeInstanceOf(LeasesUnavailable);
      for (const jobId of ["finished", "another"])
        await expect(admit(jobId)).rejects.toBeInstanceOf(RecordsUnavailable);
      await expect(leases.register(worker)).rejects.toBeInstanceOf(LeasesUnavailable);
      // Commands on one key are answered by the node that has it.
      expect(await leases.find("running")).toMatchObject({ workerId: "w1", attempt: 1 });
      expect((await records.find("finished"))?.state).toBe("SUCCEEDED");
      await move.moveKeys(2);
    }
    await move.finish();

    expect(await succeeds(() => claim("running"))).toEqual({ kind: "held", claim: claimed.claim });
    expect((await succeeds(() => admit("finished"))).kind).toBe("finished");
    expect((await succeeds(() => admit("another"))).kind).toBe("new");
    expect(await leases.freeSlots()).toEqual([{ region: "us-east-1", capabilities: [], free: 1 }]);
  });

  test("under load, no slot is given twice and no record is lost", async () => {
    await joinWorker(worker, leases);
    let isMoving = true;
    let most = 0;
    let claims = 0;
    const holders = new Set<string>();
    const finished: string[] = [];

    async function build(jobId: string): Promise<void> {
      const outcome = await claim(jobId);
      if (outcome.kind === "none") return;
      if (outcome.kind !== "claimed" && outcome.kind !== "held") throw new Error(outcome.kind);
      claims += 1;
      holders.add(jobId);
      most = Math.max(most, holders.size);
      await succeeds(() => admit(jobId));
      await succeeds(() => records.finish(sampleResult(jobId), "p-1"));
      finished.push(jobId);
      holders.delete(jobId);
      const { claim: held } = outcome;
      await succeeds(async () => {
        await leases.release(held);
        return true;
      });
    }

    async function buildMany(name: string): Promise<void> {
      for (let number = 0; isMoving; number += 1) {
        // A claim whose answer was lost is made again, as an orchestrator does.
        await succeeds(async () => {
          await build(`${name}-${number}`);
          return true;
        });
      }
    }

    const load = Promise.all(["a", "b", "c", "d"].map(buildMany));
    try {
      for (let round = 1; round <= 3; round += 1) {
        const before = finished.length;
        await waitFor(() => finished.length > before + 10, { timeoutMs: TIMEOUT_MS, what: "some jobs" });
        const move = await cluster.beginMove(keyPrefix);
        while ((await move.moveKeys(5)) > 0);
        await move.finish();
      }
    } finally {
      isMoving = false;
      await load;
    }
    expect(most).toBeLessThanOrEqual(worker.slots);
    expect(claims).toBeGreaterThan(30);
    const states = await Promise.all(finished.map(async (jobId) => (await records.find(jobId))?.state));
    expect(states.filter((state) => state !== "SUCCEEDED")).toEqual([]);
    expect(await leases.freeSlots()).toEqual([{ region: "us-east-1", capabilities: [], free: worker.slots }]);
  });
}
