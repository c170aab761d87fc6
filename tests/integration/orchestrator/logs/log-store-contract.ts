/** What every log store has to do. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { rm } from "node:fs/promises";
import { join } from "node:path";
import type { LogKey, LogStore } from "../../../../src/orchestrator/logs/log-store.ts";
import { makeTempDir, type TempDir } from "../../../support/machine/temp-dir.ts";

export interface LogStoreSite {
  readonly store: LogStore;
  stop(): Promise<void>;
}

const NOT_ABORTED = new AbortController().signal;
const MB = 1e6;

export async function readAll(store: LogStore, key: LogKey): Promise<Buffer | undefined> {
  const bytes = await store.read(key, NOT_ABORTED);
  if (bytes === undefined) return undefined;
  const chunks: Uint8Array[] = [];
  for await (const chunk of bytes) chunks.push(chunk);
  return Buffer.concat(chunks);
}

/** A log of about this size whose lines all differ. */
export function journalOf(sizeBytes: number): Buffer {
  const lineBytes = 100;
  const lines = Array.from({ length: Math.ceil(sizeBytes / lineBytes) }, (_, seq) =>
    `${JSON.stringify({ seq, line: "é".repeat(30) })}`.padEnd(lineBytes - 1),
  );
  return Buffer.from(`${lines.join("\n")}\n`);
}

export function logStoreContract(name: string, open: () => Promise<LogStoreSite>): void {
  describe(`${name} as a log store`, () => {
    let site: LogStoreSite;
    let folder: TempDir;
    let jobs = 0;

    beforeAll(async () => {
      [site, folder] = await Promise.all([open(), makeTempDir("journals")]);
    });
    afterAll(async () => {
      await site.stop();
      await folder.remove();
    });

    const newKey = (): LogKey => ({ tenant: "acme", jobId: `job-${++jobs}`, attempt: 1 });

    async function journal(content: string | Uint8Array): Promise<string> {
      const path = join(folder.path, crypto.randomUUID());
      await Bun.write(path, content);
      return path;
    }

    const put = async (key: LogKey, content: string | Uint8Array, signal = NOT_ABORTED) =>
      site.store.put(key, await journal(content), signal);

    test("returns the bytes of a journal, also after its file is removed", async () => {
      const key = newKey();
      const path = await journal("one\ntwö\n");
      await site.store.put(key, path, NOT_ABORTED);
      await rm(path);
      expect(await readAll(site.store, key)).toEqual(Buffer.from("one\ntwö\n"));
    });

    test("has nothing for a key that was not put", async () => {
      const key = newKey();
      await put(key, "one\n");
      for (const other of [newKey(), { ...key, attempt: 2 }, { ...key, tenant: "other" }])
        expect(await readAll(site.store, other)).toBeUndefined();
    });

    test("the last journal of a key counts", async () => {
      const key = newKey();
      await put(key, "a longer first journal\n");
      await put(key, "second\n");
      expect(`${await readAll(site.store, key)}`).toBe("second\n");
    });

    test("an empty journal is not a missing one", async () => {
      const key = newKey();
      await put(key, "");
      expect(await readAll(site.store, key)).toEqual(Buffer.alloc(0));
    });

    test("keeps the journals of all valid tenants, job ids and attempts apart", async () => {
      const names = [".", "..", "...", "a", "A", "a.", "-", "_", "1.ndjson", "2E"];
      const tenants = [...names, "t".repeat(64)];
      const jobIds = [...names, ":", "a:b", "j".repeat(200), crypto.randomUUID()];
      const keys = [
        ...tenants.map((tenant) => ({ tenant, jobId: "job", attempt: 1 })),
        ...jobIds.map((jobId) => ({ tenant: "tenant", jobId, attempt: 1 })),
        ...[".", ".."].map((name) => ({ tenant: name, jobId: name, attempt: 1 })),
        { tenant: "tenant", jobId: "a", attempt: 2 },
        { tenant: "tenant", jobId: "a", attempt: 12 },
      ];
      for (const key of keys) await put(key, JSON.stringify(key));
      for (const key of keys) expect(JSON.parse(`${await readAll(site.store, key)}`)).toEqual(key);
    });

    test("a large journal is returned byte by byte, to readers of different speeds", async () => {
      const key = newKey();
      const content = journalOf(13 * MB);
      await put(key, content);
      const slowly = await site.store.read(key, NOT_ABORTED);
      const iterator = slowly?.[Symbol.asyncIterator]();
      const chunks = [(await iterator?.next())?.value];
      // `equals`, since a difference of this size is not to be printed.
      expect((await readAll(site.store, key))?.equals(content)).toBe(true);
      for (let next = await iterator?.next(); next && !next.done; next = await iterator?.next())
        chunks.push(next.value);
      expect(Buffer.concat(chunks).equals(content)).toBe(true);
    });

    test("a reader may stop in the middle", async () => {
      const key = newKey();
      const content = journalOf(6 * MB);
      await put(key, content);
      for await (const chunk of (await site.store.read(key, NOT_ABORTED)) ?? []) {
        expect(content.subarray(0, chunk.byteLength).equals(chunk)).toBe(true);
        break;
      }
      expect((await readAll(site.store, key))?.equals(content)).toBe(true);
    });

    test("an aborted download fails with the reason, and does not look complete", async () => {
      const key = newKey();
      await put(key, journalOf(13 * MB));
      const reader = new AbortController();
      const reason = new Error("the client has gone");
      const read = async () => {
        for await (const _ of (await site.store.read(key, reader.signal)) ?? []) reader.abort(reason);
      };
      await expect(read()).rejects.toBe(reason);
      await expect(read()).rejects.toBe(reason);
    });

    test("an aborted upload fails with the reason and stores nothing, or is complete", async () => {
      const content = journalOf(13 * MB);
      const reason = new Error("stopping");
      const expectWholeOrNothing = async (key: LogKey, error: unknown) => {
        if (error === undefined) return expect((await readAll(site.store, key))?.equals(content)).toBe(true);
        expect(error).toBe(reason);
        expect(await readAll(site.store, key)).toBeUndefined();
      };
      const uploaded = (done: Promise<void>) => done.catch((error: unknown) => error);

      const early = newKey();
      await expectWholeOrNothing(early, await uploaded(put(early, content, AbortSignal.abort(reason))));

      const key = newKey();
      const path = await journal(content);
      const stopping = new AbortController();
      const done = uploaded(site.store.put(key, path, stopping.signal));
      // The upload has begun.
      setImmediate(() => stopping.abort(reason));
      await expectWholeOrNothing(key, await done);
    });

    test("a journal that does not exist is an error of its file", async () => {
      const missing = site.store.put(newKey(), join(folder.path, "missing"), NOT_ABORTED);
      await expect(missing).rejects.toMatchObject({ code: "ENOENT" });
    });
  });
}
