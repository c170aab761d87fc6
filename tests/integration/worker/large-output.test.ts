/** A run that prints 100 MB, from a real program through redaction and log to somebody who follows it and one who stalls. */
import { expect, setDefaultTimeout, test } from "bun:test";
import { readFileSync } from "node:fs";
import pino from "pino";
import { Redactor } from "../../../src/shared/redaction.ts";
import type { JobEvent } from "../../../src/shared/rpc/generated/blacktree/v1/worker.ts";
import type { RunReporter } from "../../../src/worker/pipeline/pipeline-parts.ts";
import { runInGroup } from "../../../src/worker/pipeline/process-group.ts";
import { RedactedLog } from "../../../src/worker/pipeline/redacted-log.ts";
import type { RunEnd } from "../../../src/worker/pipeline/run-end.ts";
import { Runs } from "../../../src/worker/runs.ts";
import { minimalJob } from "./pipeline/pipeline-bench.ts";

// A minute where many other things run; nothing here hangs when it takes longer.
setDefaultTimeout(300_000);

const PRINTED_BYTES = 100_000_000;
const KEPT_BYTES = 5_000_000;
const TAIL = { lines: 500, bytes: 256 * 1024 };
/** The events that are held, the kept lines' overhead, what the runtime collects late; far less than what is printed. */
const MOST_GROWTH_BYTES = 150_000_000;
const SECRET = "a-secret-of-the-job-4711";

function residentBytes(): number {
  return Number(/VmRSS:\s+(\d+)/.exec(readFileSync("/proc/self/status", "utf8"))?.[1]) * 1024;
}

async function print(script: string, reporter: RunReporter, signal: AbortSignal): Promise<RunEnd> {
  const startedAt = new Date();
  const redactor = new Redactor();
  redactor.add(SECRET);
  const log = new RedactedLog(redactor, (line) => reporter.log(line));
  await runInGroup({
    argv: ["/bin/sh", "-c", script],
    cwd: "/tmp",
    environment: { PATH: process.env.PATH ?? "" },
    signal,
    onLine: (line) => log.add(line),
  });
  log.end();
  const timingsMs = { clone: 0, build: 0, auth: 0, push: 0, total: 0 };
  return { status: "SUCCESS", timingsMs, commit: undefined, startedAt, finishedAt: new Date() };
}

function runsPrinting(script: string): Runs {
  return new Runs({
    slots: 1,
    logLimits: { keptBytes: KEPT_BYTES, tail: TAIL },
    execute: (_, reporter, signal) => print(script, reporter, signal),
    logger: pino({ level: "silent" }),
    keepFinishedMs: 60_000,
    keepFinishedCount: 10,
    reportUncalledMs: 60_000,
  });
}

test.each([
  ["in lines", `yes 'a usual line of some length, with ${SECRET} in it' | head -c ${PRINTED_BYTES}`],
  ["in one line without end", `yes 'word ${SECRET}' | tr '\\n' ' ' | head -c ${PRINTED_BYTES}`],
])("costs bounded memory %s, and what is kept is described as it is", async (_, script) => {
  const runs = runsPrinting(script);
  const job = minimalJob((prefix) => `${prefix}-1`);
  const before = residentBytes();
  let peak = before;
  const sampling = setInterval(() => {
    peak = Math.max(peak, residentBytes());
  }, 20);
  const run = runs.run(job, 280_000);
  const everything = { afterSeq: 0, statesOnly: false };
  const stalled = runs.watch(job, everything, new AbortController().signal)[Symbol.asyncIterator]();
  const firstForStalled = stalled.next();
  const followed = Array.fromAsync(runs.watch(job, everything, new AbortController().signal));
  const outcome = await run;
  clearInterval(sampling);
  await firstForStalled;
  await stalled.return?.();

  expect(peak - before).toBeLessThan(MOST_GROWTH_BYTES);
  expect(outcome.log.truncated).toBe(true);
  expect(outcome.log.bytes).toBeWithin(KEPT_BYTES, KEPT_BYTES + TAIL.bytes + 1000);
  expect(outcome.logs.join("\n")).toContain("***");
  expectSound(await followed);
});

/** A follower gets what is kept, but for what came faster than it could take it. */
function expectSound(events: readonly JobEvent[]): void {
  const lines = events.flatMap(({ logLine }) => logLine ?? []);
  expect(lines.join("\n")).not.toContain("4711");
  expect(lines.some((line) => /^\[\d+ bytes in \d+ lines are left out here\]$/.test(line))).toBe(true);
}
