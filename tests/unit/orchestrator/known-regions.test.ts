import { beforeEach, describe, expect, test } from "bun:test";
import pino from "pino";
import { readJobMessage } from "../../../src/orchestrator/job/message.ts";
import { KnownRegions, type KnownRegionsParts } from "../../../src/orchestrator/known-regions.ts";
import { InProcessLeases } from "../../../src/orchestrator/leases/in-process.ts";
import type { JobRecord } from "../../../src/orchestrator/records/job-records.ts";
import { waitFor } from "../../support/machine/wait-for.ts";

const HOUR_MS = 3_600_000;
const logger = pino({ level: "silent" });

let nowMs: number;
let leases: InProcessLeases;
let accepted: Set<string>;

beforeEach(() => {
  nowMs = 1000;
  accepted = new Set();
  leases = new InProcessLeases({ leaseTtlMs: 10_000, jobMemoryMs: HOUR_MS, settleMs: 0, logger });
  leases.start();
});

function known(options: Partial<KnownRegionsParts> = {}): KnownRegions {
  const records = { find: async (jobId: string) => (accepted.has(jobId) ? ({} as JobRecord) : undefined) };
  const [region, regions, regionFallback] = ["us-east-1", ["set-1"], ["back-1"]];
  const settings = { region, regions, regionFallback, unknownRegion: "refuse" as const };
  return new KnownRegions({ ...settings, leases, records, logger, nowMs: () => nowMs, ...options });
}

async function register(region: string, workerId = `worker-${region}`): Promise<void> {
  const rest = {
    incarnation: "1",
    address: `${workerId}:6000`,
    slots: 1,
    version: "1",
    capabilities: [],
    runs: [],
  };
  await leases.register({ workerId, region, ...rest });
}

function problemOf(regions: KnownRegions, fields: object): Promise<string | undefined> {
  const job = {
    repo_url: "a/b",
    branch: "main",
    deployment_version: "v1",
    aws_account: "1",
    ecr_repo: "images",
  };
  const rules = {
    git: { baseUrl: "https://github.com", allowedHosts: [] },
    defaultRegion: "us-east-1",
    secretLimit: 100,
  };
  const message = readJobMessage(Buffer.from(JSON.stringify({ ...job, ...fields })), {}, rules);
  if (message.kind !== "job") throw new Error(message.problems.join());
  return regions.problemOf(message);
}

test("the regions of the settings are known", async () => {
  const regions = known();
  for (const region of ["us-east-1", "set-1", "back-1"]) expect(await regions.knows(region)).toBe(true);
  expect(await regions.knows("other-1")).toBe(false);
});

test("the region of a worker is known as soon as it has registered, and reported once", async () => {
  const regions = known();
  let gains = 0;
  regions.onGain(() => {
    gains += 1;
  });
  expect(await regions.knows("other-1")).toBe(false);
  await register("other-1");
  await register("set-1");
  expect(await regions.knows("other-1")).toBe(true);
  await regions.refresh();
  expect(regions.all.toSorted()).toEqual(["back-1", "other-1", "set-1", "us-east-1"]);
  expect(gains).toBe(1);
});

test("the region of a worker that has deregistered stays known for an hour, and is reported when it is known again", async () => {
  const regions = known();
  let gains = 0;
  await register("other-1");
  await regions.refresh();
  regions.onGain(() => {
    gains += 1;
  });
  await leases.deregister("worker-other-1", "1");
  nowMs += HOUR_MS;
  await regions.refresh();
  expect(regions.has("other-1")).toBe(true);
  nowMs += 1;
  await regions.refresh();
  expect(regions.has("other-1")).toBe(false);
  await register("other-1");
  await regions.refresh();
  expect({ gains, isKnown: regions.has("other-1") }).toEqual({ gains: 1, isKnown: true });
});

test("jobs for unknown regions share reads of the workers, and none misses a worker that registered before", async () => {
  let reads = 0;
  const answer = Promise.withResolvers<void>();
  const slow = {
    onChange: () => undefined,
    async workers() {
      reads += 1;
      const workers = await leases.workers();
      await answer.promise;
      return workers;
    },
  };
  const regions = known({ leases: slow });
  const first = regions.knows("other-1");
  await waitFor(() => reads === 1, { timeoutMs: 30_000, what: "the first read" });
  await register("other-1");
  const later = Array.from({ length: 50 }, () => regions.knows("other-1"));
  answer.resolve();
  expect(await first).toBe(false);
  expect(await Promise.all(later)).toEqual(later.map(() => true));
  expect(reads).toBe(2);
});

test("after a change of the leases, regions are read without a request", async () => {
  const regions = known();
  regions.start();
  const gained = new Promise<void>((resolve) => regions.onGain(resolve));
  await register("other-1");
  await gained;
  expect(regions.has("other-1")).toBe(true);
  regions.stop();
});

describe("a job for an unknown region", () => {
  test("is refused with the field, the known regions and a remedy, without its value", async () => {
    const remedy = "start a worker in the region or add it to BLACKTREE_REGIONS";
    expect(await problemOf(known(), { worker_region: "other-1" })).toBe(
      `worker_region: not a known worker region; expected one of set-1, us-east-1, back-1; ${remedy}`,
    );
    expect(await problemOf(known(), { region: "eu-west-3" })).toBe(
      `region (worker_region is missing): not a known worker region; expected one of set-1, us-east-1, back-1; ${remedy}, or set worker_region`,
    );
  });

  test("is refused with at most 20 known regions", async () => {
    const regions = Array.from({ length: 30 }, (_, index) => `set-${index}`);
    const problem = await problemOf(known({ regions }), { worker_region: "other-1" });
    expect(problem).toContain("set-19 and 12 more; ");
    expect(problem).not.toContain("set-20");
  });

  test("is not refused when it was accepted before, when its region is known, or when jobs may wait", async () => {
    accepted.add("earlier");
    await register("known-1");
    expect(await problemOf(known(), { job_id: "earlier", worker_region: "other-1" })).toBeUndefined();
    expect(await problemOf(known(), { job_id: "later", worker_region: "other-1" })).toBeString();
    expect(await problemOf(known(), { worker_region: "known-1" })).toBeUndefined();
    expect(await problemOf(known({ unknownRegion: "wait" }), { worker_region: "other-1" })).toBeUndefined();
  });
});
