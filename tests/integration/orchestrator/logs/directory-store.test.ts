import { afterEach, beforeEach, expect, test } from "bun:test";
import { mkdir, readdir, rm, stat, utimes, writeFile } from "node:fs/promises";
import { join } from "node:path";
import pino from "pino";
import { DirectoryStore } from "../../../../src/orchestrator/logs/directory-store.ts";
import { type LogFolder, openLogFolder } from "../../../../src/orchestrator/logs/log-folder.ts";
import type { LogKey } from "../../../../src/orchestrator/logs/log-store.ts";
import { makeTempDir, type TempDir } from "../../../support/machine/temp-dir.ts";
import { waitFor } from "../../../support/machine/wait-for.ts";
import { logStoreContract } from "./log-store-contract.ts";

const signal = new AbortController().signal;
const logger = pino({ level: "silent" });
const DAY_MS = 86_400_000;

let temp: TempDir;
let path: string;
let opened: { readonly folder: LogFolder; readonly store: DirectoryStore }[];

beforeEach(async () => {
  temp = await makeTempDir("log-store");
  path = join(temp.path, "logs");
  opened = [];
});

afterEach(async () => {
  closeAll();
  await temp.remove();
});

function closeAll(): void {
  for (const { folder, store } of opened.splice(0)) {
    store.stop();
    folder.close();
  }
}

function openStore(limits = { sizeBytes: 1e9, ageMs: DAY_MS }): DirectoryStore {
  const folder = openLogFolder(path);
  const store = new DirectoryStore({ folder, limits, logger });
  opened.push({ folder, store });
  store.start();
  return store;
}

async function put(store: DirectoryStore, key: LogKey, text: string): Promise<void> {
  const journal = opened.at(-1)?.folder.unfinished() ?? "";
  await writeFile(journal, text);
  await store.put(key, journal, signal);
}

async function read(store: DirectoryStore, key: LogKey): Promise<string | undefined> {
  const chunks = await store.read(key, signal);
  return chunks && Buffer.concat(await Array.fromAsync(chunks)).toString();
}

const keyOf = (jobId: string, tenant = "tenant", attempt = 1): LogKey => ({ tenant, jobId, attempt });

/** Paths below the folder with their modes, without the names of the ids. */
async function modes(): Promise<Record<string, string>> {
  const entries = await readdir(path, { recursive: true });
  const pairs = entries.map(async (name) => [
    name,
    ((await stat(join(path, name))).mode & 0o777).toString(8),
  ]);
  return Object.fromEntries(await Promise.all(pairs)) as Record<string, string>;
}

logStoreContract("a folder", async () => {
  const folderOfContract = await makeTempDir("log-store");
  const folder = openLogFolder(folderOfContract.path);
  const store = new DirectoryStore({ folder, limits: { sizeBytes: 1e9, ageMs: DAY_MS }, logger });
  return {
    store,
    async stop() {
      folder.close();
      await folderOfContract.remove();
    },
  };
});

test("a log is pending until it is uploaded, over restarts, under its own key", async () => {
  const folder = openLogFolder(path);
  const added: LogKey[] = [];
  const options = { folder, limits: { sizeBytes: 1e9, ageMs: DAY_MS }, logger };
  const store = new DirectoryStore({ ...options, onPending: ({ key }) => added.push(key) });
  opened.push({ folder, store });
  const keys = ["a", "a.1", "b:c.2", ".."].flatMap((jobId) => [keyOf(jobId), keyOf(jobId, "..", 12)]);
  for (const key of keys) await put(store, key, JSON.stringify(key));
  expect(added).toEqual(keys);
  await store.uploaded(keyOf("a"));
  await store.uploaded(keyOf("a"));
  closeAll();
  const left = await Array.fromAsync(openStore().pending());
  const sorted = (all: readonly LogKey[]) => all.map((key) => JSON.stringify(key)).sort();
  expect(sorted(left.map(({ key }) => key))).toEqual(sorted(keys.slice(1)));
  for (const { key, path } of left) expect(await Bun.file(path).text()).toBe(JSON.stringify(key));
});

