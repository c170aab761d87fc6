import { beforeEach, expect, test } from "bun:test";
import pino from "pino";
import { neededBy } from "../../../../src/orchestrator/leases/capabilities.ts";
import { InProcessLeases } from "../../../../src/orchestrator/leases/in-process.ts";
import type { ClaimOutcome } from "../../../../src/orchestrator/leases/leases.ts";
import { PlatformPreference } from "../../../../src/orchestrator/workers/platform-preference.ts";
import { join } from "../leases/leases-contract.ts";

const REGION = "us-east-1";
const WAIT_MS = 30_000;

let nowMs: number;
let leases: InProcessLeases;
let preference: PlatformPreference;

beforeEach(() => {
  nowMs = 0;
  const times = { leaseTtlMs: 600_000, jobMemoryMs: 600_000, settleMs: 0 };
  leases = new InProcessLeases({ ...times, logger: pino({ level: "silent" }), nowMs: () => nowMs });
  leases.start();
  preference = new PlatformPreference({ leases, waitMs: WAIT_MS });
});

const addWorker = (workerId: string, capabilities: readonly string[]) => {
  const worker = { workerId, incarnation: "first", region: REGION, address: `${workerId}:1`, slots: 1 };
  return join({ ...worker, version: "0.1.0", capabilities, runs: [] }, leases);
};

const FOREIGN = { platforms: ["linux/arm64"], provenance: false, secrets: {} };

function claimerOf(jobId: string, parts: Partial<typeof FOREIGN> = {}) {
  const job = { ...FOREIGN, ...parts };
  const delivery = {};
  return () => preference.claim(job, { jobId, regions: [REGION], needs: neededBy(job) }, delivery);
}

const workerOf = (outcome: ClaimOutcome) =>
  outcome.kind === "claimed" ? outcome.claim.workerId : outcome.kind;

test("a job goes to a worker that runs programs of its platform, also when that one is busy", async () => {
  await addWorker("plain", ["linux/amd64"]);
  await addWorker("able", ["linux/amd64", "linux/arm64"]);
  expect(workerOf(await claimerOf("one")())).toBe("able");
  const claim = claimerOf("two");
  expect(workerOf(await claim())).toBe("none");
  nowMs += 2 * WAIT_MS;
  expect(workerOf(await claim())).toBe("none");
});

test("without such a worker, a job goes to another one after a time", async () => {
  await addWorker("plain", ["linux/amd64"]);
  const claim = claimerOf("one");
  expect(workerOf(await claim())).toBe("incapable");
  nowMs += WAIT_MS - 1;
  expect(workerOf(await claim())).toBe("incapable");
  nowMs += 1;
  expect(await claim()).toMatchObject({ claim: { workerId: "plain" }, choice: { missesPlatforms: true } });
});

test("a job that has waited for such a worker does not wait again for one that is free", async () => {
  await addWorker("plain", ["linux/amd64", "secrets"]);
  const other = await leases.claim({ jobId: "other", regions: [REGION] });
  const claim = claimerOf("one", { secrets: { npm: "hidden" } });
  expect(workerOf(await claim())).toBe("incapable");
  nowMs += WAIT_MS;
  expect(workerOf(await claim())).toBe("none");
  if (other.kind === "claimed") await leases.release(other.claim);
  expect(workerOf(await claim())).toBe("plain");
});

test("a job that needs something else that no worker has goes to none", async () => {
  await addWorker("plain", ["linux/amd64"]);
  const claim = claimerOf("one", { provenance: true });
  await claim();
  nowMs += WAIT_MS;
  expect(await claim()).toMatchObject({ kind: "incapable", forMs: WAIT_MS });
});
