import { describe, expect, test } from "bun:test";
import { explainWaiting, type WaitingParts } from "../../../../src/orchestrator/admin/waiting.ts";
import type { Control } from "../../../../src/orchestrator/leases/control.ts";
import type { WorkerView } from "../../../../src/orchestrator/leases/leases.ts";
import type { JobPlace, JobRecord, JobSummary } from "../../../../src/orchestrator/records/job-records.ts";
import type { JobEvent } from "../../../../src/shared/job.ts";
import { sampleResult } from "../../../integration/orchestrator/sample-result.ts";

const NOW = new Date("2026-01-31T12:00:00Z");
const ago = (ms: number) => new Date(NOW.getTime() - ms);

const JOB: JobRecord = {
  jobId: "mine",
  job: { region: "us-east-1" },
  acceptedAt: ago(10_000),
  state: "QUEUED",
  events: [],
  result: undefined,
};

const WORKER: WorkerView = {
  workerId: "w-1",
  incarnation: "i",
  region: "us-east-1",
  address: "127.0.0.1:6000",
  slots: 1,
  version: "1",
  capabilities: ["linux/amd64"],
  status: "FREE",
  jobs: [],
  runs: [],
  refusal: undefined,
  control: undefined,
  load: undefined,
  labels: {},
  keepsId: true,
  hasLease: true,
  isReached: true,
  lastSeen: ago(1000),
};

interface Situation {
  readonly workers?: readonly Partial<WorkerView>[];
  readonly others?: readonly Partial<JobSummary>[];
  readonly known?: boolean;
  readonly fallback?: readonly string[];
  readonly drained?: ReadonlyMap<string, Control>;
  readonly secretNames?: readonly string[];
  /** After each page of the list. */
  readonly next?: JobPlace;
}

function explain(job: Partial<JobRecord>, { workers = [], others = [], ...more }: Situation = {}) {
  const { known = true, fallback = [], drained = new Map(), secretNames = [] } = more;
  const basis = { buildArgs: {}, withheldBuildArgs: [], hadGitToken: false, secretNames, registryHosts: [] };
  const listed = others.map((each) => ({ ...JOB, jobId: "other", ...each }) as JobSummary);
  const parts: WaitingParts = {
    records: {
      retrySource: async () => ({ basis, replyTo: [], correlationId: undefined }),
      list: async ({ matches }) => ({ jobs: listed.filter(matches), next: more.next }),
    },
    leases: {
      workers: async () => workers.map((each) => ({ ...WORKER, ...each })),
      drainedRegions: async () => drained,
    },
    regions: { has: () => known },
    regionFallback: fallback,
    unsupportedAfterMs: 30_000,
  };
  return explainWaiting(parts, { ...JOB, ...job }, NOW);
}

const paused = { kind: "paused", reason: "new disk", since: ago(60_000), scope: "worker" } as const;
const regionDrained = { kind: "drained", reason: "", since: ago(60_000), scope: "region" } as const;

const busy = {
  status: "BUSY",
  jobs: ["j-1"],
  runs: [{ jobId: "j-1", attempt: 1, since: ago(40_000) }],
} as const;
const afterLoss = { ...busy, runs: [{ jobId: "j-1", attempt: 1, since: undefined }] } as const;

test.each([
  ["FAILED", "the job has ended: it is FAILED", { result: sampleResult("mine") }],
  ["BUILDING", "the job is running", {}],
] as const)("a job that is %s does not wait", async (state, reason, job) => {
  expect(await explain({ state, ...job })).toMatchObject({ is_waiting: false, reason });
});

test.each([
  [{ status: "FREE" }, true, "free"],
  [busy, false, "busy with job j-1 for 40 s"],
  [afterLoss, false, "busy with job j-1"],
  [{ status: "BUSY", jobs: [] }, false, "busy: reports that its 1 slots are in use"],
  [{ status: "BUSY", refusal: "the disk is full" }, false, "refuses jobs: the disk is full"],
  [{ status: "DRAINING" }, false, "draining: takes no new jobs"],
  [
    { status: "BUSY", control: paused, refusal: "paused by an operator: new disk" },
    false,
    "paused by an operator since 2026-01-31T11:59:00.000Z: new disk",
  ],
  [
    { status: "DRAINING", control: regionDrained },
    false,
    "its region us-east-1 is drained by an operator since 2026-01-31T11:59:00.000Z",
  ],
  [{ status: "LOST" }, false, "lost: last seen at 2026-01-31T11:59:59.000Z"],
  [{ capabilities: ["linux/amd64"] }, false, "cannot build it: lacks secrets"],
] as const)("a worker that is %j", async (worker, is_free_for_it, reason) => {
  const job = { ...JOB.job, platforms: ["linux/amd64"] };
  const able = { capabilities: ["linux/amd64", "secrets"], ...worker };
  const { workers } = await explain({ job }, { workers: [able], secretNames: ["npm"] });
  expect(workers).toEqual([
    {
      id: "w-1",
      region: "us-east-1",
      status: (worker as { status?: "FREE" }).status ?? "FREE",
      is_free_for_it,
      reason,
    },
  ]);
});

