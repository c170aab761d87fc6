import { afterEach, beforeEach, expect, test } from "bun:test";
import { rm } from "node:fs/promises";
import { join } from "node:path";
import pino from "pino";
import { type LogKey, LogStoreUnavailable } from "../../../../src/orchestrator/logs/log-store.ts";
import { LogUploads, type UploadParts } from "../../../../src/orchestrator/logs/uploads.ts";
import { makeTempDir, type TempDir } from "../../../support/machine/temp-dir.ts";
import { waitFor } from "../../../support/machine/wait-for.ts";

let folder: TempDir;
let uploads: LogUploads | undefined;
/** By job id, as the store has them. */
let stored: Map<string, string>;
/** Job ids that the folder lists as pending. */
let marked: Set<string>;
let recorded: string[];
let lines: { msg: string; reason?: string; job_id?: string }[];
/** Throws to make an upload of this job fail. */
let fail: (jobId: string) => void | Promise<void>;

beforeEach(async () => {
  folder = await makeTempDir("uploads");
  stored = new Map();
  marked = new Set();
  recorded = [];
  lines = [];
  fail = () => undefined;
});
afterEach(async () => {
  await uploads?.stop();
  await folder.remove();
});

const keyOf = (jobId: string): LogKey => ({ tenant: "acme", jobId, attempt: 1 });
const pathOf = (jobId: string) => join(folder.path, jobId);
const down = new LogStoreUnavailable("log store s3://logs: down");
const messages = () => lines.map(({ msg }) => msg);

/** As the folder stores it. */
async function keep(jobId: string, text = jobId): Promise<void> {
  await Bun.write(pathOf(jobId), text);
  marked.add(jobId);
}

function start(parts: Partial<UploadParts> = {}): LogUploads {
  uploads = new LogUploads({
    store: {
      check: async () => undefined,
      async put({ jobId }, path) {
        const text = await Bun.file(path).text();
        await fail(jobId);
        stored.set(jobId, text);
      },
    },
    folder: {
      async *pending() {
        for (const jobId of marked) yield { key: keyOf(jobId), path: pathOf(jobId) };
      },
      uploaded: async ({ jobId }) => void marked.delete(jobId),
    },
    logger: pino({}, { write: (line: string) => void lines.push(JSON.parse(line)) }),
    retryDelay: { initialMs: 1, maxMs: 10 },
    onUploaded: async ({ jobId }) => void recorded.push(jobId),
    ...parts,
  });
  uploads.start();
  return uploads;
}

const waitUntil = (what: string, condition: () => boolean) => waitFor(condition, { timeoutMs: 30_000, what });
const allUploaded = () => waitUntil("all uploads", () => marked.size === 0 && uploads?.pending === 0);

test("what earlier starts have left is uploaded, and what is added", async () => {
  await keep("earlier");
  const running = start();
  await keep("later");
  running.add({ key: keyOf("later"), path: pathOf("later") });
  await allUploaded();
  expect(Object.fromEntries(stored)).toEqual({ earlier: "earlier", later: "later" });
  expect(recorded.toSorted()).toEqual(["earlier", "later"]);
  expect(messages()).toEqual(["log store reached"]);
});

test("failures are logged once, with the reason, and so is their end", async () => {
  const jobIds = ["a", "b", "c"];
  for (const jobId of jobIds) await keep(jobId);
  let failures = 0;
  fail = () => {
    failures += 1;
    if (failures <= 7) throw down;
  };
  start();
  await allUploaded();
  expect([...stored.keys()].toSorted()).toEqual(jobIds);
  expect(messages().filter((message) => message !== "log store reached")).toEqual([
    "log uploads failing",
    "log uploads work again",
  ]);
  expect(lines.find(({ reason }) => reason)?.reason).toBe(down.message);
});

test("an upload that always fails does not keep back the others", async () => {
  await keep("poison");
  fail = (jobId) => {
    if (jobId === "poison") throw new Error("refused");
  };
  const running = start();
  await waitUntil("a failure", () => messages().includes("log uploads failing"));
  for (const jobId of ["a", "b"]) {
    await keep(jobId);
    running.add({ key: keyOf(jobId), path: pathOf(jobId) });
  }
  await waitUntil("the others", () => marked.size === 1);
  expect(running.pending).toBe(1);
  expect(messages()).not.toContain("log uploads work again");
});

test("the check of the store is repeated until it passes, and its failure is one with that of uploads", async () => {
  await keep("a");
  let checks = 0;
  let tries = 0;
  const put = async () => {
    tries += 1;
    if (tries <= 2) throw down;
  };
  const check = async () => {
    checks += 1;
    if (checks <= 3) throw down;
  };
  start({ store: { check, put } });
  await allUploaded();
  await waitUntil("both to work", () => messages().includes("log uploads work again"));
  expect(messages().toSorted()).toEqual([
    "log store reached",
    "log uploads failing",
    "log uploads work again",
  ]);
  expect({ checks, tries }).toEqual({ checks: 4, tries: 3 });
});

test("uploads are made while the check fails", async () => {
  await keep("a");
  const put: UploadParts["store"]["put"] = async ({ jobId }) => void stored.set(jobId, jobId);
  start({ store: { check: () => Promise.reject(down), put } });
  await allUploaded();
  expect([...stored.keys()]).toEqual(["a"]);
  expect(messages()).toEqual(["log uploads failing"]);
});

test("a log whose file is removed is not tried again", async () => {
  await keep("gone");
  fail = async (jobId) => {
    await rm(pathOf(jobId));
    throw down;
  };
  const running = start();
  await waitUntil("the end of its attempts", () => marked.size === 0);
  expect(running.pending).toBe(0);
  expect(lines.find(({ msg }) => msg === "log removed before its upload")?.job_id).toBe("gone");
});

test("a log that the store has is recorded later when that fails, without another upload", async () => {
  await keep("a");
  let tries = 0;
  let puts = 0;
  fail = () => void puts++;
  start({
    onUploaded: async ({ jobId }) => {
      tries += 1;
      if (tries === 1) await rm(pathOf(jobId));
      if (tries < 3) throw new Error("records unavailable");
      recorded.push(jobId);
    },
  });
  await allUploaded();
  expect({ tries, puts, recorded }).toEqual({ tries: 3, puts: 1, recorded: ["a"] });
});

test("a log that is added again while it is uploaded is uploaded again", async () => {
  await keep("a", "first");
  const running = start();
  let puts = 0;
  fail = async () => {
    puts += 1;
    if (puts > 1) return;
    await keep("a", "second");
    running.add({ key: keyOf("a"), path: pathOf("a") });
  };
  await allUploaded();
  expect(stored.get("a")).toBe("second");
});

test("the end of this program ends its uploads, and leaves them pending", async () => {
  await keep("a");
  const begun = Promise.withResolvers<void>();
  const put: UploadParts["store"]["put"] = (_key, _path, signal) => {
    begun.resolve();
    return new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason)));
  };
  const running = start({ store: { check: async () => undefined, put } });
  await begun.promise;
  await running.stop();
  expect([...marked]).toEqual(["a"]);
  expect(messages()).toEqual(["log store reached"]);
});
