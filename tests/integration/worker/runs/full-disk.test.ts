/** Journals of runs on a disk that fills, or stops responding, while they are written. */
import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { createHash } from "node:crypto";
import { mkdir, readdir } from "node:fs/promises";
import { join } from "node:path";
import pino from "pino";
import type { Outcome } from "../../../../src/shared/job.ts";
import { decodeEntry, isFinalEntry, type JournalEntry } from "../../../../src/shared/log-journal.ts";
import { freeSpaceAt } from "../../../../src/worker/disk/free-space.ts";
import type { PipelineJob } from "../../../../src/worker/job/job.ts";
import type { RunReporter } from "../../../../src/worker/pipeline/pipeline-parts.ts";
import { type JournalLimits, Journals } from "../../../../src/worker/runs/journals.ts";
import { Runs } from "../../../../src/worker/runs/runs.ts";
import { inFullCheck } from "../../../support/machine/full-check.ts";
import { run as runProgram } from "../../../support/machine/processes.ts";
import { makeSmallDisk, missingSmallDisks, type SmallDisk } from "../../../support/machine/small-disk.ts";
import { waitFor } from "../../../support/machine/wait-for.ts";
import { successfulEnd } from "../../orchestrator/workers/worker-service.ts";

const RUN = { jobId: "job", attempt: 1 } as PipelineJob;
const LINE = "x".repeat(1000);
const LINES = 20_000;
const MB = 1e6;
const UNTIL = { timeoutMs: 50_000 };
const logger = pino({ level: "silent" });
const missing = await missingSmallDisks();

describe.skipIf(missing !== undefined)(`journals on a disk${missing ? ` (${missing})` : ""}`, () => {
  let disk: SmallDisk;
  let journals: Journals;

  beforeEach(async () => {
    disk = await makeSmallDisk({ sizeMiB: 64, inodes: 100 });
    await mkdir(join(disk.path, "incarnation"));
  });

  afterEach(async () => {
    await journals?.close();
    await disk?.remove();
  });

  const logs = () => join(disk.path, "incarnation/logs");

  async function runsPrinting(
    print: (reporter: RunReporter) => Promise<void>,
    limits?: Partial<JournalLimits>,
  ): Promise<Runs> {
    const { totalBytes: diskBytes } = await freeSpaceAt(disk.path);
    journals = new Journals({ folder: logs(), diskBytes, logger, limits });
    const execute = async (_: unknown, reporter: RunReporter) => {
      reporter.state("CLONING");
      await print(reporter);
      return successfulEnd();
    };
    return new Runs({
      slots: 1,
      logLimits: { keptBytes: 1000 * MB, tail: { lines: 500, bytes: 262_144 } },
      journals,
      execute,
      logger,
      keepFinishedMs: 60_000,
      keepFinishedCount: 10,
      abandonAfterMs: 60_000,
    });
  }

  async function printLines(reporter: RunReporter, from = 0): Promise<void> {
    for (let number = from; number < from + LINES; number++) {
      reporter.log(`${number} ${LINE}`);
      if (number % 50 === 0) await Bun.sleep(0);
    }
  }

  async function read(runs: Runs): Promise<JournalEntry[]> {
    const entries: JournalEntry[] = [];
    for await (const chunk of runs.readLog(RUN, 0, new AbortController().signal))
      entries.push(...chunk.toString().trimEnd().split("\n").map(decodeEntry));
    return entries;
  }

  function expectToDescribe({ log, logs: tail }: Outcome, entries: readonly JournalEntry[]): string[] {
    expect(entries.map(({ seq }) => seq)).toEqual(entries.map((_, index) => index + 1));
    const lines = entries.flatMap((entry) => ("line" in entry ? entry.line : []));
    const text = lines.map((line) => `${line}\n`).join("");
    const sha256 = createHash("sha256").update(text).digest("hex");
    expect(log).toEqual({ bytes: Buffer.byteLength(text), lines: lines.length, sha256, truncated: true });
    expect(tail).toEqual(lines.slice(-tail.length));
    const last = entries.at(-1);
    expect(last && isFinalEntry(last)).toBe(true);
    return lines;
  }

  async function expectNothingLeft(runs: Runs): Promise<void> {
    const before = await disk.freeBytes();
    runs.acknowledge(RUN);
    const isGone = async () => (await readdir(logs()).catch(() => [])).length === 0;
    await waitFor(isGone, { ...UNTIL, what: "the journal to be removed" });
    expect(await disk.freeBytes()).toBeGreaterThanOrEqual(before);
  }

  test("a disk that fills while the log is written neither fails the run nor falsifies its log", async () => {
    const runs = await runsPrinting(printLines, { diskShare: 100 });
    await disk.fill(3 * MB);
    const outcome = await runs.run(RUN, 300_000);
    expect(outcome.status).toBe("SUCCESS");
    const lines = expectToDescribe(outcome, await read(runs));
    const notes = lines.filter((line) => line.startsWith("["));
    expect(notes).toEqual([
      "[the worker cannot write the log to its disk (ENOSPC): of the rest, only the last lines are kept]",
      expect.stringMatching(/^\[\d+ bytes in \d+ lines are left out here\]$/),
    ]);
    expect(lines.at(-1)).toStartWith(`${LINES - 1} `);
    await expectNothingLeft(runs);
  });

  const moreCases = inFullCheck();

  moreCases.test("a disk without a free inode", async () => {
    const runs = await runsPrinting(printLines, { diskShare: 100 });
    await disk.fillInodes(0);
    const outcome = await runs.run(RUN, 300_000);
    expect(outcome.status).toBe("SUCCESS");
    expectToDescribe(outcome, await read(runs));
  });

  moreCases.test(
    "a log that needs more than its share of the disk leaves the rest to the build",
    async () => {
      const runs = await runsPrinting(printLines);
      const outcome = await runs.run(RUN, 300_000);
      const lines = expectToDescribe(outcome, await read(runs));
      expect(lines.filter((line) => line.startsWith("[running builds' logs take 10%"))).toHaveLength(1);
      expect(await disk.freeBytes()).toBeGreaterThan(40 * MB);
    },
  );

  moreCases.test("a disk that stops responding delays neither the run nor its outcome", async () => {
    const frozen = Promise.withResolvers<void>();
    const runs = await runsPrinting(
      async (reporter) => {
        await printLines(reporter);
        await runProgram(["fsfreeze", "--freeze", disk.path]);
        frozen.resolve();
        await printLines(reporter, LINES);
      },
      { diskShare: 100, memoryBytes: 2 * MB },
    );
    try {
      const outcome = await runs.run(RUN, 300_000);
      expect(outcome.status).toBe("SUCCESS");
      await runProgram(["fsfreeze", "--unfreeze", disk.path]);
      const lines = expectToDescribe(outcome, await read(runs));
      expect(lines).toContain(
        "[the worker's disk is too slow for the logs: of the rest, only the last lines are kept]",
      );
    } finally {
      await frozen.promise;
      await runProgram(["fsfreeze", "--unfreeze", disk.path]).catch(() => undefined);
    }
  });
});
