import { afterEach, describe, expect, test } from "bun:test";
import {
  type Claim,
  type ClaimOutcome,
  type Leases,
  LeasesUnavailable,
  type SlotGroup,
  type WorkerRegistration,
  type WorkerView,
} from "../../../../src/orchestrator/leases/leases.ts";
import { waitFor } from "../../../support/machine/wait-for.ts";

export interface LeaseTimes {
  readonly leaseTtlMs: number;
  readonly jobMemoryMs: number;
  readonly settleMs: number;
}

/** The data of one test. */
export interface LeaseStore {
  /** Started and ready; a second call simulates a second orchestrator on the same data. */
  open(): Promise<Leases>;
  /** Makes everything in the store older at once, without waiting. */
  advance(ms: number): Promise<void>;
  remove(): Promise<void>;
}

const LEASE_TTL_MS = 60_000;
/** Long enough that nothing expires within a test unless the test advances the time. */
const TIMES: LeaseTimes = { leaseTtlMs: LEASE_TTL_MS, jobMemoryMs: 600_000, settleMs: 0 };
const TIMEOUT_MS = 30_000;
const REGION = "us-east-1";

function worker(workerId: string, overrides: Partial<WorkerRegistration> = {}): WorkerRegistration {
  return {
    workerId,
    incarnation: `${workerId}-first`,
    region: REGION,
    address: `${workerId}.example:6000`,
    slots: 1,
    version: "0.1.0",
    capabilities: [],
    runs: [],
    ...overrides,
  };
}

/** Of workers without capabilities. */
function free(count: number, region = REGION): SlotGroup[] {
  return [{ region, capabilities: [], free: count }];
}

function claimOf(outcome: ClaimOutcome): Claim {
  if (outcome.kind !== "claimed" && outcome.kind !== "held") throw new Error("nothing was claimed");
  return outcome.claim;
}

/** Registers the worker, which then answers a ping of each orchestrator. */
export async function join(
  registration: WorkerRegistration,
  ...orchestrators: readonly Leases[]
): Promise<void> {
  const { workerId, incarnation, runs } = registration;
  await orchestrators[0]?.register(registration);
  for (const leases of orchestrators) await leases.observe(workerId, incarnation, { status: "FREE", runs });
}

function byJob(one: { jobId: string }, other: { jobId: string }): number {
  return one.jobId.localeCompare(other.jobId);
}

