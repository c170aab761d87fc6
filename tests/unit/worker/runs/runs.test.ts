import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { readdir } from "node:fs/promises";
import pino from "pino";
import { LeaseLost, RunCancelled, RunTimeout } from "../../../../src/worker/job/cancellation.ts";
import type { PipelineJob } from "../../../../src/worker/job/job.ts";
import type { RunReporter } from "../../../../src/worker/pipeline/pipeline-parts.ts";
import type { RunEnd } from "../../../../src/worker/pipeline/run-end.ts";
import { Journals } from "../../../../src/worker/runs/journals.ts";
import { NoFreeSlot, Runs, StaleRun } from "../../../../src/worker/runs/runs.ts";
import { makeTempDir, type TempDir } from "../../../support/machine/temp-dir.ts";
import { waitFor } from "../../../support/machine/wait-for.ts";

const TIMEOUT_MS = 60_000;

function job(jobId: string, attempt = 1): PipelineJob {
  return {
    jobId,
    attempt,
    repoUrl: "owner/name",
    branch: "main",
    deploymentVersion: "v1",
    tenant: "acme",
    awsAccount: "123456789012",
    ecrRepo: "app",
    region: "us-east-1",
    buildArgs: {},
    labels: {},
    gitDepth: 1,
    gitTags: false,
    provenance: false,
    platforms: [],
    secrets: {},
    registryAuths: {},
  };
}

function end(status: RunEnd["status"] = "SUCCESS"): RunEnd {
  const now = new Date();
  return {
    status,
    timingsMs: { clone: 0, build: 0, auth: 0, push: 0, total: 0 },
    startedAt: now,
    finishedAt: now,
  };
}

interface Started {
  readonly job: PipelineJob;
  readonly reporter: RunReporter;
  readonly signal: AbortSignal;
  finish(end: RunEnd): void;
}

const opened: Journals[] = [];

afterEach(async () => {
  for (const journals of opened.splice(0)) await journals.close();
});

/** Runs whose pipeline the test controls. */
function setUp(
  options: Partial<Record<"slots" | "keepFinishedCount" | "keepFinishedMs" | "abandonAfterMs", number>> & {
    readonly refusal?: () => string | undefined;
    /** Short journals have no file. */
    readonly logs?: string;
  } = {},
) {
  const started: Started[] = [];
  const journals = new Journals({
    folder: options.logs ?? "/nonexistent/logs",
    diskBytes: Number.POSITIVE_INFINITY,
    logger: pino({ level: "silent" }),
  });
  opened.push(journals);
  const runs = new Runs({
    slots: 1,
    keepFinishedMs: 3_600_000,
    keepFinishedCount: 100,
    abandonAfterMs: 3_600_000,
    ...options,
    logLimits: { keptBytes: 1_000_000, tail: { lines: 10, bytes: 1000 } },
    journals,
    logger: pino({ level: "silent" }),
    execute: (asked, reporter, signal) => {
      const { promise, resolve } = Promise.withResolvers<RunEnd>();
      started.push({ job: asked, reporter, signal, finish: resolve });
      return promise;
    },
  });
  const begun = (index: number): Started => {
    const run = started[index];
    if (!run) throw new Error(`run ${index} has not begun`);
    return run;
  };
  return { runs, started, begun };
}

