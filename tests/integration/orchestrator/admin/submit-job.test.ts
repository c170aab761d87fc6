/** Submissions with real job records; the test decides what the queue does with a message. */
import { afterEach, beforeEach, expect, test } from "bun:test";
import { join } from "node:path";
import { submitJob } from "../../../../src/orchestrator/admin/submit-job.ts";
import { openEmbeddedDatabase } from "../../../../src/orchestrator/embedded-database.ts";
import { readJobMessage } from "../../../../src/orchestrator/job/message.ts";
import { SqliteJobRecords } from "../../../../src/orchestrator/records/sqlite.ts";
import { orAbort } from "../../../../src/shared/abort.ts";
import { makeTempDir, type TempDir } from "../../../support/machine/temp-dir.ts";

const rules = {
  git: { baseUrl: "https://github.com", allowedHosts: ["github.com"] },
  defaultRegion: "us-east-1",
  secretLimit: 100,
};

const regions = { problemOf: async () => undefined };

let folder: TempDir;
let database: ReturnType<typeof openEmbeddedDatabase>;
let records: SqliteJobRecords;
let submitted: string[];

beforeEach(async () => {
  folder = await makeTempDir("submit");
  database = openEmbeddedDatabase(join(folder.path, "blacktree.db"));
  records = new SqliteJobRecords({ database, jobMemoryMs: 60_000 });
  records.start();
  submitted = [];
});

afterEach(async () => {
  database.close();
  await folder.remove();
});

const bodyOf = (branch: string) =>
  Buffer.from(
    JSON.stringify({
      repo_url: "owner/name",
      branch,
      deployment_version: "v1",
      aws_account: "1234567890",
      ecr_repo: "images",
      job_id: "job",
    }),
  );

/** As intake does. */
async function admit(branch: string): Promise<void> {
  const message = readJobMessage(bodyOf(branch), {}, rules);
  if (message.kind !== "job") throw new Error(message.problems.join());
  await records.admit({ jobId: "job", job: {}, identity: message.identity, acceptedAt: new Date() });
}

/** `arrive`: what happens until the message has been handled by intake. */
function submit(branch: string, arrive: () => Promise<void>) {
  const queue = {
    async submit() {
      submitted.push(branch);
      await arrive();
    },
  };
  return submitJob({ queue, records, rules, regions }, bodyOf(branch), new AbortController().signal);
}

test("a job is accepted, again if it is the same job, and is a conflict if it is another one", async () => {
  const accepted = { kind: "accepted", jobId: "job" } as const;
  expect(await submit("main", () => admit("main"))).toEqual(accepted);
  expect(await submit("main", () => admit("main"))).toEqual(accepted);
  expect(await submit("next", () => admit("next"))).toEqual({ kind: "conflict", fields: ["branch"] });
  expect(submitted).toEqual(["main", "main"]);
});

test("a job is a conflict if another one with its id is accepted first", async () => {
  const conflict = { kind: "conflict", fields: ["branch"] } as const;
  expect(await submit("next", () => admit("main"))).toEqual(conflict);
  expect(submitted).toEqual(["next"]);
});

test("a job is accepted while the records are unavailable", async () => {
  await records.close();
  expect(await submit("main", async () => undefined)).toEqual({ kind: "accepted", jobId: "job" });
});

test("a job that the queue does not confirm in time is named, so that it can be submitted again", async () => {
  const queue = {
    submit: (_body: Buffer, _properties: object, signal?: AbortSignal) =>
      orAbort(Promise.withResolvers<void>().promise, signal),
  };
  const late = new AbortController();
  const answer = submitJob({ queue, records, rules, regions }, bodyOf("main"), late.signal);
  late.abort(new Error("too late"));
  expect(await answer).toEqual({ kind: "unconfirmed", jobId: "job" });
});
