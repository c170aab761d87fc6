import { expect, spyOn, test } from "bun:test";
import { join } from "node:path";
import { openEmbeddedDatabase } from "../../../../src/orchestrator/embedded-database.ts";
import { SqliteJobRecords } from "../../../../src/orchestrator/records/sqlite.ts";
import { makeTempDir } from "../../../support/machine/temp-dir.ts";
import { sampleResult } from "../sample-result.ts";
import { describeJobRecordsContract } from "./job-records-contract.ts";

describeJobRecordsContract("SQLite", async (jobMemoryMs) => {
  const folder = await makeTempDir("records");
  const database = openEmbeddedDatabase(join(folder.path, "blacktree.db"));
  return {
    async open() {
      const records = new SqliteJobRecords({ database, jobMemoryMs });
      records.start();
      return records;
    },
    async forgetIdentity(jobId) {
      database.run("UPDATE job_records SET salt = NULL, fingerprints = NULL WHERE job_id = ?", [jobId]);
    },
    async advance(ms) {
      database.run(
        `UPDATE job_records SET publisher_until = publisher_until - ?1, expires_at = expires_at - ?1,
           changed_at = changed_at - ?1`,
        [ms],
      );
    },
    async remove() {
      database.close();
      await folder.remove();
    },
  };
});

test("SQLite: records outlast the process", async () => {
  const folder = await makeTempDir("records");
  const path = join(folder.path, "blacktree.db");
  for (const kind of ["publish", "published"] as const) {
    const database = openEmbeddedDatabase(path);
    const records = new SqliteJobRecords({ database, jobMemoryMs: 60_000 });
    records.start();
    expect((await records.finish(sampleResult("j1"), "p-1")).kind).toBe(kind);
    await records.published("j1");
    database.close();
  }
  await folder.remove();
});

test("SQLite: results that a version without summaries has stored are listed", async () => {
  const folder = await makeTempDir("records");
  const database = openEmbeddedDatabase(join(folder.path, "blacktree.db"));
  const open = () => {
    const records = new SqliteJobRecords({ database, jobMemoryMs: 60_000 });
    records.start();
    return records;
  };
  await open().finish(sampleResult("j1"), "p-1");
  database.run("DROP TABLE job_summaries");
  const { logs: _, ...result } = sampleResult("j1");
  const { jobs } = await open().list({ matches: () => true, limit: 10, after: undefined });
  expect(jobs).toMatchObject([{ jobId: "j1", result }]);
  database.close();
  await folder.remove();
});

test("SQLite: the list is read in its order, without the results", async () => {
  const folder = await makeTempDir("records");
  const database = openEmbeddedDatabase(join(folder.path, "blacktree.db"));
  const records = new SqliteJobRecords({ database, jobMemoryMs: 60_000 });
  records.start();
  await records.finish(sampleResult("j1"), "p-1");
  const query = spyOn(database, "query");
  await records.list({ matches: () => true, limit: 10, after: undefined });
  const sql = query.mock.calls.map(([text]) => text).find((text) => text.includes("FROM job_records")) ?? "";
  const plan = database.prepare<{ detail: string }, [number, string]>(`EXPLAIN QUERY PLAN ${sql}`).all(1, "");
  const steps = plan.map(({ detail }) => detail).join("\n");
  expect(steps).toContain("SEARCH job_records USING INDEX");
  expect(steps).not.toContain("TEMP B-TREE");
  expect(sql).not.toMatch(/\bresult\b/);
  database.close();
  await folder.remove();
});