/** The contract of `src/orchestrator/leases/leases.ts`, which both implementations pass. */
export function describeLeasesContract(
  name: string,
  makeStore: (times: LeaseTimes) => Promise<LeaseStore>,
): void {
  describe(`${name}: leases`, () => {
    const stores: LeaseStore[] = [];

    afterEach(async () => {
      await Promise.all(stores.splice(0).map((store) => store.remove()));
    });

    async function store(times: LeaseTimes = TIMES): Promise<LeaseStore> {
      const made = await makeStore(times);
      stores.push(made);
      return made;
    }

    async function openLeases(times: LeaseTimes = TIMES): Promise<Leases> {
      return await (await store(times)).open();
    }

    /** Advances the time in steps: a whole lease time without a call would count as one without any orchestrator. */
    async function pass(ms: number, leases: Leases): Promise<void> {
      const stepMs = LEASE_TTL_MS / 4;
      for (let leftMs = ms; leftMs > 0; leftMs -= stepMs) {
        await Promise.all(stores.map((each) => each.advance(Math.min(stepMs, leftMs))));
        await leases.freeSlots();
      }
    }

    async function view(leases: Leases, workerId: string): Promise<WorkerView | undefined> {
      return (await leases.workers()).find((each) => each.workerId === workerId);
    }

    const request = (jobId: string, ...regions: string[]) => ({
      jobId,
      regions: regions.length ? regions : [REGION],
    });

    describe("a worker", () => {
      test("is listed as it registered", async () => {
        const leases = await openLeases();
        expect(await leases.workers()).toEqual([]);
        const before = Date.now() - 1_000;
        expect(await leases.register(worker("w1", { slots: 3, version: "1.2.3" }))).toBe("registered");
        const [known] = await leases.workers();
        expect(known).toMatchObject({
          workerId: "w1",
          incarnation: "w1-first",
          region: REGION,
          address: "w1.example:6000",
          slots: 3,
          version: "1.2.3",
          status: "FREE",
          jobs: [],
        });
        expect(known?.lastSeen.getTime()).toBeWithin(before, Date.now() + 1_000);
      });

      test("keeps its id against another incarnation while its lease is valid", async () => {
        const leases = await openLeases();
        await join(worker("w1"), leases);
        expect(await leases.register(worker("w1", { incarnation: "other" }))).toBe("id-in-use");
        await leases.suspect("w1", "w1-first");
        expect(await leases.register(worker("w1", { incarnation: "other" }))).toBe("id-in-use");
        expect(await leases.register(worker("w1", { slots: 2 }))).toBe("registered");
        expect((await view(leases, "w1"))?.slots).toBe(2);
      });

      test("keeps its address against another worker while it answers pings there", async () => {
        const leases = await openLeases();
        await join(worker("w1"), leases);
        const second = worker("w2", { address: "w1.example:6000" });
        expect(await leases.register(second)).toEqual({ addressOf: "w1" });
        expect(await view(leases, "w2")).toBeUndefined();
        await leases.suspect("w1", "w1-first");
        expect(await leases.register(second)).toBe("registered");
        await leases.observe("w2", "w2-first", { status: "FREE", runs: [] });
        expect(await leases.register(worker("w1"))).toEqual({ addressOf: "w2" });
        await pass(LEASE_TTL_MS, leases);
        expect(await leases.register(worker("w1"))).toBe("registered");
      });

      test("loses its id with its lease", async () => {
        const leases = await openLeases();
        await join(worker("w1"), leases);
        await pass(LEASE_TTL_MS, leases);
        expect(await leases.register(worker("w1", { incarnation: "second" }))).toBe("registered");
        expect((await view(leases, "w1"))?.incarnation).toBe("second");
        expect(await leases.observe("w1", "w1-first", { status: "FREE", runs: [] })).toBeUndefined();
      });

      test("leaves its old region when it registers in another", async () => {
        const leases = await openLeases();
        await join(worker("w1"), leases);
        await join(worker("w1", { region: "eu-central-1" }), leases);
        expect((await leases.claim(request("j1"))).kind).toBe("none");
        expect((await leases.claim(request("j1", "eu-central-1"))).kind).toBe("claimed");
      });

      test("stays alive through its pings and is LOST without them", async () => {
        const leases = await openLeases();
        await join(worker("w1"), leases);
        for (let ping = 1; ping <= 6; ping++) {
          await pass(LEASE_TTL_MS / 2, leases);
          expect((await view(leases, "w1"))?.status).toBe("FREE");
          expect(await leases.observe("w1", "w1-first", { status: "FREE", runs: [] })).toEqual([]);
        }
        await pass(LEASE_TTL_MS, leases);
        expect((await view(leases, "w1"))?.status).toBe("LOST");
        expect((await leases.claim(request("j1"))).kind).toBe("none");
        expect(await leases.freeSlots()).toEqual([]);
        // Its pings only came too late.
        expect(await leases.observe("w1", "w1-first", { status: "FREE", runs: [] })).toEqual([]);
        expect((await leases.claim(request("j1"))).kind).toBe("claimed");
      });

      test("that missed a ping gets no new job until it answers the next one, and keeps its lease and claims", async () => {
        const leases = await openLeases();
        await join(worker("w1", { slots: 2 }), leases);
        const claim = claimOf(await leases.claim(request("j1")));
        await leases.suspect("w1", "w1-first");
        expect((await view(leases, "w1"))?.status).toBe("LOST");
        expect((await leases.claim(request("j2"))).kind).toBe("none");
        expect(await leases.find("j1")).toEqual(claim);
        await leases.observe("w1", "w1-first", { status: "FREE", runs: [] });
        expect((await view(leases, "w1"))?.status).toBe("FREE");
        expect((await leases.claim(request("j2"))).kind).toBe("claimed");
      });

      test("gets no job before it has answered a ping, nor a lease time after its last answer", async () => {
        const leases = await openLeases();
        await leases.register(worker("w1"));
        expect(await view(leases, "w1")).toMatchObject({ status: "FREE", hasLease: true, isReached: false });
        expect(await leases.freeSlots()).toEqual([]);
        expect(await leases.claim(request("j1"))).toEqual({ kind: "none" });
        await leases.observe("w1", "w1-first", { status: "FREE", runs: [] });
        expect(await view(leases, "w1")).toMatchObject({ isReached: true });
        expect(await leases.freeSlots()).toEqual(free(1));

        await pass(LEASE_TTL_MS / 2, leases);
        // It registers again, as after pings that did not reach it.
        await leases.register(worker("w1"));
        await pass(LEASE_TTL_MS / 2, leases);
        expect(await view(leases, "w1")).toMatchObject({ hasLease: true, isReached: false });
        expect(await leases.freeSlots()).toEqual([]);
        expect(await leases.claim(request("j1"))).toEqual({ kind: "none" });
      });

      test("does not inherit the answered pings of its earlier incarnation", async () => {
        const leases = await openLeases();
        await join(worker("w1"), leases);
        await leases.deregister("w1", "w1-first");
        await leases.register(worker("w1", { incarnation: "second" }));
        expect(await leases.claim(request("j1"))).toEqual({ kind: "none" });
      });

      test("is not suspected when another incarnation misses a ping", async () => {
        const leases = await openLeases();
        await join(worker("w1"), leases);
        await leases.suspect("w1", "earlier");
        expect((await view(leases, "w1"))?.status).toBe("FREE");
      });

      test("that drains or is busy gets no job", async () => {
        const leases = await openLeases();
        await join(worker("w1", { slots: 2 }), leases);
        for (const status of ["DRAINING", "BUSY"] as const) {
          await leases.observe("w1", "w1-first", { status, runs: [] });
          expect((await view(leases, "w1"))?.status).toBe(status);
          expect((await leases.claim(request("j1"))).kind).toBe("none");
          expect(await leases.freeSlots()).toEqual([]);
        }
        await leases.observe("w1", "w1-first", { status: "FREE", runs: [] });
        expect((await leases.claim(request("j1"))).kind).toBe("claimed");
      });

      test("is BUSY when its slots are claimed, and FREE right after a release, even if its last ping reported BUSY", async () => {
        const leases = await openLeases();
        await join(worker("w1"), leases);
        const claim = claimOf(await leases.claim(request("j1")));
        expect((await view(leases, "w1"))?.status).toBe("BUSY");
        await leases.observe("w1", "w1-first", { status: "BUSY", runs: [claim] });
        await leases.release(claim);
        expect((await view(leases, "w1"))?.status).toBe("FREE");
        expect((await leases.claim(request("j2"))).kind).toBe("claimed");
      });

      test("that refuses new jobs reports why, and gets none until it reports that it accepts them again", async () => {
        const leases = await openLeases();
        await join(worker("w1", { slots: 2 }), leases);
        expect((await view(leases, "w1"))?.refusal).toBeUndefined();
        const claim = claimOf(await leases.claim(request("j1")));
        const refusal = "the disk has 3 MB free";
        await leases.observe("w1", "w1-first", { status: "BUSY", runs: [claim], refusal });
        expect(await view(leases, "w1")).toMatchObject({ status: "BUSY", refusal });
        // The end of its run frees a slot, but does not end the refusal.
        await leases.release(claim);
        expect(await view(leases, "w1")).toMatchObject({ status: "BUSY", refusal });
        expect((await leases.claim(request("j2"))).kind).toBe("none");
        await leases.register(worker("w1", { slots: 2 }));
        expect(await view(leases, "w1")).toMatchObject({ status: "BUSY", refusal });
        await leases.observe("w1", "w1-first", { status: "FREE", runs: [] });
        expect((await view(leases, "w1"))?.refusal).toBeUndefined();
        expect((await leases.claim(request("j2"))).kind).toBe("claimed");
      });

      test("that was restarted does not inherit the refusal of its earlier incarnation", async () => {
        const leases = await openLeases();
        await join(worker("w1"), leases);
        await leases.observe("w1", "w1-first", { status: "BUSY", runs: [], refusal: "low disk space" });
        await pass(LEASE_TTL_MS, leases);
        expect(await leases.register(worker("w1", { incarnation: "second" }))).toBe("registered");
        const known = await view(leases, "w1");
        expect(known?.status).toBe("FREE");
        expect(known?.refusal).toBeUndefined();
      });

      test("that deregisters is removed at once with its claims, but not by an earlier incarnation", async () => {
        const leases = await openLeases();
        await join(worker("w1"), leases);
        await leases.claim(request("j1"));
        await leases.deregister("w1", "earlier");
        expect(await leases.find("j1")).toBeDefined();
        await leases.deregister("w1", "w1-first");
        expect(await leases.workers()).toEqual([]);
        expect(await leases.find("j1")).toBeUndefined();
        expect(await leases.observe("w1", "w1-first", { status: "FREE", runs: [] })).toBeUndefined();
        await join(worker("w1", { incarnation: "second" }), leases);
        expect(claimOf(await leases.claim(request("j1"))).attempt).toBe(2);
      });

      test("that is unknown is not observed", async () => {
        const leases = await openLeases();
        expect(await leases.observe("w1", "w1-first", { status: "FREE", runs: [] })).toBeUndefined();
        await leases.suspect("w1", "w1-first");
        await leases.deregister("w1", "w1-first");
        expect(await leases.workers()).toEqual([]);
      });
    });

    describe("a worker that an operator has taken out of service", () => {
      const target = { kind: "worker", name: "w1" } as const;
      const reason = "new disk";

      for (const kind of ["paused", "drained"] as const) {
        test(`and ${kind}, gets no job, keeps its claims, and gets jobs again once it is resumed`, async () => {
          const leases = await openLeases();
          await join(worker("w1", { slots: 3 }), leases);
          const claim = claimOf(await leases.claim(request("j1")));
          expect(await leases.control(target, { kind, reason })).toMatchObject({ kind: "done" });
          expect(await view(leases, "w1")).toMatchObject({
            status: kind === "paused" ? "BUSY" : "DRAINING",
            refusal: kind === "paused" ? "paused by an operator: new disk" : undefined,
            control: { kind, reason, scope: "worker", since: expect.any(Date) },
            jobs: ["j1"],
          });
          expect(await leases.claim(request("j2"))).toEqual({ kind: "none" });
          expect(await leases.freeSlots()).toEqual([]);
          expect((await leases.claim(request("j1"))).kind).toBe("held");
          expect(await leases.observe("w1", "w1-first", { status: "FREE", runs: [claim] })).toEqual([]);
          expect(await leases.confirm(claim, "w1", "w1-first")).toBe(LEASE_TTL_MS);
          await leases.release(claim);
          expect(await leases.claim(request("j2"))).toEqual({ kind: "none" });

          await leases.control(target, undefined);
          expect(await view(leases, "w1")).toMatchObject({ status: "FREE", control: undefined });
          expect(await leases.freeSlots()).toEqual(free(3));
          expect((await leases.claim(request("j2"))).kind).toBe("claimed");
        });
      }

      test("stays so when it registers again, with the same incarnation or another", async () => {
        const leases = await openLeases();
        await join(worker("w1"), leases);
        await leases.control(target, { kind: "paused", reason: "" });
        const since = (await view(leases, "w1"))?.control?.since;
        await join(worker("w1"), leases);
        expect(await view(leases, "w1")).toMatchObject({ status: "BUSY", refusal: "paused by an operator" });
        await leases.deregister("w1", "w1-first");
        await join(worker("w1", { incarnation: "second", region: "eu-west-1" }), leases);
        expect(await leases.claim(request("j1", "eu-west-1"))).toEqual({ kind: "none" });
        expect(await leases.freeSlots()).toEqual([]);
        expect((await view(leases, "w1"))?.control).toEqual({
          kind: "paused",
          reason: "",
          scope: "worker",
          since: since as Date,
        });
      });

      test("is not chosen by any orchestrator's claim that follows, while others get the jobs", async () => {
        const shared = await store();
        const orchestrators = [await shared.open(), await shared.open()];
        const [one, other] = orchestrators as [Leases, Leases];
        await join(worker("w1", { slots: 64 }), one, other);
        await join(worker("w2", { slots: 64 }), one, other);
        let isPaused = false;
        const workersOfLaterClaims: string[] = [];
        const hammer = async (leases: Leases, name: string) => {
          for (let job = 0; job < 40; job += 1) {
            const isLater = isPaused;
            const outcome = await leases.claim(request(`${name}-${job}`));
            if (isLater && outcome.kind === "claimed") workersOfLaterClaims.push(outcome.claim.workerId);
          }
        };
        const hammering = Promise.all([hammer(one, "a"), hammer(other, "b"), hammer(one, "c")]);
        await one.control(target, { kind: "paused", reason });
        isPaused = true;
        await hammering;
        expect(workersOfLaterClaims.length).toBeGreaterThan(0);
        expect(new Set(workersOfLaterClaims)).toEqual(new Set(["w2"]));
      });

      test("keeps `since` and its reason when it is paused again, and has another one when it is drained instead", async () => {
        const leases = await openLeases();
        await join(worker("w1"), leases);
        await leases.control(target, { kind: "paused", reason: "one" });
        const first = (await view(leases, "w1"))?.control;
        await leases.control(target, { kind: "paused", reason: "two" });
        expect((await view(leases, "w1"))?.control).toEqual({ ...first, reason: "two" } as typeof first);
        await leases.control(target, { kind: "paused", reason: "" });
        expect((await view(leases, "w1"))?.control).toEqual({ ...first, reason: "two" } as typeof first);
        await leases.control(target, { kind: "drained", reason: "three" });
        const now = await view(leases, "w1");
        expect(now).toMatchObject({ status: "DRAINING", control: { kind: "drained", reason: "three" } });
        expect(now?.control?.since.getTime()).toBeGreaterThanOrEqual(first?.since.getTime() as number);
      });

      test("may be lost or have left; one that was never known is unknown", async () => {
        const leases = await openLeases();
        expect(await leases.control(target, { kind: "paused", reason })).toEqual({ kind: "unknown" });
        expect(await leases.control(target, undefined)).toEqual({ kind: "unknown" });
        await join(worker("w1"), leases);
        expect(await leases.control(target, undefined)).toMatchObject({ kind: "done" });
        await pass(LEASE_TTL_MS, leases);
        expect(await leases.control(target, { kind: "paused", reason })).toMatchObject({ kind: "done" });
        expect(await view(leases, "w1")).toMatchObject({ status: "LOST", control: { kind: "paused" } });
        await leases.deregister("w1", "w1-first");
        expect(await leases.control(target, { kind: "drained", reason })).toMatchObject({
          kind: "done",
          control: { kind: "drained", reason, since: expect.any(Date) },
        });
        expect(await leases.control(target, undefined)).toMatchObject({ kind: "done", control: undefined });
        await join(worker("w1", { incarnation: "second" }), leases);
        expect((await leases.claim(request("j1"))).kind).toBe("claimed");
      });

      test("can build the jobs that only it can build, so that they wait", async () => {
        const leases = await openLeases();
        await join(worker("w1", { capabilities: ["secrets"] }), leases);
        await join(worker("w2"), leases);
        await leases.control(target, { kind: "drained", reason });
        expect(await leases.claim({ ...request("j1"), needs: ["secrets"] })).toEqual({ kind: "none" });
      });

      test("reports no change with its pings", async () => {
        const leases = await openLeases();
        await join(worker("w1"), leases);
        await leases.control(target, { kind: "paused", reason });
        let changes = 0;
        leases.onChange(() => (changes += 1));
        const pings = Array.from({ length: 20 });
        for (const _ping of pings) await leases.observe("w1", "w1-first", { status: "FREE", runs: [] });
        let hasRegistered = false;
        leases.onRegistered(() => (hasRegistered = true));
        await leases.register(worker("w2"));
        await waitFor(() => hasRegistered, { timeoutMs: TIMEOUT_MS, what: "the change after the pings" });
        // Those of the worker's start and of its pause may arrive late.
        expect(changes).toBeLessThan(pings.length / 2);
      });

      test("is reported as a change when it is resumed", async () => {
        const leases = await openLeases();
        await join(worker("w1"), leases);
        await leases.control(target, { kind: "paused", reason });
        let changes = 0;
        leases.onChange(() => (changes += 1));
        const resumed = async () => {
          await leases.control(target, undefined);
          return changes > 0;
        };
        await waitFor(resumed, { timeoutMs: TIMEOUT_MS, what: "the change" });
      });
    });

    describe("a drained region", () => {
      const target = { kind: "region", name: REGION } as const;
      const order = { kind: "drained", reason: "power cut" } as const;

      test("gets no jobs, neither for its workers nor for those that register later, and others are preferred at once", async () => {
        const leases = await openLeases();
        await join(worker("near"), leases);
        await join(worker("far", { region: "eu-west-1", slots: 2 }), leases);
        expect(await leases.control(target, order)).toMatchObject({ kind: "done" });
        await join(worker("late"), leases);
        expect(claimOf(await leases.claim(request("j1", REGION, "eu-west-1"))).workerId).toBe("far");
        expect(await leases.claim(request("j2"))).toEqual({ kind: "none" });
        expect(await leases.freeSlots()).toEqual(free(1, "eu-west-1"));
        for (const workerId of ["near", "late"])
          expect(await view(leases, workerId)).toMatchObject({
            status: "DRAINING",
            control: { ...order, scope: "region" },
          });
        expect((await view(leases, "far"))?.control).toBeUndefined();
        expect([...(await leases.drainedRegions())]).toMatchObject([[REGION, order]]);

        await leases.control(target, undefined);
        expect([...(await leases.drainedRegions())]).toEqual([]);
        expect((await leases.claim(request("j2"))).kind).toBe("claimed");
      });

      test("and a worker of it are resumed separately", async () => {
        const leases = await openLeases();
        await join(worker("w1"), leases);
        await leases.control(target, order);
        await leases.control({ kind: "worker", name: "w1" }, { kind: "paused", reason: "" });
        expect(await view(leases, "w1")).toMatchObject({
          status: "DRAINING",
          refusal: "paused by an operator",
          control: { kind: "paused", scope: "worker" },
        });
        await leases.control(target, undefined);
        expect(await view(leases, "w1")).toMatchObject({ status: "BUSY", control: { kind: "paused" } });
        expect(await leases.claim(request("j1"))).toEqual({ kind: "none" });
        await leases.control({ kind: "worker", name: "w1" }, undefined);
        expect((await leases.claim(request("j1"))).kind).toBe("claimed");
      });
    });

    describe("the view of a worker", () => {
      test("has its labels, the load that it reported last, and its runs", async () => {
        const leases = await openLeases();
        const load = {
          loadAverage: 0.5,
          processors: 2,
          memoryBytes: 8e9,
          memoryAvailableBytes: 4e9,
          diskBytes: 1e12,
          diskFreeBytes: 5e11,
          cacheBytes: 0,
        };
        await join(worker("w1", { slots: 2, labels: { rack: "7" }, keepsId: true }), leases);
        const reported = [{ jobId: "reported", attempt: 4 }];
        await leases.observe("w1", "w1-first", { status: "FREE", runs: reported, load });
        await leases.claim(request("claimed"));
        const known = await view(leases, "w1");
        expect(known).toMatchObject({ labels: { rack: "7" }, keepsId: true, load });
        expect(known?.runs.toSorted(byJob)).toEqual([
          { jobId: "claimed", attempt: 1, since: expect.any(Date) },
          { jobId: "reported", attempt: 4, since: undefined },
        ]);
        const since = (await view(leases, "w1"))?.runs.toSorted(byJob)[0]?.since;
        await leases.observe("w1", "w1-first", {
          status: "BUSY",
          runs: [...reported, { jobId: "claimed", attempt: 1 }],
        });
        const later = await view(leases, "w1");
        expect(later?.load).toBeUndefined();
        expect(later?.runs.toSorted(byJob)[0]?.since).toEqual(since as Date);
      });

      test("has no labels and no load by default", async () => {
        const leases = await openLeases();
        await leases.register(worker("w1"));
        expect(await view(leases, "w1")).toMatchObject({ labels: {}, keepsId: false, load: undefined });
      });
    });

    describe("a claim", () => {
      test("names worker, incarnation, address and attempt, and is found", async () => {
        const leases = await openLeases();
        await join(worker("w1"), leases);
        const outcome = await leases.claim(request("j1"));
        const claim = {
          jobId: "j1",
          attempt: 1,
          workerId: "w1",
          incarnation: "w1-first",
          address: "w1.example:6000",
        };
        expect(outcome).toEqual({
          kind: "claimed",
          claim,
          choice: { region: REGION, hasBuiltSource: false },
        });
        expect(await leases.find("j1")).toEqual(claim);
        expect((await view(leases, "w1"))?.jobs).toEqual(["j1"]);
        expect(await leases.find("j2")).toBeUndefined();
      });

      test("is returned as held to every later request, from any orchestrator and for any region", async () => {
        const shared = await store();
        const [one, other] = [await shared.open(), await shared.open()];
        await join(worker("w1", { slots: 5 }), one);
        const claim = claimOf(await one.claim(request("j1")));
        expect(await other.claim(request("j1", "elsewhere-1"))).toEqual({ kind: "held", claim });
        expect(await one.claim(request("j1"))).toEqual({ kind: "held", claim });
        expect(await one.freeSlots()).toEqual(free(4));
      });

      test("prefers any other worker to the avoided one, also in another region, and uses that one if no other is free", async () => {
        const leases = await openLeases();
        await join(worker("a"), leases);
        await join(worker("b", { region: "far" }), leases);
        const ask = (jobId: string) => leases.claim({ jobId, regions: [REGION, "far"], avoidWorkerId: "a" });
        expect(claimOf(await ask("one")).workerId).toBe("b");
        expect(claimOf(await ask("two")).workerId).toBe("a");
        expect((await ask("three")).kind).toBe("none");
      });

      test("has a higher attempt than the job's message records", async () => {
        const leases = await openLeases();
        await join(worker("a", { slots: 2 }), leases);
        const attemptOf = async (attempts: number) =>
          claimOf(await leases.claim({ jobId: `after-${attempts}`, regions: [REGION], attempts })).attempt;
        expect(await attemptOf(0)).toBe(1);
        expect(await attemptOf(2)).toBe(3);
      });

      test("goes to a worker with the needed capabilities, and the others' slots stay free", async () => {
        const leases = await openLeases();
        await join(worker("plain", { slots: 9, capabilities: ["linux/amd64"] }), leases);
        await join(worker("able", { capabilities: ["linux/amd64", "linux/arm64", "secrets"] }), leases);
        const ask = (jobId: string, ...needs: string[]) => leases.claim({ ...request(jobId), needs });
        expect(claimOf(await ask("j1", "linux/arm64", "secrets")).workerId).toBe("able");
        expect(await ask("j2", "linux/arm64")).toEqual({ kind: "none" });
        expect(claimOf(await ask("j3", "linux/amd64")).workerId).toBe("plain");
        expect(await leases.freeSlots()).toEqual([
          { region: REGION, capabilities: ["linux/amd64"], free: 8 },
        ]);
        expect((await view(leases, "able"))?.capabilities).toEqual(["linux/amd64", "linux/arm64", "secrets"]);
      });

      test("matches only the whole name of a capability", async () => {
        const leases = await openLeases();
        await join(worker("w1", { capabilities: ["linux/arm/v7", "linux/amd64"] }), leases);
        for (const need of ["linux/arm", "arm/v7", "linux/amd6", "linux.amd64"])
          expect((await leases.claim({ ...request("j1"), needs: [need] })).kind).toBe("incapable");
      });

      test("goes to a capable worker of the next region before an incapable one of the first", async () => {
        const leases = await openLeases();
        await join(worker("near"), leases);
        await join(worker("far", { region: "far-1", capabilities: ["secrets"] }), leases);
        const outcome = await leases.claim({ ...request("j1", REGION, "far-1"), needs: ["secrets"] });
        expect(claimOf(outcome).workerId).toBe("far");
      });

      test("that no live worker can serve is reported as incapable, with its duration and attempts", async () => {
        const shared = await store();
        const [one, other] = [await shared.open(), await shared.open()];
        const ask = (leases: Leases) => leases.claim({ ...request("j1"), needs: ["secrets"], attempts: 2 });
        const forMs = async (leases: Leases) => {
          const outcome = await ask(leases);
          if (outcome.kind !== "incapable") throw new Error(`the claim was ${outcome.kind}`);
          return outcome.forMs;
        };
        expect(await ask(one)).toEqual({ kind: "none" });
        await join(worker("w1"), one);
        expect(await ask(one)).toMatchObject({ kind: "incapable", attempts: 2 });
        // Requests of both orchestrators share one duration.
        await pass(20_000, one);
        expect(await forMs(other)).toBeGreaterThanOrEqual(20_000);
        await pass(20_000, one);
        expect(await forMs(one)).toBeGreaterThanOrEqual(40_000);

        // The job waits for a worker that can build it but is not free.
        await join(worker("able", { capabilities: ["secrets"] }), one);
        await one.observe("able", "able-first", { status: "DRAINING", runs: [] });
        expect(await ask(one)).toEqual({ kind: "none" });
        await one.deregister("able", "able-first");
        expect(await forMs(one)).toBe(0);
        await one.deregister("w1", "w1-first");
        expect(await ask(one)).toEqual({ kind: "none" });
      });

      test("goes to the worker that built its source last, among equally free ones", async () => {
        const leases = await openLeases();
        for (const id of ["a", "b", "c"]) await join(worker(id, { slots: 2 }), leases);
        let jobs = 0;
        const build = async (source?: string, avoidWorkerId?: string) => {
          const claim = claimOf(await leases.claim({ ...request(`j${jobs++}`), source, avoidWorkerId }));
          return { claim, workerId: claim.workerId, end: () => leases.release(claim) };
        };
        const first = await build("one");
        const second = await build("two");
        await first.end();
        await second.end();
        expect([first.workerId, second.workerId]).toEqual(["a", "b"]);
        const again = await build("one");
        expect(again.workerId).toBe("a");
        // It has one slot left, the others have two.
        const meanwhile = await build("one");
        expect(meanwhile.workerId).toBe("c");
        await again.end();
        await meanwhile.end();
        const retry = await build("one", "c");
        expect(retry.workerId).toBe("a");
        await retry.end();
        const last = await build("one");
        expect(last.workerId).toBe("a");
        await last.end();
        expect((await build("unknown")).workerId).toBe("b");
      });

      test("names what decided for its worker: its region, and that it has built the source", async () => {
        const leases = await openLeases();
        await join(worker("near", { slots: 2 }), leases);
        await join(worker("far", { region: "far-1" }), leases);
        const choiceOf = async (jobId: string, source?: string) => {
          const outcome = await leases.claim({ ...request(jobId, REGION, "far-1"), source });
          return outcome.kind === "claimed" ? outcome.choice : outcome;
        };
        expect(await choiceOf("j1", "one")).toEqual({ region: REGION, hasBuiltSource: false });
        expect(await choiceOf("j2", "one")).toEqual({ region: REGION, hasBuiltSource: true });
        expect(await choiceOf("j3", "one")).toEqual({ region: "far-1", hasBuiltSource: false });
        for (const jobId of ["j1", "j2"]) await leases.release((await leases.find(jobId)) as Claim);
        expect(await choiceOf("j4")).toEqual({ region: REGION, hasBuiltSource: false });
      });

      test("tries regions in the requested order", async () => {
        const leases = await openLeases();
        await join(worker("near"), leases);
        await join(worker("far", { region: "eu-central-1", slots: 9 }), leases);
        expect(claimOf(await leases.claim(request("j1", REGION, "eu-central-1"))).workerId).toBe("near");
        expect(claimOf(await leases.claim(request("j2", REGION, "eu-central-1"))).workerId).toBe("far");
        expect(await leases.claim(request("j3", REGION))).toEqual({ kind: "none" });
        expect(await leases.claim(request("j3", "nowhere-1"))).toEqual({ kind: "none" });
        expect(await leases.claim({ jobId: "j3", regions: [] })).toEqual({ kind: "none" });
      });

      test("goes to the worker with the most free slots, then to the one least recently used", async () => {
        const leases = await openLeases();
        await join(worker("w1"), leases);
        await join(worker("w2"), leases);
        await join(worker("big", { slots: 3 }), leases);
        const order: string[] = [];
        for (let index = 0; index < 5; index++) {
          order.push(claimOf(await leases.claim(request(`j${index}`))).workerId);
        }
        expect(order).toEqual(["big", "big", "w1", "w2", "big"]);
        for (const [index, workerId] of order.entries()) {
          const claim = await leases.find(`j${index}`);
          if (claim && workerId !== "big") await leases.release(claim);
        }
        expect(claimOf(await leases.claim(request("again-1"))).workerId).toBe("w1");
      });

      test("ends permanently with its release", async () => {
        const leases = await openLeases();
        await join(worker("w1"), leases);
        const claim = claimOf(await leases.claim(request("j1")));
        await leases.release(claim);
        expect(await leases.find("j1")).toBeUndefined();
        expect(await leases.freeSlots()).toEqual(free(1));
        // A ping that was in flight during the release.
        await leases.observe("w1", "w1-first", { status: "FREE", runs: [claim] });
        expect(await leases.find("j1")).toBeUndefined();
        expect(await leases.confirm(claim, "w1", "w1-first")).toBeUndefined();
        await leases.release(claim);
        const next = claimOf(await leases.claim(request("j1")));
        expect(next.attempt).toBe(2);
        await leases.release(claim);
        expect(await leases.find("j1")).toEqual(next);
      });

      test("of a run that its worker refused is freed, and the next claim gets the same attempt", async () => {
        const leases = await openLeases();
        await join(worker("w1"), leases);
        await join(worker("w2"), leases);
        const refused = claimOf(await leases.claim(request("j1")));
        await leases.retract(refused);
        expect(await leases.find("j1")).toBeUndefined();
        expect(await leases.freeSlots()).toEqual(free(2));
        const next = claimOf(await leases.claim(request("j1")));
        expect(next).toMatchObject({ attempt: 1, workerId: refused.workerId === "w1" ? "w2" : "w1" });
        // A second refusal after another worker has claimed the job.
        await leases.retract(refused);
        expect(await leases.find("j1")).toEqual(next);
        await leases.release(next);
        await leases.retract(next);
        expect(claimOf(await leases.claim(request("j1"))).attempt).toBe(2);
      });

      describe("that no call has reached the worker for", () => {
        async function claimed() {
          const leases = await openLeases();
          await join(worker("w1"), leases);
          const claim = claimOf(await leases.claim(request("j1")));
          return { leases, claim, run: { jobId: "j1", attempt: claim.attempt } };
        }

        test("is freed, and the next claim gets the same attempt", async () => {
          const { leases, claim } = await claimed();
          await join(worker("w2"), leases);
          await leases.suspect("w1", "w1-first");
          expect(await leases.retractUnsent(claim)).toBeTrue();
          expect(await leases.find("j1")).toBeUndefined();
          const next = claimOf(await leases.claim(request("j1")));
          expect(next).toMatchObject({ workerId: "w2", attempt: 1 });
          // A second call, now that another worker has the attempt.
          expect(await leases.retractUnsent(claim)).toBeFalse();
          expect(await leases.find("j1")).toEqual(next);
        });

        test("does not use up its attempt when it has expired", async () => {
          const { leases, claim } = await claimed();
          await pass(LEASE_TTL_MS, leases);
          expect(await leases.find("j1")).toBeUndefined();
          expect(await leases.retractUnsent(claim)).toBeTrue();
          await leases.observe("w1", "w1-first", { status: "FREE", runs: [] });
          expect(claimOf(await leases.claim(request("j1"))).attempt).toBe(1);
        });

        test("stays when another caller has got it, who may have called the worker", async () => {
          const { leases, claim } = await claimed();
          expect((await leases.claim(request("j1"))).kind).toBe("held");
          expect(await leases.retractUnsent(claim)).toBeFalse();
          expect(await leases.find("j1")).toEqual(claim);
        });

        test("stays when the worker has reported or confirmed its run", async () => {
          const reported = await claimed();
          const { leases, claim, run } = reported;
          await leases.observe("w1", "w1-first", { status: "BUSY", runs: [run] });
          expect(await leases.retractUnsent(claim)).toBeFalse();
          expect(await leases.find("j1")).toEqual(claim);

          const confirmed = await claimed();
          await confirmed.leases.confirm(confirmed.run, "w1", "w1-first");
          expect(await confirmed.leases.retractUnsent(confirmed.claim)).toBeFalse();
          expect(await confirmed.leases.find("j1")).toEqual(confirmed.claim);
        });

        test("has ended when it was released or fenced, or is not known any more", async () => {
          const released = await claimed();
          await released.leases.release(released.claim);
          expect(await released.leases.retractUnsent(released.claim)).toBeFalse();
          const fenced = await claimed();
          await fenced.leases.fence(fenced.claim, { evenIfAlive: true });
          expect(await fenced.leases.retractUnsent(fenced.claim)).toBeFalse();
          const { claim } = await claimed();
          const empty = await openLeases();
          expect(await empty.retractUnsent(claim)).toBeFalse();
        });
      });

      test("ends one lease time after its creation unless its run is reported", async () => {
        const leases = await openLeases();
        await join(worker("w1"), leases);
        await leases.claim(request("j1"));
        await pass(LEASE_TTL_MS / 2, leases);
        await leases.observe("w1", "w1-first", { status: "FREE", runs: [] });
        expect(await leases.find("j1")).toBeDefined();
        await pass(LEASE_TTL_MS / 2, leases);
        expect(await leases.find("j1")).toBeUndefined();
        const next = claimOf(await leases.claim(request("j1")));
        expect(next.attempt).toBe(2);
      });

      test("stays valid as long as its run is reported", async () => {
        const leases = await openLeases();
        await join(worker("w1"), leases);
        const claim = claimOf(await leases.claim(request("j1")));
        for (let ping = 1; ping <= 6; ping++) {
          await pass(LEASE_TTL_MS / 2, leases);
          expect(await leases.find("j1")).toEqual(claim);
          await leases.observe("w1", "w1-first", { status: "BUSY", runs: [claim] });
        }
        await pass(LEASE_TTL_MS, leases);
        expect(await leases.find("j1")).toBeUndefined();
        expect((await view(leases, "w1"))?.jobs).toEqual([]);
      });

      test("is not extended by another worker, incarnation or attempt", async () => {
        const leases = await openLeases();
        await join(worker("w1"), leases);
        const claim = claimOf(await leases.claim(request("j1")));
        await join(worker("w2"), leases);
        await pass(LEASE_TTL_MS / 2, leases);
        await leases.observe("w1", "earlier", { status: "FREE", runs: [claim] });
        await leases.observe("w1", "w1-first", { status: "FREE", runs: [{ jobId: "j1", attempt: 0 }] });
        await leases.observe("w2", "w2-first", { status: "FREE", runs: [claim] });
        expect(await leases.find("j1")).toEqual(claim);
        await pass(LEASE_TTL_MS / 2, leases);
        expect(await leases.find("j1")).toBeUndefined();
      });

      test("that ended while its worker missed pings is restored by the next ping, if the job has no other claim", async () => {
        const leases = await openLeases();
        await join(worker("w1"), leases);
        const claim = claimOf(await leases.claim(request("j1")));
        await pass(LEASE_TTL_MS, leases);
        expect(await leases.find("j1")).toBeUndefined();
        await leases.observe("w1", "w1-first", { status: "BUSY", runs: [claim] });
        expect(await leases.find("j1")).toEqual(claim);
      });

      test("is not restored once another worker has claimed the job", async () => {
        const leases = await openLeases();
        await join(worker("w1"), leases);
        const lost = claimOf(await leases.claim(request("j1")));
        await pass(LEASE_TTL_MS, leases);
        expect(await leases.find("j1")).toBeUndefined();
        await join(worker("w2"), leases);
        const next = claimOf(await leases.claim(request("j1")));
        expect(next).toMatchObject({ workerId: "w2", attempt: 2 });
        await leases.observe("w1", "w1-first", { status: "BUSY", runs: [lost] });
        expect(await leases.find("j1")).toEqual(next);
        expect(await leases.confirm(lost, "w1", "w1-first")).toBeUndefined();
        await leases.release(lost);
        expect(await leases.find("j1")).toEqual(next);
        expect(await leases.confirm(next, "w2", "w2-first")).toBe(LEASE_TTL_MS);
      });

      test("is not restored either when that worker's claim has ended, too", async () => {
        const leases = await openLeases();
        await join(worker("w1"), leases);
        const first = claimOf(await leases.claim(request("j1")));
        await pass(LEASE_TTL_MS, leases);
        await join(worker("w2"), leases);
        claimOf(await leases.claim(request("j1")));
        await pass(LEASE_TTL_MS, leases);
        await join(worker("w1"), leases);
        const stale = await leases.observe("w1", "w1-first", { status: "BUSY", runs: [first] });
        expect(stale).toEqual([first]);
        expect(await leases.find("j1")).toBeUndefined();
        expect(await leases.confirm(first, "w1", "w1-first")).toBeUndefined();
      });
    });

    describe("a cancelled job", () => {
      const cancelled = { kind: "cancelled", reason: "not wanted" } as const;
      const cancel = (leases: Leases) => leases.cancel("j1", "not wanted");

      test("that waits gets no more claims, and keeps its first reason", async () => {
        const leases = await openLeases();
        await join(worker("w1"), leases);
        expect(await leases.cancellation("j1")).toBeUndefined();
        expect(await cancel(leases)).toEqual({ kind: "unclaimed", attempts: 0 });
        await leases.cancel("j1", "another reason");
        expect(await leases.cancellation("j1")).toBe("not wanted");
        expect(await leases.claim(request("j1"))).toEqual({ ...cancelled, attempts: 0 });
        expect(await leases.claim({ ...request("j1"), attempts: 2 })).toEqual({ ...cancelled, attempts: 2 });
        expect((await leases.claim(request("j2"))).kind).toBe("claimed");
      });

      test("that runs keeps its claim until its run ends, but the run is no longer confirmed", async () => {
        const leases = await openLeases();
        await join(worker("w1"), leases);
        const claim = claimOf(await leases.claim(request("j1")));
        const run = { jobId: "j1", attempt: 1 };
        expect(await leases.confirm(run, "w1", "w1-first")).toBeGreaterThan(0);
        expect(await cancel(leases)).toEqual({ kind: "claimed", claim });
        expect(await leases.confirm(run, "w1", "w1-first")).toBeUndefined();
        expect(await leases.observe("w1", "w1-first", { status: "BUSY", runs: [run] })).toEqual([]);
        expect(await leases.claim(request("j1"))).toEqual({ kind: "held", claim });
        await leases.release(claim);
        expect(await leases.claim(request("j1"))).toEqual({ ...cancelled, attempts: 1 });
      });

      test("whose claim has ended does not get it back when its worker reports the run again", async () => {
        const leases = await openLeases();
        await join(worker("w1"), leases);
        await leases.claim(request("j1"));
        await pass(LEASE_TTL_MS, leases);
        expect(await leases.find("j1")).toBeUndefined();
        expect(await cancel(leases)).toEqual({ kind: "unclaimed", attempts: 1 });
        const run = { jobId: "j1", attempt: 1 };
        expect(await leases.observe("w1", "w1-first", { status: "BUSY", runs: [run] })).toEqual([run]);
        expect(await leases.find("j1")).toBeUndefined();
      });

      test("is listed for every orchestrator until it has ended", async () => {
        const shared = await store();
        const [leases, other] = [await shared.open(), await shared.open()];
        await cancel(leases);
        await leases.cancel("j2", "");
        expect((await other.cancelling()).toSorted(byJob)).toEqual([
          { jobId: "j1", reason: "not wanted" },
          { jobId: "j2", reason: "" },
        ]);
        await other.cancelEnded("j1");
        await leases.cancelEnded("unknown");
        expect(await leases.cancelling()).toEqual([{ jobId: "j2", reason: "" }]);
        expect(await leases.cancellation("j1")).toBe("not wanted");
      });

      test("is forgotten with the job memory", async () => {
        const jobMemoryMs = LEASE_TTL_MS / 2;
        const leases = await openLeases({ ...TIMES, jobMemoryMs });
        await join(worker("w1"), leases);
        await cancel(leases);
        await pass(jobMemoryMs / 2, leases);
        expect(await leases.cancellation("j1")).toBe("not wanted");
        await pass(jobMemoryMs / 2, leases);
        expect(await leases.cancellation("j1")).toBeUndefined();
        expect(await leases.cancelling()).toEqual([]);
        expect((await leases.claim(request("j1"))).kind).toBe("claimed");
      });

      test("may still be running during the settle time", async () => {
        const settleMs = LEASE_TTL_MS / 2;
        const leases = await openLeases({ ...TIMES, settleMs });
        expect(await cancel(leases)).toEqual({ kind: "unknown" });
        await pass(settleMs, leases);
        expect(await cancel(leases)).toEqual({ kind: "unclaimed", attempts: 0 });
      });
    });

    describe("a claim is alive", () => {
      const fenced = { kind: "fenced", confirmedForMs: 0 } as const;
      const alive = { kind: "alive" } as const;

      test("until it is released or another attempt has the job", async () => {
        const leases = await openLeases();
        await join(worker("w1"), leases);
        const claim = claimOf(await leases.claim(request("j1")));
        expect(await leases.fence(claim)).toEqual(alive);
        expect(await leases.fence({ ...claim, incarnation: "another" })).toEqual(fenced);
        expect(await leases.fence(claim)).toEqual(alive);
        await pass(LEASE_TTL_MS, leases);
        expect(await leases.fence(claim)).toEqual(fenced);
        await join(worker("w1"), leases);
        const next = claimOf(await leases.claim(request("j1")));
        expect([await leases.fence(claim), await leases.fence(next)]).toEqual([fenced, alive]);
        await leases.release(next);
        expect(await leases.fence(next)).toEqual(fenced);
      });

      test("during the settle time, when its worker may still report it", async () => {
        const settleMs = LEASE_TTL_MS / 2;
        const leases = await openLeases({ ...TIMES, settleMs });
        const claim: Claim = { ...worker("w1"), jobId: "j1", attempt: 2 };
        expect(await leases.fence(claim)).toEqual(alive);
        await pass(settleMs, leases);
        expect(await leases.fence(claim)).toEqual(fenced);
      });

      test("after nearly a lease time without any call, since no ping could be recorded in it", async () => {
        const settleMs = LEASE_TTL_MS / 2;
        const leases = await openLeases({ ...TIMES, settleMs });
        await join(worker("w1"), leases);
        await pass(settleMs, leases);
        await leases.observe("w1", "w1-first", { status: "FREE", runs: [] });
        const claim = claimOf(await leases.claim(request("j1")));
        await pass(LEASE_TTL_MS / 8, leases);
        await Promise.all(stores.map((each) => each.advance((LEASE_TTL_MS * 7) / 8)));
        expect(await leases.fence(claim)).toEqual(alive);
        await join(worker("w1", { runs: [{ jobId: "j1", attempt: 1 }] }), leases);
        await pass(settleMs, leases);
        expect(await leases.fence(claim)).toEqual(alive);
      });

      test("again when its run is reported before the fence is closed", async () => {
        const { leases, claim, run } = await expiredClaim();
        expect(await leases.observe("w1", "w1-first", { status: "BUSY", runs: [run] })).toEqual([]);
        expect(await leases.fence(claim)).toEqual(alive);
        expect(await leases.confirm(run, "w1", "w1-first")).toBe(LEASE_TTL_MS);
      });

      test("never again when its run is reported after the fence was closed", async () => {
        const { leases, claim, run } = await expiredClaim();
        expect(await leases.fence(claim)).toEqual(fenced);
        expect(await leases.observe("w1", "w1-first", { status: "BUSY", runs: [run] })).toEqual([run]);
        expect(await leases.confirm(run, "w1", "w1-first")).toBeUndefined();
        await join(worker("w1", { runs: [run] }), leases);
        expect(await leases.confirm(run, "w1", "w1-first")).toBeUndefined();
        expect(await leases.find("j1")).toBeUndefined();
        await join(worker("w2"), leases);
        expect(claimOf(await leases.claim(request("j1"))).attempt).toBe(run.attempt + 1);
      });

      test("only until its earlier confirmation ends, when its attempt is ended in any case", async () => {
        const leases = await openLeases();
        await join(worker("w1"), leases);
        const claim = claimOf(await leases.claim(request("j1")));
        const run = { jobId: "j1", attempt: 1 };
        expect(await leases.confirm(run, "w1", "w1-first")).toBe(LEASE_TTL_MS);
        const fence = await leases.fence(claim, { evenIfAlive: true });
        if (fence.kind !== "fenced") throw new Error("the claim is alive");
        expect(fence.confirmedForMs).toBeGreaterThan(LEASE_TTL_MS - TIMEOUT_MS);
        expect(fence.confirmedForMs).toBeLessThanOrEqual(LEASE_TTL_MS);
        expect(await leases.confirm(run, "w1", "w1-first")).toBeUndefined();
        // Until then no other attempt begins, and no report extends the time.
        await pass(LEASE_TTL_MS / 2, leases);
        expect(await leases.observe("w1", "w1-first", { status: "BUSY", runs: [run] })).toEqual([run]);
        expect(claimOf(await leases.claim(request("j1")))).toEqual(claim);
        await pass(LEASE_TTL_MS / 2, leases);
        await leases.observe("w1", "w1-first", { status: "FREE", runs: [] });
        expect(claimOf(await leases.claim(request("j1"))).attempt).toBe(2);
      });

      /** Its worker's lease is alive: it answers pings without reporting the run. */
      async function expiredClaim() {
        const leases = await openLeases();
        await join(worker("w1"), leases);
        const claim = claimOf(await leases.claim(request("j1")));
        for (let quarter = 0; quarter < 4; quarter += 1) {
          await pass(LEASE_TTL_MS / 4, leases);
          await leases.observe("w1", "w1-first", { status: "FREE", runs: [] });
        }
        expect(await leases.find("j1")).toBeUndefined();
        return { leases, claim, run: { jobId: "j1", attempt: claim.attempt } };
      }
    });

    describe("a stale run", () => {
      test("is reported when the job has another claim, or has ended", async () => {
        const { leases, run } = await lostRun();
        await join(worker("w2"), leases);
        const next = claimOf(await leases.claim({ jobId: run.jobId, regions: [REGION] }));
        expect(next.attempt).toBe(run.attempt + 1);
        const stale = () => leases.observe("w1", "w1-first", { status: "BUSY", runs: [run] });
        expect(await stale()).toEqual([run]);
        await leases.release(next);
        expect(await stale()).toEqual([run]);
        expect(await leases.find(run.jobId)).toBeUndefined();
      });

      test("is not reported while the job has no other claim", async () => {
        const { leases, run } = await lostRun();
        expect(await leases.observe("w1", "w1-first", { status: "BUSY", runs: [run] })).toEqual([]);
      });

      /** A run whose live worker missed pings until the claim ended. */
      async function lostRun() {
        const leases = await openLeases();
        await join(worker("w1"), leases);
        const { jobId, attempt } = claimOf(await leases.claim({ jobId: "j1", regions: [REGION] }));
        await pass(LEASE_TTL_MS, leases);
        expect(await leases.find(jobId)).toBeUndefined();
        await leases.observe("w1", "w1-first", { status: "DRAINING", runs: [] });
        return { leases, run: { jobId, attempt } };
      }
    });

    describe("confirmation", () => {
      test("extends the claim to a full lease time and returns that time", async () => {
        const leases = await openLeases();
        await join(worker("w1"), leases);
        const claim = claimOf(await leases.claim(request("j1")));
        for (let time = 1; time <= 6; time++) {
          await pass(LEASE_TTL_MS / 2, leases);
          expect(await leases.find("j1")).toEqual(claim);
          expect(await leases.confirm(claim, "w1", "w1-first")).toBe(LEASE_TTL_MS);
        }
      });

      test("is refused to another worker, incarnation or attempt", async () => {
        const leases = await openLeases();
        await join(worker("w1"), leases);
        await join(worker("w2"), leases);
        const claim = claimOf(await leases.claim(request("j1")));
        expect(claim.workerId).toBe("w1");
        expect(await leases.confirm(claim, "w2", "w2-first")).toBeUndefined();
        expect(await leases.confirm(claim, "w1", "earlier")).toBeUndefined();
        expect(await leases.confirm({ jobId: "j1", attempt: 0 }, "w1", "w1-first")).toBeUndefined();
        expect(await leases.confirm(claim, "w1", "w1-first")).toBe(LEASE_TTL_MS);
      });

      test("restores an ended claim of a job without another claim", async () => {
        const leases = await openLeases();
        await join(worker("w1"), leases);
        const claim = claimOf(await leases.claim(request("j1")));
        await pass(LEASE_TTL_MS, leases);
        expect(await leases.find("j1")).toBeUndefined();
        expect(await leases.confirm(claim, "w1", "w1-first")).toBe(LEASE_TTL_MS);
        expect(await leases.find("j1")).toEqual(claim);
      });

      test("cannot be decided for a worker that has to register first", async () => {
        const leases = await openLeases();
        const run = { jobId: "j1", attempt: 3 };
        await expect(leases.confirm(run, "w1", "w1-first")).rejects.toBeInstanceOf(LeasesUnavailable);
        await join(worker("w1", { runs: [run] }), leases);
        // It may have been unreachable while another attempt ended the job, and that record is lost.
        for (const _ of [1, 2])
          await expect(leases.confirm(run, "w1", "w1-first")).rejects.toBeInstanceOf(LeasesUnavailable);
        // The caller of `claim` holds the job's message, so the job has not ended.
        expect((await leases.claim(request("j1"))).kind).toBe("held");
        expect(await leases.confirm(run, "w1", "w1-first")).toBe(LEASE_TTL_MS);
      });

      test("of a run that only its worker has reported is undecided also after missed pings", async () => {
        const leases = await openLeases();
        const run = { jobId: "j1", attempt: 3 };
        await join(worker("w1", { runs: [run] }), leases);
        await pass(LEASE_TTL_MS, leases);
        expect(await leases.find("j1")).toBeUndefined();
        await leases.observe("w1", "w1-first", { status: "BUSY", runs: [run] });
        expect(await leases.find("j1")).toMatchObject(run);
        await expect(leases.confirm(run, "w1", "w1-first")).rejects.toBeInstanceOf(LeasesUnavailable);
      });
    });

    describe("after a loss", () => {
      test("registrations restore the claims, and later attempts continue from them", async () => {
        const leases = await openLeases();
        await join(worker("w1", { slots: 2, runs: [{ jobId: "j1", attempt: 4 }] }), leases);
        expect(await leases.claim(request("j1"))).toMatchObject({
          kind: "held",
          claim: { workerId: "w1", attempt: 4 },
        });
        expect(await leases.freeSlots()).toEqual(free(1));
        await leases.release(claimOf(await leases.claim(request("j1"))));
        expect(claimOf(await leases.claim(request("j1"))).attempt).toBe(5);
      });

      test("pings restore the claims as well", async () => {
        const leases = await openLeases();
        await join(worker("w1"), leases);
        await leases.observe("w1", "w1-first", { status: "BUSY", runs: [{ jobId: "j1", attempt: 2 }] });
        expect(await leases.find("j1")).toMatchObject({ workerId: "w1", attempt: 2 });
      });

      test("the higher of two reported attempts has the job", async () => {
        const leases = await openLeases();
        await join(worker("w1", { runs: [{ jobId: "j1", attempt: 1 }] }), leases);
        await join(worker("w2", { runs: [{ jobId: "j1", attempt: 2 }] }), leases);
        await leases.observe("w1", "w1-first", { status: "BUSY", runs: [{ jobId: "j1", attempt: 1 }] });
        expect(await leases.find("j1")).toMatchObject({ workerId: "w2", attempt: 2 });
        expect(await leases.confirm({ jobId: "j1", attempt: 1 }, "w1", "w1-first")).toBeUndefined();
        expect((await view(leases, "w1"))?.jobs).toEqual([]);
      });

      test("a job that may be running waits until workers have reported; another does not", async () => {
        const settleMs = LEASE_TTL_MS / 2;
        const leases = await openLeases({ ...TIMES, settleMs });
        await join(worker("w1", { slots: 3 }), leases);
        expect((await leases.claim({ ...request("j1"), mayBeRunning: true })).kind).toBe("none");
        expect((await leases.claim(request("j2"))).kind).toBe("claimed");
        await leases.observe("w1", "w1-first", { status: "FREE", runs: [{ jobId: "j3", attempt: 1 }] });
        expect((await leases.claim({ ...request("j3"), mayBeRunning: true })).kind).toBe("held");
        await pass(settleMs, leases);
        expect((await leases.claim({ ...request("j1"), mayBeRunning: true })).kind).toBe("claimed");
      });
    });

    test("free slots are counted by region", async () => {
      const leases = await openLeases();
      await join(worker("w1", { slots: 2 }), leases);
      await join(worker("w2", { slots: 3 }), leases);
      await join(worker("w3", { region: "eu-central-1" }), leases);
      await leases.claim(request("j1"));
      expect(await leases.freeSlots()).toEqual(
        expect.arrayContaining([...free(4), ...free(1, "eu-central-1")]),
      );
      await leases.claim(request("j2", "eu-central-1"));
      expect(await leases.freeSlots()).toEqual(free(4));
    });

    test("two orchestrators never assign a slot twice nor a job twice", async () => {
      const shared = await store();
      const orchestrators = [await shared.open(), await shared.open()];
      const [first] = orchestrators;
      for (let index = 0; index < 10; index++)
        await join(worker(`w${index}`, { slots: 1 + (index % 4) }), ...orchestrators);
      const slots = 10 + 2 * (0 + 1 + 2 + 3) + (0 + 1);
      const outcomes = await Promise.all(
        Array.from({ length: 200 }, (_, index) =>
          Promise.all(orchestrators.map((leases) => leases.claim(request(`j${index}`)))),
        ),
      );
      const claims: Claim[] = [];
      for (const pair of outcomes) {
        const made = pair.filter(({ kind }) => kind === "claimed");
        expect(made.length).toBeLessThanOrEqual(1);
        for (const outcome of pair)
          if (made[0] && outcome.kind === "held") expect(outcome.claim).toEqual(claimOf(made[0]));
        claims.push(...made.map(claimOf));
      }
      expect(claims.length).toBe(slots);
      for (const { workerId, slots: own, jobs, status } of (await first?.workers()) ?? []) {
        expect(jobs).toHaveLength(own);
        expect(jobs.toSorted()).toEqual(
          claims
            .filter((claim) => claim.workerId === workerId)
            .map(({ jobId }) => jobId)
            .toSorted(),
        );
        expect(status).toBe("BUSY");
      }
      expect(await first?.freeSlots()).toEqual([]);
    });

    test("200 jobs pass through 10 workers, claimed and released by two orchestrators at once", async () => {
      const shared = await store();
      const orchestrators = [await shared.open(), await shared.open()] as const;
      for (let index = 0; index < 10; index++) await join(worker(`w${index}`), ...orchestrators);
      const running = new Map<string, string>();
      let next = 0;
      async function dispatch(leases: Leases): Promise<void> {
        for (let number = next++; number < 200; number = next++) {
          const claim = claimOf(
            await waitFor(
              async () => {
                const outcome = await leases.claim(request(`j${number}`));
                return outcome.kind === "claimed" ? outcome : undefined;
              },
              { timeoutMs: TIMEOUT_MS, intervalMs: 1, what: "a slot" },
            ),
          );
          expect(running.has(claim.workerId)).toBe(false);
          running.set(claim.workerId, claim.jobId);
          await Bun.sleep(Math.random() * 3);
          running.delete(claim.workerId);
          await leases.release(claim);
        }
      }
      await Promise.all(Array.from({ length: 16 }, (_, index) => dispatch(orchestrators[index % 2 ? 1 : 0])));
      expect(await orchestrators[0].freeSlots()).toEqual(free(10));
    });

    test("every orchestrator is notified of changes", async () => {
      const shared = await store();
      const [one, other] = [await shared.open(), await shared.open()];
      let changes = 0;
      other.onChange(() => changes++);
      const expectChange = async (what: string, change: () => Promise<unknown>) => {
        const before = changes;
        await change();
        await waitFor(() => changes > before, { timeoutMs: TIMEOUT_MS, what: `the hint of ${what}` });
      };
      // A subscription that starts now may cause a hint itself.
      await expectChange("a registration", () => one.register(worker("w1")));
      await expectChange("a first answered ping", () =>
        one.observe("w1", "w1-first", { status: "FREE", runs: [] }),
      );
      const claim = claimOf(await one.claim(request("j1")));
      await expectChange("a release", () => one.release(claim));
      await one.observe("w1", "w1-first", { status: "DRAINING", runs: [] });
      await expectChange("the end of draining", () =>
        one.observe("w1", "w1-first", { status: "FREE", runs: [] }),
      );
      await one.suspect("w1", "w1-first");
      await expectChange("an answered ping", () =>
        one.observe("w1", "w1-first", { status: "FREE", runs: [] }),
      );
      await expectChange("a departure", () => one.deregister("w1", "w1-first"));
    });

    test("every orchestrator is notified of registrations", async () => {
      const shared = await store();
      const [one, other] = [await shared.open(), await shared.open()];
      let registrations = 0;
      other.onRegistered(() => registrations++);
      const isNotified = async () => {
        await one.register(worker("w1"));
        // A subscription that starts now may cause a hint itself.
        return registrations > 1;
      };
      await waitFor(isNotified, { timeoutMs: TIMEOUT_MS, what: "the hint of a registration" });
    });

    test("closed leases reject every call", async () => {
      const leases = await openLeases();
      await leases.close();
      expect(leases.isReady).toBe(false);
      await expect(leases.claim(request("j1"))).rejects.toBeInstanceOf(LeasesUnavailable);
      await expect(leases.find("j1")).rejects.toBeInstanceOf(LeasesUnavailable);
      await expect(leases.observe("w1", "x", { status: "FREE", runs: [] })).rejects.toBeInstanceOf(
        LeasesUnavailable,
      );
      await leases.close();
    });
  });
}
