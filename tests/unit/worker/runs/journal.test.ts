/** Journals in real files. */
import { afterEach, beforeEach, expect, test } from "bun:test";
import { createHash } from "node:crypto";
import { mkdir, readdir, readlink, rename, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import pino from "pino";
import { decodeEntry, type JournalEntry } from "../../../../src/shared/log-journal.ts";
import { type Journal, JournalRemoved } from "../../../../src/worker/runs/journal.ts";
import { type JournalLimits, Journals } from "../../../../src/worker/runs/journals.ts";
import { RunLog } from "../../../../src/worker/runs/run-log.ts";
import { makeTempDir, type TempDir } from "../../../support/machine/temp-dir.ts";
import { waitFor } from "../../../support/machine/wait-for.ts";

const UNTIL = { timeoutMs: 50_000 };
const LINE = "x".repeat(1000);
/** More than what stays in memory. */
const MANY = 500;
const DISK_BYTES = 1e12;
const neverAborted = new AbortController().signal;

let dir: TempDir;
let logs: string;
let opened: Journals[];

beforeEach(async () => {
  dir = await makeTempDir("journal");
  logs = join(dir.path, "logs");
  opened = [];
});

afterEach(async () => {
  for (const journals of opened) await journals.close();
  await dir.remove();
});

function journalsWith(limits: Partial<JournalLimits> = {}): Journals {
  const journals = new Journals({
    folder: logs,
    diskBytes: DISK_BYTES,
    logger: pino({ level: "silent" }),
    limits,
  });
  opened.push(journals);
  return journals;
}

const run = (jobId = "job", attempt = 1) => ({ jobId, attempt });
const files = () => readdir(logs).catch(() => []);

function print(journal: Journal, lines: number): void {
  for (let number = 1; number <= lines; number++) journal.append({ line: `${number} ${LINE}` });
}

function end(journal: Journal): void {
  journal.append({ state: "SUCCEEDED" });
  journal.close();
}

async function read(journal: Journal, afterSeq = 0): Promise<JournalEntry[]> {
  const entries: JournalEntry[] = [];
  for await (const chunk of journal.entries(afterSeq, neverAborted))
    entries.push(...chunk.toString().trimEnd().split("\n").map(decodeEntry));
  return entries;
}

/** Waits until the file has all entries of the ended journal. */
async function written(journal: Journal): Promise<void> {
  const isWritten = () => journal.fileBytes === journal.sizeBytes && journal.memoryBytes === 0;
  await waitFor(isWritten, { ...UNTIL, what: "the journal to be written" });
}

async function endedWithFile(journals: Journals, jobId: string): Promise<Journal> {
  const journal = journals.create(run(jobId));
  print(journal, MANY);
  end(journal);
  await written(journal);
  journals.ended(journal);
  return journal;
}

test("journal: a short one has no file", async () => {
  const journal = journalsWith().create(run());
  journal.append({ state: "CLONING" });
  journal.append({ line: "hello" });
  end(journal);
  expect(await read(journal)).toMatchObject([
    { seq: 1, state: "CLONING" },
    { seq: 2, line: "hello" },
    { seq: 3, state: "SUCCEEDED" },
  ]);
  expect(await files()).toEqual([]);
});

test("journal: a long one is in a file that only the worker's user can read, and not in memory", async () => {
  const journal = journalsWith().create(run());
  print(journal, MANY);
  end(journal);
  await written(journal);
  const [name = ""] = await files();
  expect((await stat(join(logs, name))).mode & 0o777).toBe(0o600);
  expect((await stat(logs)).mode & 0o777).toBe(0o700);
  const entries = await read(journal);
  expect(entries.map(({ seq }) => seq)).toEqual(Array.from({ length: MANY + 1 }, (_, index) => index + 1));
  expect((await read(journal, 400)).map(({ seq }) => seq)).toEqual(
    Array.from({ length: MANY + 1 - 400 }, (_, index) => index + 401),
  );
});

test("journal: an entry of any length and content is read as it was added", async () => {
  const lines = ["", 'é\u2028\t"\\\u0001', "x".repeat(300_000), "\u0001".repeat(65_536), "last"];
  const journal = journalsWith().create(run());
  for (const line of lines) journal.append({ line });
  end(journal);
  await written(journal);
  expect((await read(journal)).flatMap((entry) => ("line" in entry ? entry.line : []))).toEqual(lines);
});

test("journal: what is added after the end is left out", async () => {
  const journal = journalsWith().create(run());
  end(journal);
  journal.append({ line: "late" });
  expect(await read(journal)).toHaveLength(1);
});

test("journal: states are read without the lines, in order, also while the journal grows", async () => {
  const journal = journalsWith().create(run());
  journal.append({ state: "CLONING" });
  const states = Array.fromAsync(journal.states(0, neverAborted));
  print(journal, MANY);
  journal.append({ state: "BUILDING" });
  end(journal);
  const numbers = (await states).map(({ seq, state }) => [seq, state]);
  expect(numbers).toEqual([
    [1, "CLONING"],
    [MANY + 2, "BUILDING"],
    [MANY + 3, "SUCCEEDED"],
  ]);
  expect(await Array.fromAsync(journal.states(MANY + 2, neverAborted))).toHaveLength(1);
});

test("journal: a reader that leaves is released", async () => {
  const journal = journalsWith().create(run());
  const gone = new AbortController();
  const read = Array.fromAsync(journal.entries(0, gone.signal));
  gone.abort();
  expect(await read).toEqual([]);
});

test("journal: a build cannot fill it with steps", async () => {
  const journal = journalsWith().create(run());
  const step = { number: 1, name: LINE, started_at: "2026-01-20T10:00:00.000Z" };
  for (let number = 1; number <= 10_000; number++) journal.append({ step: { ...step, number } });
  expect(journal.sizeBytes).toBeLessThan(5 * 1024 * 1024);
  journal.append({ line: "goes on" });
  end(journal);
  expect((await read(journal)).at(-2)).toMatchObject({ line: "goes on" });
});

/** The lines of a log, which is added to a journal that refuses lines before it has all of them. */
async function logged(journal: Journal, lines: readonly string[]) {
  const log = new RunLog({ keptBytes: 64_000_000, tail: { lines: 3, bytes: 10_000 } }, journal);
  const half = lines.length / 2;
  for (const line of lines.slice(0, half)) log.add(line);
  await waitFor(() => journal.refusal() !== undefined, { ...UNTIL, what: "the journal to refuse lines" });
  for (const line of lines.slice(half)) log.add(line);
  log.end();
  end(journal);
  const served = (await read(journal)).flatMap((entry) => ("line" in entry ? entry.line : []));
  const text = served.map((line) => `${line}\n`).join("");
  const sha256 = createHash("sha256").update(text).digest("hex");
  const described = { bytes: Buffer.byteLength(text), lines: served.length, sha256 };
  return { served, described, summary: log.summary(), tail: log.tail() };
}

function* numbered(count: number): Generator<string> {
  for (let number = 1; number <= count; number++) yield `${number} ${LINE}`;
}

test("journal: when it cannot be written, the log has its beginning, one note, and its end, as its summary says", async () => {
  // A file where the folder should be.
  await Bun.write(logs, "");
  const journal = journalsWith().create(run());
  const { served, described, summary, tail } = await logged(journal, [...numbered(MANY)]);
  expect(summary).toEqual({ ...described, truncated: true });
  expect(served[0]).toStartWith("1 ");
  expect(served.slice(-3)).toEqual([...numbered(MANY)].slice(-3));
  expect(tail).toEqual(served.slice(-3));
  const notes = served.filter((line) => line.startsWith("["));
  expect(notes).toEqual([
    "[the worker cannot write the log to its disk (ENOTDIR): of the rest, only the last lines are kept]",
    expect.stringMatching(/^\[\d+ bytes in \d+ lines are left out here\]$/),
  ]);
});

test("journal: entries in memory are limited, also when the disk does not respond", async () => {
  const journals = journalsWith({ memoryBytes: 200_000 });
  const journal = journals.create(run());
  const log = new RunLog({ keptBytes: 64_000_000, tail: { lines: 3, bytes: 10_000 } }, journal);
  // Without a pause, no write ends.
  for (const line of numbered(5000)) log.add(line);
  expect(journal.memoryBytes).toBeLessThan(400_000);
  log.end();
  end(journal);
  await written(journal);
  const lines = (await read(journal)).flatMap((entry) => ("line" in entry ? entry.line : []));
  expect(lines).toHaveLength(log.summary().lines);
  expect(lines).toContain(
    "[the worker's disk is too slow for the logs: of the rest, only the last lines are kept]",
  );
  expect(lines.at(-1)).toStartWith("5000 ");
});

test("journals: beyond their share of the disk, ended runs lose theirs first, the oldest first", async () => {
  const journals = journalsWith();
  const [first, second, third] = [
    await endedWithFile(journals, "first"),
    await endedWithFile(journals, "second"),
    await endedWithFile(journals, "third"),
  ];
  await journals.shrinkTo(second.fileBytes + third.fileBytes);
  expect(await files()).toHaveLength(2);
  await expect(read(first)).rejects.toThrow("the worker has removed the log of this run to free space");
  expect(await read(second)).toHaveLength(MANY + 1);
  await journals.shrinkTo(0);
  expect(await files()).toEqual([]);
  await expect(read(third)).rejects.toThrow("to free space");
});

test("journals: a running run that needs more than their share of the disk keeps the beginning and the end of its log", async () => {
  const journals = journalsWith({ diskShare: 1e-9 });
  const ended = await endedWithFile(journals, "ended");
  await waitFor(async () => (await files()).length === 0, {
    ...UNTIL,
    what: "the ended run to lose its log",
  });
  await expect(read(ended)).rejects.toThrow("to free space");
  const { served, described, summary } = await logged(journals.create(run("large")), [...numbered(MANY)]);
  expect(summary).toEqual({ ...described, truncated: true });
  expect(served.some((line) => line.startsWith("[running builds' logs take 0% of the worker's disk"))).toBe(
    true,
  );
});

test("journals: entries that are not written yet count towards the share of running runs", async () => {
  const journals = journalsWith({ diskShare: (MANY * LINE.length) / 2 / DISK_BYTES });
  const journal = journals.create(run());
  print(journal, MANY);
  expect(journal.fileBytes).toBe(0);
  expect(journal.refusal()).toContain("of the worker's disk");
});

test("journals: a forgotten one has no file, also if it was being created", async () => {
  const journals = journalsWith();
  const journal = journals.create(run());
  print(journal, MANY);
  end(journal);
  journals.ended(journal);
  journals.forget(journal);
  await journals.close();
  expect(await files()).toEqual([]);
  await expect(read(journal)).rejects.toBeInstanceOf(JournalRemoved);
});

test("journals: a reader may finish when the run is acknowledged; the name of the file goes at once", async () => {
  const journals = journalsWith();
  const journal = await endedWithFile(journals, "job");
  const reader = journal.entries(0, neverAborted);
  const first = await reader.next();
  journals.forget(journal);
  await waitFor(async () => (await files()).length === 0, { ...UNTIL, what: "the file to be removed" });
  const rest = await Array.fromAsync(reader);
  const bytes = [first.value as Buffer, ...rest].reduce((sum, { length }) => sum + length, 0);
  expect(bytes).toBe(journal.sizeBytes);
});

test("journals: a reader that waits for the next entry of a run gets an error when the worker stops", async () => {
  const journals = journalsWith();
  const journal = journals.create(run());
  journal.append({ line: "one" });
  const reader = journal.entries(0, neverAborted);
  await reader.next();
  const next = reader.next();
  await journals.close();
  await expect(next).rejects.toThrow("the worker stops");
});

test("journals: one whose file cannot be removed is closed, and the worker continues", async () => {
  const journals = journalsWith();
  const [acknowledged, evicted] = [
    await endedWithFile(journals, "acknowledged"),
    await endedWithFile(journals, "evicted"),
  ];
  await rename(logs, `${logs}-moved`);
  await Bun.write(logs, "");
  journals.forget(acknowledged);
  await journals.shrinkTo(0);
  await expect(read(evicted)).rejects.toThrow("to free space");
  const openFiles = async () => {
    const descriptors = await readdir("/proc/self/fd");
    const paths = await Promise.all(
      descriptors.map((name) => readlink(`/proc/self/fd/${name}`).catch(() => "")),
    );
    return paths.filter((path) => path.startsWith(logs));
  };
  await waitFor(async () => (await openFiles()).length === 0, { ...UNTIL, what: "the files to be closed" });
});

test("journals: one whose folder has gone with its worker does not create it again", async () => {
  await mkdir(logs);
  await rm(dir.path, { recursive: true });
  const journal = journalsWith().create(run());
  print(journal, MANY);
  await waitFor(() => journal.refusal(), { ...UNTIL, what: "the write to fail" });
  expect(await readdir(dir.path).catch(() => "gone")).toBe("gone");
});