describe("a run", () => {
  test("is unawaited after its caller has left, until another caller attaches", () => {
    const { runs } = setUp();
    const first = new AbortController();
    void runs.run(job("a"), TIMEOUT_MS);
    runs.awaited(job("a"), first.signal);
    expect(runs.unawaited()).toEqual([]);
    first.abort(new Error("gone"));
    expect(runs.unawaited()).toEqual(["a"]);
    runs.awaited(job("a"), new AbortController().signal);
    expect(runs.unawaited()).toEqual([]);
  });

  test("makes the worker busy until it ends, and its outcome has the log", async () => {
    const { runs, begun } = setUp();
    expect(runs.status()).toBe("FREE");
    const outcome = runs.run(job("a"), TIMEOUT_MS);
    expect(runs.status()).toBe("BUSY");
    begun(0).reporter.log("hello");
    begun(0).finish(end());
    expect(await outcome).toMatchObject({ status: "SUCCESS", logs: ["hello"], log: { lines: 1 } });
    expect(runs.status()).toBe("FREE");
  });

  test("knows when it times out", () => {
    const { runs, begun } = setUp();
    const beforeMs = performance.now();
    void runs.run(job("a"), TIMEOUT_MS);
    const { deadlineMs } = begun(0).job;
    expect(deadlineMs).toBeGreaterThanOrEqual(beforeMs + TIMEOUT_MS);
    expect(deadlineMs).toBeLessThanOrEqual(performance.now() + TIMEOUT_MS);
  });

  test("is attached to instead of started again, while it runs and afterwards", async () => {
    const { runs, started, begun } = setUp();
    const first = runs.run(job("a"), TIMEOUT_MS);
    const second = runs.run(job("a"), TIMEOUT_MS);
    begun(0).finish(end("FAILED"));
    expect(await second).toBe(await first);
    expect(await runs.run(job("a"), TIMEOUT_MS)).toBe(await first);
    expect(started).toHaveLength(1);
  });

  test("is refused when every slot is taken", () => {
    const { runs } = setUp({ slots: 2 });
    void runs.run(job("a"), TIMEOUT_MS);
    expect(runs.status()).toBe("FREE");
    void runs.run(job("b"), TIMEOUT_MS);
    expect(() => void runs.run(job("c"), TIMEOUT_MS)).toThrow(NoFreeSlot);
  });

  test("is refused, with the reason, while the worker accepts no new jobs; a running one can still be attached to", async () => {
    let refusal: string | undefined;
    const { runs, started } = setUp({ slots: 2, refusal: () => refusal });
    const first = runs.run(job("a"), TIMEOUT_MS);
    refusal = "disk below its reserve";
    expect(runs.status()).toBe("BUSY");
    expect(() => void runs.run(job("b"), TIMEOUT_MS)).toThrow(new NoFreeSlot("disk below its reserve"));
    const again = runs.run(job("a"), TIMEOUT_MS);
    started[0]?.finish(end());
    expect(await again).toEqual(await first);
    refusal = undefined;
    expect(runs.status()).toBe("FREE");
    void runs.run(job("b"), TIMEOUT_MS);
    expect(started).toHaveLength(2);
  });

  test("of a lower attempt is refused; a higher one ends the lower", async () => {
    const { runs, begun } = setUp({ slots: 2 });
    const lower = runs.run(job("a", 1), TIMEOUT_MS);
    void runs.run(job("a", 2), TIMEOUT_MS);
    const { reason } = begun(0).signal;
    expect(reason).toBeInstanceOf(LeaseLost);
    expect(reason.message).toBe("the job was given to another attempt");
    expect(() => void runs.run(job("a", 1), TIMEOUT_MS)).toThrow(StaleRun);
    begun(0).finish(end("CANCELLED"));
    expect((await lower).status).toBe("CANCELLED");
    expect(runs.held()).toEqual([{ jobId: "a", attempt: 2 }]);
  });

  test("ends when its timeout has passed", async () => {
    const { runs, begun } = setUp();
    void runs.run(job("a"), 1);
    const { signal } = begun(0);
    await new Promise((resolve) => signal.addEventListener("abort", resolve));
    expect(signal.reason).toBeInstanceOf(RunTimeout);
  });

  test("can be cancelled only while it runs", async () => {
    const { runs, begun } = setUp();
    const outcome = runs.run(job("a"), TIMEOUT_MS);
    expect(runs.cancel({ jobId: "a", attempt: 2 }, "no")).toBe(false);
    expect(runs.cancel({ jobId: "a", attempt: 1 }, "enough")).toBe(true);
    expect(begun(0).signal.reason).toEqual(new RunCancelled("enough"));
    begun(0).finish(end("CANCELLED"));
    await outcome;
    expect(runs.cancel({ jobId: "a", attempt: 1 }, "again")).toBe(false);
  });
});

