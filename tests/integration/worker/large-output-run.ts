/**
 * Measures runs with a small and a large output: `bun large-output-run.ts SCRIPT`, where SCRIPT prints `$BYTES` bytes.
 * In a process by itself, since the resident memory of a process depends on everything that it did before.
 */
import { heapStats } from "bun:jsc";
import pino from "pino";
import type { Outcome } from "../../../src/shared/job.ts";
import type { JobEvent } from "../../../src/shared/rpc/generated/blacktree/v1/worker.ts";
import type { PipelineJob } from "../../../src/worker/job/job.ts";
import type { RunReporter } from "../../../src/worker/pipeline/pipeline-parts.ts";
import type { RunEnd } from "../../../src/worker/pipeline/run-end.ts";
import { runInGroup } from "../../../src/worker/process/process-group.ts";
import { RedactedLog } from "../../../src/worker/redaction/redacted-log.ts";
import { Redactor } from "../../../src/worker/redaction/redactor.ts";
import { Journals } from "../../../src/worker/runs/journals.ts";
import { Runs } from "../../../src/worker/runs/runs.ts";
import { makeTempDir } from "../../support/machine/temp-dir.ts";

const MB = 1_000_000;
const KEPT_BYTES = 2 * MB;
const TAIL = { lines: 500, bytes: 256 * 1024 };
/** Larger than the kept log even after redaction, so a larger output needs no more memory than this one. */
const SMALL_BYTES = 12 * MB;
const LARGE_BYTES = 72 * MB;
/** The same for both outputs, so that the same amount of garbage is collected each time. */
const MEASURE_EVERY_BYTES = 3 * MB;
/** The script may print it. */
const SECRET = "a-secret-of-the-job-4711";
const JOB = { jobId: "job-1", attempt: 1 } as PipelineJob;

export interface MeasuredRun extends Pick<Outcome, "log" | "logs"> {
  readonly liveBytes: number;
  readonly residentBytes: number;
  readonly isSecretShown: boolean;
  readonly isGapMarked: boolean;
}

/** Printed as JSON. */
export interface Comparison {
  readonly small: MeasuredRun;
  readonly large: MeasuredRun;
  readonly moreBytes: number;
}

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

/** @returns nothing that itself needs much memory. */
async function runPrinting(script: string): Promise<MeasuredRun> {
  const memory = new Memory();
  const logger = pino({ level: "silent" });
  const folder = await makeTempDir("large-output");
  const journals = new Journals({ folder: folder.path, diskBytes: Number.POSITIVE_INFINITY, logger });
  const runs = new Runs({
    slots: 1,
    logLimits: { keptBytes: KEPT_BYTES, tail: TAIL },
    execute: (_, reporter, signal) => print(script, memory, reporter, signal),
    journals,
    logger,
    keepFinishedMs: 60_000,
    keepFinishedCount: 10,
    abandonAfterMs: 60_000,
  });
  const ended = runs.run(JOB, 280_000);
  const watch = () => runs.watch(JOB, { afterSeq: 0, statesOnly: false }, new AbortController().signal);
  const stalled = watch()[Symbol.asyncIterator]();
  const firstForStalled = stalled.next();
  const followed = Array.fromAsync(watch());
  const { log, logs } = await ended;
  await firstForStalled;
  await stalled.return?.();
  const { liveBytes, residentBytes } = memory;
  const described = describe(await followed);
  await journals.close();
  await folder.remove();
  return { liveBytes, residentBytes, log, logs, ...described };
}

/** A client that follows receives the whole kept log. */
function describe(events: readonly JobEvent[]): Pick<MeasuredRun, "isSecretShown" | "isGapMarked"> {
  const lines = events.flatMap(({ logLine }) => logLine ?? []);
  return {
    isSecretShown: lines.some((line) => line.includes("4711")),
    isGapMarked: lines.some((line) => /^\[\d+ bytes in \d+ lines are left out here\]$/.test(line)),
  };
}

const [script = ""] = process.argv.slice(2);
const printing = (bytes: number) => `BYTES=${bytes}; ${script}`;
// The first run also allocates compiled code, and a heap that the runtime keeps afterwards.
await runPrinting(printing(SMALL_BYTES));
const small = await runPrinting(printing(SMALL_BYTES));
const large = await runPrinting(printing(LARGE_BYTES));
const comparison: Comparison = { small, large, moreBytes: LARGE_BYTES - SMALL_BYTES };
process.stdout.write(`${JSON.stringify(comparison)}\n`);
