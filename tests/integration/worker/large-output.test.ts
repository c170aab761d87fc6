/** Large output of a real program, through redaction and log to a client that follows and to one that stalls. */
import { heapStats } from "bun:jsc";
import { expect, setDefaultTimeout, test } from "bun:test";
import pino from "pino";
import type { Outcome } from "../../../src/shared/job.ts";
import type { JobEvent } from "../../../src/shared/rpc/generated/blacktree/v1/worker.ts";
import type { RunReporter } from "../../../src/worker/pipeline/pipeline-parts.ts";
import type { RunEnd } from "../../../src/worker/pipeline/run-end.ts";
import { runInGroup } from "../../../src/worker/process/process-group.ts";
import { RedactedLog } from "../../../src/worker/redaction/redacted-log.ts";
import { Redactor } from "../../../src/worker/redaction/redactor.ts";
import { Runs } from "../../../src/worker/runs/runs.ts";
import { minimalJob } from "./pipeline/pipeline-bench.ts";

// A minute on a busy machine; nothing here hangs when it takes longer.
setDefaultTimeout(300_000);

const MB = 1_000_000;
const KEPT_BYTES = 2 * MB;
const TAIL = { lines: 500, bytes: 256 * 1024 };
/** Larger than the kept log even after redaction, so a larger output needs no more memory than this one. */
const SMALL_BYTES = 12 * MB;
const LARGE_BYTES = 72 * MB;
/** The same for both outputs, so that the same amount of garbage is collected each time. */
const MEASURE_EVERY_BYTES = 3 * MB;
const SECRET = "a-secret-of-the-job-4711";

/** The highest measurements during a run, each taken after a full garbage collection. */
class Memory {
  /** Referenced memory: objects, strings, and the buffers that belong to them. */
  liveBytes = 0;
  /** The memory of the whole process: also buffers that the garbage collector does not count. */
  residentBytes = 0;
  #untilNextBytes = MEASURE_EVERY_BYTES;

  printed(bytes: number): void {
    this.#untilNextBytes -= bytes;
    if (this.#untilNextBytes <= 0) this.measure();
  }

  measure(): void {
    this.#untilNextBytes = MEASURE_EVERY_BYTES;
    Bun.gc(true);
    const { heapSize, extraMemorySize } = heapStats();
    this.liveBytes = Math.max(this.liveBytes, heapSize + extraMemorySize);
    this.residentBytes = Math.max(this.residentBytes, process.memoryUsage.rss());
  }
}

async function print(
  script: string,
  memory: Memory,
  reporter: RunReporter,
  signal: AbortSignal,
): Promise<RunEnd> {
  const startedAt = new Date();
  const redactor = new Redactor();
  redactor.add(SECRET);
  const log = new RedactedLog(redactor, (line) => reporter.log(line));
  await runInGroup({
    argv: ["/bin/sh", "-c", script],
    cwd: "/tmp",
    environment: { PATH: process.env.PATH ?? "" },
    signal,
    onLine: (line) => {
      log.add({ stream: "", prefix: "", text: line });
      memory.printed(line.length);
    },
  });
  log.end();
  memory.measure();
  const timingsMs = { clone: 0, build: 0, auth: 0, push: 0, total: 0 };
  return { status: "SUCCESS", timingsMs, commit: undefined, startedAt, finishedAt: new Date() };
}

/** @returns the run's measurements, and nothing that itself needs much memory. */
async function runPrinting(script: string): Promise<{ readonly memory: Memory; readonly outcome: Outcome }> {
  const memory = new Memory();
  const runs = new Runs({
    slots: 1,
    logLimits: { keptBytes: KEPT_BYTES, tail: TAIL },
    execute: (_, reporter, signal) => print(script, memory, reporter, signal),
    logger: pino({ level: "silent" }),
    keepFinishedMs: 60_000,
    keepFinishedCount: 10,
    abandonAfterMs: 60_000,
  });
  const job = minimalJob((prefix) => `${prefix}-1`);
  const outcome = runs.run(job, 280_000);
  const watch = () => runs.watch(job, { afterSeq: 0, statesOnly: false }, new AbortController().signal);
  const stalled = watch()[Symbol.asyncIterator]();
  const firstForStalled = stalled.next();
  const followed = Array.fromAsync(watch());
  await outcome;
  await firstForStalled;
  await stalled.return?.();
  expectSound(await followed);
  return { memory, outcome: await outcome };
}

test.each([
  [
    "in lines",
    (bytes: number) => `yes 'a usual line of some length, with ${SECRET} in it' | head -c ${bytes}`,
  ],
  ["in one endless line", (bytes: number) => `yes 'word ${SECRET}' | tr '\\n' ' ' | head -c ${bytes}`],
])(
  "a large output %s needs no more memory than a small one, and the kept log is described",
  async (_, script) => {
    // The first run also allocates compiled code, and a heap that the runtime keeps afterwards.
    await runPrinting(script(SMALL_BYTES));
    const small = await runPrinting(script(SMALL_BYTES));
    const large = await runPrinting(script(LARGE_BYTES));

    const moreBytes = LARGE_BYTES - SMALL_BYTES;
    expect(large.memory.liveBytes - small.memory.liveBytes).toBeLessThan(moreBytes * 0.25);
    expect(large.memory.residentBytes - small.memory.residentBytes).toBeLessThan(moreBytes * 0.4);
    const { outcome } = large;
    expect(outcome.log.truncated).toBe(true);
    expect(outcome.log.bytes).toBeWithin(KEPT_BYTES, KEPT_BYTES + TAIL.bytes + 1000);
    expect(outcome.logs.join("\n")).toContain("***");
  },
);

/** A client that follows receives the kept log, except for output that arrived faster than the client read it. */
function expectSound(events: readonly JobEvent[]): void {
  const lines = events.flatMap(({ logLine }) => logLine ?? []);
  expect(lines.join("\n")).not.toContain("4711");
  expect(lines.some((line) => /^\[\d+ bytes in \d+ lines are left out here\]$/.test(line))).toBe(true);
}
