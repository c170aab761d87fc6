/** Builds whose output is far larger than what is kept or read, through a BuildKit without log limits. */

import { expect, test } from "bun:test";
import { createHash } from "node:crypto";
import type { JobResult } from "../../src/shared/job.ts";
import { apiRequest } from "../support/blacktree/admin-api.ts";
import { type OrchestratorProcess, untilState, type WorkerProcess } from "../support/blacktree/deployment.ts";
import { expectSuccess, faultSite, type SampleJob } from "../support/blacktree/fault-site.ts";
import { followedLog } from "../support/blacktree/followed-log.ts";
import { jobPrinting, LINE_BYTES, UNLIMITED_OUTPUT } from "../support/blacktree/printing-job.ts";
import { runFolders } from "../support/blacktree/run-folders.ts";
import { peakResidentBytes } from "../support/machine/process-memory.ts";
import { waitFor } from "../support/machine/wait-for.ts";

const site = faultSite({ ownDocker: UNLIMITED_OUTPUT });

const SMALL_LINES = 30_000;
const LARGE_LINES = 200_000;

/** Reads the followed log to its end. */
async function linesOf(orchestrator: OrchestratorProcess, { job_id }: SampleJob): Promise<string[]> {
  const lines: string[] = [];
  for await (const { kind, text } of followedLog(orchestrator, job_id)) {
    if (kind === "line") lines.push(text);
  }
  return lines;
}

/** The numbers of the printed lines among these; no line may be cut, except where BuildKit has discarded output. */
function printedNumbers(lines: readonly string[]): number[] {
  return lines.flatMap((line, index) => {
    const [, number, pad = ""] = /^#\d+ \d+\.\d+ (\d{8})( +)$/.exec(line) ?? [];
    const isCut = lines[index + 1]?.startsWith("[output clipped: ") ?? false;
    if (number === undefined || isCut) return [];
    expect(pad).toHaveLength(LINE_BYTES - 9);
    return Number(number);
  });
}

function described(lines: readonly string[]) {
  const text = lines.map((line) => `${line}\n`).join("");
  const sha256 = createHash("sha256").update(text).digest("hex");
  return { bytes: Buffer.byteLength(text), lines: lines.length, sha256 };
}

interface Printed {
  readonly job: SampleJob;
  readonly result: JobResult;
  /** All lines that a client received that followed the log from its beginning. */
  readonly followed: readonly string[];
  /** The worker's peak memory since its start. */
  readonly peakBytes: number;
}

async function runPrinting(
  lines: number,
  orchestrator: OrchestratorProcess,
  worker: WorkerProcess,
): Promise<Printed> {
  const job = await jobPrinting(site.backends, lines);
  await site.deployment.publish(job);
  await untilState(orchestrator, job.job_id, "ASSIGNED");
  const followed = linesOf(orchestrator, job);
  const result = await expectSuccess(site, job, { timeoutMs: 300_000 });
  return { job, result, followed: await followed, peakBytes: await peakResidentBytes(worker.process) };
}

test("large logs: a step that prints 100 MB needs no more worker memory than one that prints 15 MB, and the kept log and its cuts are described correctly", async () => {
  const deployment = await site.deploy();
  const orchestrator = await deployment.startOrchestrator();
  const worker = await deployment.startWorker(orchestrator, {
    // The whole kept log can still be read from the worker in the end.
    BLACKTREE_LOG_LIMIT: "1MB",
    // The garbage collector runs as on a machine with 128 MiB: on a larger one it keeps more garbage.
    BUN_JSC_forceRAMSize: `${128 * 1024 * 1024}`,
  });
  // The first run also allocates compiled code, and a heap that the runtime keeps afterwards.
  const small = await runPrinting(SMALL_LINES, orchestrator, worker);
  const large = await runPrinting(LARGE_LINES, orchestrator, worker);

  const moreBytes = (LARGE_LINES - SMALL_LINES) * LINE_BYTES;
  expect(large.peakBytes - small.peakBytes).toBeLessThan(moreBytes / 2);

  const { job, followed: kept } = large;
  const { log, logs } = large.result;
  expect(log).toEqual({ ...described(kept), truncated: true });
  expect(kept.slice(-logs.length)).toEqual([...logs]);
  const isLogGone = async () => (await runFolders(worker.workDir)).length === 0;
  await waitFor(isLogGone, { timeoutMs: 30_000, what: "the logs to be removed from the worker" });
  const answer = await apiRequest(orchestrator.apiUrl, `/api/v1/jobs/${job.job_id}/logs`);
  expect(await answer.text()).toBe(kept.map((line) => `${line}\n`).join(""));

  const cutAt = kept.findIndex((line) => /^\[\d+ bytes in \d+ lines are left out here\]$/.test(line));
  expect(kept[cutAt - 1]).toStartWith("[the log is longer than 1000000 bytes");
  const [bytesLeftOut = 0, linesLeftOut = 0] = (kept[cutAt]?.match(/\d+/g) ?? []).map(Number);
  const first = printedNumbers(kept.slice(0, cutAt));
  const last = printedNumbers(kept.slice(cutAt));
  expect(first).toEqual(first.map((_, index) => index));
  expect(last).toEqual(last.map((_, index) => (last[0] ?? 0) + index));
  // BuildKit decides how much output arrives at all.
  expect(bytesLeftOut).toBeGreaterThan((LARGE_LINES * LINE_BYTES) / 2);
  expect(linesLeftOut).toBeWithin(LARGE_LINES / 2, LARGE_LINES);
}, 600_000);