test.each([
  [
    "a free worker",
    { workers: [{}] },
    "a worker is free, and 0 jobs of us-east-1 wait before it: it should start within moments",
  ],
  ["no worker", {}, "no worker of us-east-1 has registered; a worker's own log says why it cannot"],
  [
    "no worker, ever",
    { known: false },
    "the worker region us-east-1 is not known: no worker has registered there",
  ],
  [
    "workers of other regions",
    { workers: [{ region: "eu-west-1" }] },
    "no worker of us-east-1 has registered",
  ],
  [
    "a paused worker",
    { workers: [{ status: "BUSY", control: paused, refusal: "paused by an operator: new disk" }] },
    "no worker of us-east-1 takes jobs: each one that can build it is lost, draining, taken out of service by an operator",
  ],
  [
    "a drained region",
    {
      workers: [{ status: "DRAINING", control: regionDrained }],
      drained: new Map<string, Control>([
        ["us-east-1", { kind: "drained", reason: "power cut", since: ago(60_000) }],
        ["elsewhere", regionDrained],
      ]),
    },
    "no worker of us-east-1 takes jobs: each one that can build it is lost, draining, taken out of service by an operator, or refuses jobs; the region us-east-1 is drained by an operator since 2026-01-31T11:59:00.000Z: power cut",
  ],
  [
    "a busy worker",
    { workers: [busy] },
    "all 1 slot for it in us-east-1 is in use, and 0 jobs wait before it",
  ],
  [
    "no healthy worker",
    { workers: [{ status: "LOST" }, { status: "DRAINING" }] },
    "no worker of us-east-1 takes jobs",
  ],
  [
    "fallback regions",
    { workers: [busy, { ...busy, region: "eu-west-1", slots: 2 }], fallback: ["eu-west-1"] },
    "all 3 slots for it in us-east-1 and eu-west-1 are in use, and 0 jobs wait before it",
  ],
] as const)("with %s", async (_, situation, reason) => {
  expect((await explain({}, situation)).reason).toStartWith(reason);
});

test("a job that requires its region is not explained by other regions", async () => {
  const job = { ...JOB.job, region_policy: "require" };
  const situation = { workers: [{ region: "eu-west-1" }], fallback: ["eu-west-1"] };
  expect(await explain({ job }, situation)).toMatchObject({ regions: ["us-east-1"], workers: [] });
});

test("what no live worker can build is named, and when the job fails", async () => {
  const job = { ...JOB.job, platforms: ["linux/arm64"], provenance: true };
  const able = { ...WORKER, capabilities: ["linux/arm64", "provenance"] };
  const lost = { ...able, status: "LOST", hasLease: false } as const;
  for (const workers of [[busy], [busy, lost]])
    expect((await explain({ job }, { workers })).reason).toBe(
      "no worker of us-east-1 can build it: it needs linux/arm64, provenance, and fails with UNSUPPORTED after it has waited 30 s for such a worker (BLACKTREE_UNSUPPORTED_AFTER)",
    );
  expect((await explain({ job }, { workers: [lost] })).reason).toStartWith(
    "no worker of us-east-1 takes jobs: each one that can build it is lost",
  );
});

test("platforms are compared as placement compares them", async () => {
  const job = { ...JOB.job, platforms: ["linux/x86_64", "linux/amd64"] };
  const { reason, workers } = await explain({ job }, { workers: [{}] });
  expect(reason).toStartWith("a worker is free");
  expect(workers).toMatchObject([{ is_free_for_it: true, reason: "free" }]);
});

