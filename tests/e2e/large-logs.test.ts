/** Builds that print far more than anybody keeps or reads, through a BuildKit that clips nothing. */
import { expect, test } from "bun:test";
import { createHash } from "node:crypto";
import { type OrchestratorProcess, untilState } from "../support/deployment.ts";
import { expectSuccess, faultSite, type SampleJob, sampleJob } from "../support/fault-site.ts";
import { followedLog } from "../support/followed-log.ts";
import { peakResidentBytes, residentBytes } from "../support/process-memory.ts";
import { staticBusybox } from "../support/sample-repository.ts";

const site = faultSite({
  engine: "26.1",
  daemonEnv: { BUILDKIT_STEP_LOG_MAX_SIZE: "-1", BUILDKIT_STEP_LOG_MAX_SPEED: "-1" },
});

const MB = 1e6;
/** With its newline. */
const LINE_BYTES = 500;
const MOST_GROWTH_BYTES = 400 * MB;

/** Lines of `LINE_BYTES` that begin with their numbers, from 0 on. */
const PRINT_LINES = [
  `BEGIN { pad = sprintf("%${LINE_BYTES - 10}s", "");`,
  'for (n = from; n < to; n++) printf "%08d %s\\n", n, pad }',
].join(" ");

/** A job whose image comes of one step, which runs this script. */
async function jobRunning(script: string): Promise<SampleJob> {
  const job = await sampleJob(site.backends, { variant: "none" });
  const dockerfile = [
    "FROM scratch",
    "COPY bin/busybox /bin/busybox",
    "COPY step print.awk /",
    'RUN ["/bin/busybox", "sh", "/step"]',
    "",
  ].join("\n");
  const files = { "bin/busybox": await staticBusybox(), "print.awk": PRINT_LINES, step: script };
  await site.backends.git.commit(job.repo_url, { ...files, Dockerfile: dockerfile });
  return job;
}

/** Follows the log to its end. */
async function linesOf(orchestrator: OrchestratorProcess, { job_id }: SampleJob): Promise<string[]> {
  const lines: string[] = [];
  for await (const { kind, text } of followedLog(orchestrator, job_id)) {
    if (kind === "line") lines.push(text);
  }
  return lines;
}

/** The numbers of the printed lines that are among these, none of which is cut. */
function printedNumbers(lines: readonly string[]): number[] {
  return lines.flatMap((line) => {
    const [, number, pad = ""] = /^#\d+ \d+\.\d+ (\d{8})( +)$/.exec(line) ?? [];
    if (number === undefined) return [];
    expect(pad).toHaveLength(LINE_BYTES - 9);
    return Number(number);
  });
}

function described(lines: readonly string[]) {
  const text = lines.map((line) => `${line}\n`).join("");
  const sha256 = createHash("sha256").update(text).digest("hex");
  return { bytes: Buffer.byteLength(text), lines: lines.length, sha256 };
}

test("large logs: a step that prints 300 MB costs the worker bounded memory, and what is kept and cut is described as it is", async () => {
  const printedLines = 600_000;
  const deployment = await site.deploy();
  const orchestrator = await deployment.startOrchestrator({ BLACKTREE_LEASE_TTL: "10s" });
  // All that is kept can still be read from the worker in the end.
  const worker = await deployment.startWorker(orchestrator, { BLACKTREE_LOG_LIMIT: "1MB" });
  const before = await residentBytes(worker.process);
  // BuildKit gives up what is not read 3 seconds after the end, so it must not be far behind.
  const job = await jobRunning(`n=0
    while [ $n -lt ${printedLines} ]; do
      /bin/busybox awk -v from=$n -v to=$((n += 10000)) -f /print.awk
      /bin/busybox sleep 0.5
    done
    /bin/busybox sleep 5
  `);
  await deployment.publish(job);
  await untilState(orchestrator, job.job_id, "ASSIGNED");
  const following = linesOf(orchestrator, job);
  const { log, logs } = await expectSuccess(site, job, { timeoutMs: 300_000 });

  expect((await peakResidentBytes(worker.process)) - before).toBeLessThan(MOST_GROWTH_BYTES);
  const kept = await following;
  expect(log).toEqual({ ...described(kept), truncated: true });
  expect(kept.slice(-logs.length)).toEqual([...logs]);
  const answer = await fetch(`${orchestrator.apiUrl}/api/v1/jobs/${job.job_id}/logs`);
  expect(await answer.text()).toBe(logs.map((line) => `${line}\n`).join(""));

  const cutAt = kept.findIndex((line) => /^\[\d+ bytes in \d+ lines are left out here\]$/.test(line));
  expect(kept[cutAt - 1]).toStartWith("[the log is longer than 1000000 bytes");
  const [bytesLeftOut = 0, linesLeftOut = 0] = (kept[cutAt]?.match(/\d+/g) ?? []).map(Number);
  const first = printedNumbers(kept.slice(0, cutAt));
  const last = printedNumbers(kept.slice(cutAt));
  expect(first).toEqual(first.map((_, index) => index));
  expect(last).toEqual(last.map((_, index) => (last[0] ?? 0) + index));
  // How much arrives at all is BuildKit's affair.
  expect(bytesLeftOut).toBeGreaterThan(200 * MB);
  expect(linesLeftOut).toBeWithin(200_000, printedLines);
}, 400_000);