describe("an ended run", () => {
  test("is kept until it is acknowledged", async () => {
    const { runs, started, begun } = setUp();
    const outcome = runs.run(job("a"), TIMEOUT_MS);
    runs.acknowledge({ jobId: "a", attempt: 1 });
    expect(runs.held()).toHaveLength(1);
    begun(0).finish(end());
    await outcome;
    expect(runs.held()).toHaveLength(1);
    runs.acknowledge({ jobId: "a", attempt: 1 });
    expect(runs.held()).toHaveLength(0);
    // A call that was sent before the acknowledgement does not start the run again.
    expect(() => void runs.run(job("a"), TIMEOUT_MS)).toThrow(StaleRun);
    expect(started).toHaveLength(1);
    void runs.run({ ...job("a"), attempt: 2 }, TIMEOUT_MS);
    expect(started).toHaveLength(2);
  });

  test("is forgotten when there are too many, the oldest first", async () => {
    const { runs, begun } = setUp({ keepFinishedCount: 2 });
    for (const [index, name] of ["a", "b", "c"].entries()) {
      const outcome = runs.run(job(name), TIMEOUT_MS);
      begun(index).finish(end());
      await outcome;
    }
    expect(runs.held().map(({ jobId }) => jobId)).toEqual(["b", "c"]);
  });

  test("is forgotten after its retention time", async () => {
    const { runs, begun } = setUp({ keepFinishedMs: -1 });
    const outcome = runs.run(job("a"), TIMEOUT_MS);
    begun(0).finish(end());
    await outcome;
    expect(runs.held()).toEqual([]);
  });
});

test("runs: a draining worker accepts no new jobs, and is drained when no run is left", async () => {
  const { runs, begun } = setUp({ slots: 2 });
  const outcome = runs.run(job("a"), TIMEOUT_MS);
  const drained = runs.drain();
  expect(runs.status()).toBe("DRAINING");
  expect(() => void runs.run(job("b"), TIMEOUT_MS)).toThrow(NoFreeSlot);
  begun(0).finish(end());
  await drained;
  expect((await outcome).status).toBe("SUCCESS");
});

test("runs: a drained worker keeps its outcomes until each is acknowledged", async () => {
  const { runs, begun } = setUp({ slots: 2 });
  const outcomes = [runs.run(job("a"), TIMEOUT_MS), runs.run(job("b"), TIMEOUT_MS)];
  const drained = runs.drain();
  for (const index of [0, 1]) begun(index).finish(end());
  await Promise.all([...outcomes, drained]);
  const order: string[] = [];
  const acknowledged = runs.acknowledged().then(() => order.push("all acknowledged"));
  for (const jobId of ["a", "b"]) {
    order.push(jobId);
    runs.acknowledge({ jobId, attempt: 1 });
    await Promise.resolve();
  }
  await acknowledged;
  expect(order).toEqual(["a", "b", "all acknowledged"]);
  await runs.acknowledged();
});

test("runs: an ended run without a caller for its outcome is no longer reported, but its outcome is kept", async () => {
  const { runs, begun } = setUp({ slots: 2, abandonAfterMs: -1 });
  const outcome = runs.run(job("ended"), TIMEOUT_MS);
  void runs.run(job("running"), TIMEOUT_MS);
  begun(0).finish(end());
  await outcome;
  // Without a ping of an orchestrator that reaches the broker, no caller can be expected.
  expect(runs.held()).toHaveLength(2);
  runs.pinged({ reachesBroker: false });
  expect(runs.held()).toHaveLength(2);
  runs.pinged({ reachesBroker: true });
  expect(runs.held()).toEqual([{ jobId: "running", attempt: 1 }]);
  expect(runs.unawaited()).toEqual(["running"]);
  expect(await runs.run(job("ended"), TIMEOUT_MS)).toMatchObject({ status: "SUCCESS" });

  const caller = new AbortController();
  runs.awaited(job("ended"), caller.signal);
  runs.pinged({ reachesBroker: true });
  expect(runs.held()).toHaveLength(2);
});

