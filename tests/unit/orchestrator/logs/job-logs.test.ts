import { expect, test } from "bun:test";
import { type AttemptLogs, LogMissing } from "../../../../src/orchestrator/logs/attempt-log.ts";
import {
  type Followed,
  JobLogs,
  type JobLogsParts,
  LOG_START,
} from "../../../../src/orchestrator/logs/job-logs.ts";
import type { Ending, JobRecord } from "../../../../src/orchestrator/records/job-records.ts";
import type { JournalEntry } from "../../../../src/shared/log-journal.ts";
import { sampleResult } from "../../../integration/orchestrator/sample-result.ts";

const at = "2026-01-02T03:04:05Z";
const JOURNAL: readonly JournalEntry[] = [
  { seq: 1, at, line: "line" },
  { seq: 2, at, state: "SUCCEEDED" },
];
const signal = new AbortController().signal;

interface Job {
  ending: Ending;
  record?: Partial<JobRecord>;
  /** Attempts whose places are known. */
  placed?: readonly number[];
  /** By attempt; those without a log are missing. */
  readonly logs: Readonly<Record<number, readonly JournalEntry[]>>;
}

function logsOf(job: Job) {
  const calls = { find: 0, ending: 0 };
  const parts = {
    records: {
      find: async () => {
        calls.find += 1;
        return job.record;
      },
      ending: async () => {
        calls.ending += 1;
        return job.ending;
      },
    },
    places: { find: async () => new Map((job.placed ?? []).map((attempt) => [attempt, { tenant: "acme" }])) },
    leases: { find: async () => undefined },
    attempts: {
      async *read({ attempt }: { attempt: number }, { afterSeq }: { afterSeq: number }) {
        const entries = job.logs[attempt];
        if (!entries) throw new LogMissing("the disk was full", false);
        const rest = entries.filter(({ seq }) => seq > afterSeq);
        if (rest.length > 0) yield rest;
      },
    } as unknown as AttemptLogs,
  };
  return { calls, logs: new JobLogs(parts as unknown as JobLogsParts) };
}

const follow = (job: Job, start = LOG_START): Promise<Followed[]> =>
  Array.fromAsync(logsOf(job).logs.follow("job", start, signal));

test("however many readers wait for a job, its whole record is read only at the beginning and at the end", async () => {
  const record = { state: "QUEUED", events: [], result: undefined } as unknown as JobRecord;
  const job: Job = { ending: { kind: "active" }, record, logs: {} };
  const { calls, logs } = logsOf(job);
  const readers = Array.from({ length: 50 }, () => Array.fromAsync(logs.follow("job", LOG_START, signal)));
  while (calls.ending < 5) await Bun.sleep(10);
  expect(calls).toEqual({ find: 50, ending: 5 });
  job.ending = { kind: "ended", attempt: 0 };
  job.record = { ...record, state: "CANCELLED" };
  for (const events of await Promise.all(readers))
    expect(events).toEqual([{ kind: "end", position: { attempt: 0, seq: 0 }, state: "CANCELLED" }]);
  expect(calls.find).toBe(100);
});

test("a log whose job is not remembered any more is followed to its end, from any place", async () => {
  const job: Job = { ending: { kind: "unknown" }, placed: [1, 2], logs: { 1: JOURNAL, 2: JOURNAL } };
  const end = { kind: "end", position: { attempt: 2, seq: 2 }, state: "SUCCEEDED" } as const;
  const last = { kind: "entries", position: { attempt: 2, seq: 2 }, entries: JOURNAL } as const;
  expect(await follow(job)).toEqual([last, end]);
  const rest = { kind: "entries", position: { attempt: 1, seq: 2 }, entries: JOURNAL.slice(1) } as const;
  expect(await follow(job, { attempt: 1, seq: 1 })).toEqual([rest, last, end]);
  expect(await follow(job, end.position)).toEqual([end]);
});

test("in place of a log that is missing comes the reason, and the last lines of the result's attempt", async () => {
  const result = { ...sampleResult("job"), attempt: 2, logs: ["last"] };
  const record = { state: "SUCCEEDED", events: [], result } as unknown as JobRecord;
  const job: Job = { ending: { kind: "ended", attempt: 2 }, record, logs: {} };
  const [first, second, end] = await follow(job, { attempt: 1, seq: 0 });
  expect(first).toMatchObject({ notice: "[the log of attempt 1 is missing: the disk was full]", lines: [] });
  expect(second).toMatchObject({
    notice: "[the log of attempt 2 is missing: the disk was full]",
    lines: ["last"],
  });
  expect(end).toMatchObject({ kind: "end", state: "SUCCEEDED" });
  // Resumed after each of them.
  const positions = [first, second, end].map((followed) => followed?.position ?? LOG_START);
  expect(await follow(job, positions[0])).toEqual([second, end] as Followed[]);
  expect(await follow(job, positions[1])).toEqual([end] as Followed[]);
  expect(await follow(job, positions[2])).toEqual([end] as Followed[]);
  const [rest] = await follow(job, { attempt: 2, seq: 7 });
  expect(rest).toMatchObject({
    notice: "[the rest of the log of attempt 2 is missing: the disk was full]",
    lines: [],
  });
});

test.each<[string, Job]>([
  ["LogMissing", { ending: { kind: "unknown" }, placed: [1, 2], logs: { 1: JOURNAL } }],
  ["nothing", { ending: { kind: "unknown" }, placed: [1, 2], logs: { 2: JOURNAL } }],
  [
    "nothing",
    { ending: { kind: "ended", attempt: 1 }, record: { state: "FAILED", events: [] }, placed: [1], logs: {} },
  ],
])(
  "the end of a job whose record and last log are gone cannot be reached: %s of %p",
  async (expected, job) => {
    const { logs } = logsOf(job);
    const found = await logs.find("job");
    if (!found) throw new Error("the job is known");
    const failure: unknown = await logs.checkEnd(found, signal).catch((error: unknown) => error);
    expect(failure instanceof LogMissing ? "LogMissing" : "nothing").toBe(expected);
  },
);

test("a job whose record is gone is followed from the end of a replacement if the log is there again", async () => {
  const job: Job = { ending: { kind: "unknown" }, placed: [1], logs: { 1: JOURNAL } };
  const position = { attempt: 1, seq: 999_999_999_999_999 };
  expect(await follow(job, position)).toEqual([{ kind: "end", position, state: "SUCCEEDED" }]);
});