describe("a job for a platform whose programs no live worker runs", () => {
  const job = { ...JOB.job, platforms: ["linux/aarch64"] };
  const native =
    "no worker of us-east-1 runs programs of linux/arm64 natively: another one gets the job after it has waited 30 s for such a worker (BLACKTREE_UNSUPPORTED_AFTER)";

  test("is for other workers after a time", async () => {
    expect(await explain({ job }, { workers: [{}] })).toMatchObject({
      reason: `a worker is free, and 0 jobs of us-east-1 wait before it; ${native}`,
      workers: [{ is_free_for_it: true, reason: "free, but does not run programs of linux/arm64" }],
      estimate_ms: 20_000,
    });
    expect((await explain({ job, acceptedAt: ago(60_000) }, { workers: [{}] })).estimate_ms).toBe(0);
    const lost = { status: "LOST", hasLease: false, capabilities: ["linux/arm64"] } as const;
    expect((await explain({ job }, { workers: [busy, lost] })).reason).toBe(
      `all 1 slot for it in us-east-1 is in use, and 0 jobs wait before it; ${native}`,
    );
  });

  test("is for other workers also if they run some of its platforms", async () => {
    const several = { ...JOB.job, platforms: ["linux/arm64", "linux/amd64"] };
    const worker = { capabilities: ["linux/amd64", "multi-platform"] };
    const { reason, workers } = await explain({ job: several }, { workers: [worker] });
    expect(reason).toContain(
      "no worker of us-east-1 runs programs of all of linux/amd64, linux/arm64 natively",
    );
    expect(workers[0]?.reason).toBe("free, but does not run programs of linux/arm64");
  });

  test("waits for one that runs them if there is one, also if that is paused", async () => {
    const able = { status: "BUSY", control: paused, capabilities: ["linux/arm64"] } as const;
    const { reason, workers } = await explain({ job }, { workers: [able, {}] });
    expect(reason).not.toContain("BLACKTREE_UNSUPPORTED_AFTER");
    expect(workers[1]?.reason).toBe("cannot build it: lacks linux/arm64");
  });
});

test("of a job whose record was lost with Redis's data, neither regions nor needs are known", async () => {
  const lost = await explain({ job: {} }, { workers: [{}], fallback: ["us-east-1"] });
  expect(lost).toMatchObject({ is_waiting: true, regions: [], workers: [], jobs_before: null });
  expect(lost.reason).toContain("its record was lost with Redis's data");
});

test("jobs of its region before it are those accepted earlier, and those of a higher priority", async () => {
  const job = { region: "us-east-1" };
  const others = [
    { job, acceptedAt: ago(20_000) },
    { job: { ...job, priority: "high" }, acceptedAt: ago(5000) },
    { job: { ...job, priority: "low" }, acceptedAt: ago(20_000) },
    { job, acceptedAt: ago(5000) },
    { job: { region: "eu-west-1" }, acceptedAt: ago(20_000) },
    { job: { ...job, worker_region: "eu-west-1" }, acceptedAt: ago(20_000) },
    { job, acceptedAt: ago(20_000), state: "BUILDING" },
  ] as const;
  const waiting = await explain({}, { workers: [busy], others });
  expect(waiting.jobs_before).toBe(2);
  expect(waiting.reason).toEndWith("and 2 jobs wait before it");
});

test("more jobs may be before it if there are too many records to read", async () => {
  const next = { acceptedAtMs: 1, jobId: "j" };
  const { reason } = await explain({}, { workers: [busy], others: [{ acceptedAt: ago(20_000) }], next });
  expect(reason).toBe("all 1 slot for it in us-east-1 is in use, and at least 10 jobs wait before it");
});

test("an estimate is made from the median of the region's latest jobs", async () => {
  const ended = (ms: number) => {
    const { logs: _, ...result } = sampleResult("e", {
      timings_ms: { queued: 999, clone: 0, build: 0, auth: 0, push: 0, total: 999 + ms },
    });
    return { state: "SUCCEEDED", result } as const;
  };
  const waits = { job: JOB.job, acceptedAt: ago(20_000) };
  const others = [ended(1000), ended(100_000), ended(60_000), waits, waits];
  expect((await explain({}, { workers: [busy], others })).estimate_ms).toBe(150_000);
  expect((await explain({}, { workers: [{ ...busy, slots: 2 }], others })).estimate_ms).toBe(90_000);
  expect((await explain({}, { workers: [{}], others })).estimate_ms).toBe(0);
  expect((await explain({}, { workers: [busy] })).estimate_ms).toBeNull();
  expect((await explain({}, { others })).estimate_ms).toBeNull();
});

test("a job whose attempt has failed waits for the next one", async () => {
  const error = { code: "WORKER_LOST" };
  const retrying = {
    state: "RETRYING",
    at: ago(1000).toISOString(),
    delay_ms: 5000,
    error,
  } as unknown as JobEvent;
  expect(await explain({ state: "RETRYING", events: [retrying] })).toMatchObject({
    is_waiting: true,
    retry_at: "2026-01-31T12:00:04.000Z",
    reason: "an attempt has failed with WORKER_LOST, and the next one begins at 2026-01-31T12:00:04.000Z",
  });
  const due = { ...retrying, at: ago(6000).toISOString() } as JobEvent;
  expect(await explain({ state: "RETRYING", events: [due] }, { workers: [{}] })).toMatchObject({
    is_waiting: true,
    retry_at: null,
    reason: expect.stringContaining("a worker is free"),
  });
});