test("runs: a run without a caller is abandoned once a caller could have attached, but is reported while it runs", () => {
  const { runs } = setUp({ slots: 1, abandonAfterMs: -1 });
  void runs.run(job("running"), TIMEOUT_MS);
  const ref = { jobId: "running", attempt: 1 };
  runs.pinged({ reachesBroker: false });
  expect(runs.isAbandoned(ref)).toBeFalse();
  runs.pinged({ reachesBroker: true });
  expect(runs.isAbandoned(ref)).toBeTrue();
  expect(runs.held()).toEqual([ref]);

  runs.awaited(ref, new AbortController().signal);
  runs.pinged({ reachesBroker: true });
  expect(runs.isAbandoned(ref)).toBeFalse();
});

describe("the file of a run's log", () => {
  let folder: TempDir;

  beforeEach(async () => {
    folder = await makeTempDir("runs");
  });
  afterEach(() => folder.remove());

  const files = () => readdir(folder.path);
  const untilFiles = (count: number) =>
    waitFor(async () => (await files()).length === count, { timeoutMs: 50_000, what: `${count} files` });

  function print({ reporter }: Started): void {
    for (let line = 0; line < 500; line++) reporter.log("x".repeat(1000));
  }

  test("is removed when the run is acknowledged, not before", async () => {
    const { runs, begun } = setUp({ logs: folder.path });
    const outcome = runs.run(job("a"), TIMEOUT_MS);
    print(begun(0));
    await untilFiles(1);
    begun(0).finish(end("CANCELLED"));
    await outcome;
    expect(await files()).toHaveLength(1);
    runs.acknowledge({ jobId: "a", attempt: 1 });
    await untilFiles(0);
  });

  test("is removed with the outcome of an ended run that is no longer kept", async () => {
    const { runs, begun } = setUp({ logs: folder.path, keepFinishedCount: 1 });
    for (const [index, name] of ["a", "b"].entries()) {
      const outcome = runs.run(job(name), TIMEOUT_MS);
      print(begun(index));
      await untilFiles(index + 1);
      begun(index).finish(end());
      await outcome;
    }
    runs.held();
    await untilFiles(1);
  });

  test("stays readable after a higher attempt has begun, until it is acknowledged", async () => {
    const { runs, begun } = setUp({ logs: folder.path });
    const lower = runs.run(job("a", 1), TIMEOUT_MS);
    print(begun(0));
    await untilFiles(1);
    begun(0).finish(end("FAILED"));
    await lower;
    const higher = runs.run(job("a", 2), TIMEOUT_MS);
    print(begun(1));
    await untilFiles(2);
    const { signal } = new AbortController();
    const first = { jobId: "a", attempt: 1 };
    const bytes = Buffer.concat(await Array.fromAsync(runs.readLog(first, 0, signal)));
    expect(bytes.toString().trimEnd().split("\n")).toHaveLength(501);
    expect([runs.held(), runs.replaced()]).toEqual([[{ jobId: "a", attempt: 2 }], [first]]);
    begun(1).finish(end());
    await higher;
    runs.acknowledge({ jobId: "a", attempt: 2 });
    await untilFiles(1);
    expect([runs.held(), runs.replaced()]).toEqual([[], [first]]);
    runs.acknowledge(first);
    expect(runs.replaced()).toEqual([]);
    await untilFiles(0);
    await runs.acknowledged();
  });

  test("is removed when the run has been replaced by a higher attempt and has ended", async () => {
    const { runs, begun } = setUp({ logs: folder.path, slots: 2 });
    const lower = runs.run(job("a", 1), TIMEOUT_MS);
    void runs.run(job("a", 2), TIMEOUT_MS);
    print(begun(0));
    print(begun(1));
    await untilFiles(2);
    begun(0).finish(end("FAILED"));
    await lower;
    await untilFiles(1);
  });
});