test("any job and tenant has its own file in the store, which only its owner can read", async () => {
  const store = openStore();
  const ids = [".", "..", "a", "a.1", "A", "b:c", "x".repeat(200), ":".repeat(200)];
  const keys = [".", "..", "acme", "t".repeat(64)].flatMap((tenant) =>
    ids.flatMap((jobId) => [1, 2, 11].map((attempt) => ({ tenant, jobId, attempt }))),
  );
  for (const key of keys) await put(store, key, JSON.stringify(key));
  for (const key of keys) expect(await read(store, key)).toBe(JSON.stringify(key));
  expect(await read(store, keyOf("absent"))).toBeUndefined();
  const found = await modes();
  expect(Object.keys(found).filter((name) => name.endsWith(".jsonl"))).toHaveLength(keys.length);
  expect(new Set(Object.values(found))).toEqual(new Set(["700", "600"]));
  expect(await readdir(temp.path)).toEqual(["logs"]);
});

test("the last journal of an attempt counts, and none is lost by a restart", async () => {
  await put(openStore(), keyOf("job"), "first");
  const { folder } = opened[0] ?? {};
  await put(opened[0]?.store ?? openStore(), keyOf("job"), "second");
  closeAll();
  const again = openStore();
  expect(await read(again, keyOf("job"))).toBe("second");
  expect(opened[0]?.folder.id).toBe(folder?.id ?? "");
});

test("unfinished journals are removed at the start, and two processes do not use one folder", async () => {
  openStore();
  await writeFile(opened[0]?.folder.unfinished() ?? "", "cut");
  expect(() => openLogFolder(path)).toThrow(`cannot use BLACKTREE_LOG_DIR ${path}: another process uses it`);
  expect(await readdir(join(path, "unfinished"))).toHaveLength(1);
  closeAll();
  openStore();
  expect(await readdir(join(path, "unfinished"))).toEqual([]);
});

test("a folder that cannot be used is named", async () => {
  await writeFile(path, "a file");
  expect(() => openLogFolder(path)).toThrow(`cannot use BLACKTREE_LOG_DIR ${path}: `);
});

test("the oldest logs are removed when all together are too large, also those of earlier starts; the latest stays", async () => {
  const limits = { sizeBytes: 250, ageMs: DAY_MS };
  const first = openStore(limits);
  for (const name of ["a", "b", "c"]) await put(first, keyOf(name), "x".repeat(100));
  await waitFor(async () => (await read(first, keyOf("a"))) === undefined, {
    timeoutMs: 30_000,
    what: "a to go",
  });
  expect(await read(first, keyOf("b"))).toBeDefined();
  closeAll();
  const second = openStore(limits);
  await put(second, keyOf("large"), "x".repeat(1000));
  const names = () => readdir(join(path, "kept", "tenant-tenant"));
  await waitFor(async () => (await names()).length === 1, { timeoutMs: 30_000, what: "the others to go" });
  expect(await names()).toEqual(["large.1.jsonl"]);
});

test("logs that are too old are removed at the start, and an open one is read to its end", async () => {
  const first = openStore();
  await put(first, keyOf("old"), "x".repeat(1_000_000));
  await put(first, keyOf("young"), "young");
  const reading = await first.read(keyOf("old"), signal);
  const twoDaysAgo = new Date(Date.now() - 2 * DAY_MS);
  await utimes(join(path, "kept", "tenant-tenant", "old.1.jsonl"), twoDaysAgo, twoDaysAgo);
  closeAll();
  const second = openStore();
  await waitFor(async () => (await read(second, keyOf("old"))) === undefined, {
    timeoutMs: 30_000,
    what: "old to go",
  });
  expect(await read(second, keyOf("young"))).toBe("young");
  expect(Buffer.concat(await Array.fromAsync(reading ?? [])).length).toBe(1_000_000);
});

test("a journal on another file system is copied", async () => {
  const store = openStore();
  const elsewhere = `/dev/shm/blacktree-test-${crypto.randomUUID()}`;
  await writeFile(elsewhere, "journal", { mode: 0o644 });
  try {
    await store.put(keyOf("job"), elsewhere, signal);
    expect(await read(store, keyOf("job"))).toBe("journal");
  } finally {
    await rm(elsewhere, { force: true });
  }
});

test("a tenant's folder that was removed is made again", async () => {
  const store = openStore();
  await put(store, keyOf("a"), "a");
  await rm(join(path, "kept"), { recursive: true });
  await mkdir(join(path, "kept"));
  await put(store, keyOf("b"), "b");
  expect(await read(store, keyOf("b"))).toBe("b");
});
