import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import {
  type JobPage,
  type JobPlace,
  type JobRecords,
  type JobSummary,
  PUBLISHER_TTL_MS,
  RecordsUnavailable,
  type RetryBasis,
  type UnnumberedEvent,
} from "../../../../src/orchestrator/records/job-records.ts";
import type { JobState } from "../../../../src/shared/job.ts";
import { waitFor } from "../../../support/machine/wait-for.ts";
import { sampleResult } from "../sample-result.ts";

/** The data of one test. */
export interface RecordStore {
  /** Started and ready; a second call simulates a second orchestrator, or a restart. */
  open(): Promise<JobRecords>;
  /** Makes a job's record one of a version that stored no identities. */
  forgetIdentity(jobId: string): Promise<void>;
  /** Makes every record older at once, without waiting. */
  advance(ms: number): Promise<void>;
  remove(): Promise<void>;
}

const LONG_MEMORY_MS = 600_000;
const SHORT_MEMORY_MS = 300;
const TIMEOUT_MS = 30_000;
const acceptedAt = new Date("2026-01-02T03:04:05.678Z");
const job = { repo_url: "owner/name", branch: "main", build_args: { TOKEN: "***" } };
const identity = { repo_url: "owner/name", branch: "main", build_args: { TOKEN: "t-1", MODE: "fast" } };
const inGroup = (key: string) => ({ tenant: "acme", key });

function event(jobId: string, state: JobState, details: Record<string, unknown> = {}): UnnumberedEvent {
  return { job_id: jobId, tenant: "acme", attempt: 1, state, at: "2026-01-02T03:04:06.000Z", ...details };
}

/** The contract of `src/orchestrator/records/job-records.ts`, which both implementations pass. */
export function describeJobRecordsContract(
  name: string,
  makeStore: (jobMemoryMs: number) => Promise<RecordStore>,
): void {
  describe(`${name}: job records`, () => {
    let store: RecordStore;
    let records: JobRecords;
    const stores: RecordStore[] = [];

    beforeEach(() => useStore(LONG_MEMORY_MS));

    afterEach(async () => {
      await Promise.all(stores.splice(0).map((each) => each.remove()));
    });

    async function useStore(jobMemoryMs: number): Promise<void> {
      store = await makeStore(jobMemoryMs);
      stores.push(store);
      records = await store.open();
    }

    const admit = (jobId: string, replyTo?: string) =>
      records.admit({ jobId, job, identity, acceptedAt, replyTo });

    describe("admission", () => {
      test("is new until the job is in its ready queue, always with the time of the first acceptance", async () => {
        expect(await admit("j1")).toEqual({ kind: "new", acceptedAt });
        const later = { jobId: "j1", job, identity, acceptedAt: new Date() };
        expect(await records.admit(later)).toEqual({ kind: "new", acceptedAt });
        await records.queued("j1");
        expect(await records.admit(later)).toMatchObject({ kind: "active" });
        expect(await admit("j2")).toEqual({ kind: "new", acceptedAt });
      });

      test("of a job that ended before it was in its ready queue is reported as ended then", async () => {
        await admit("j1");
        await admit("j2");
        await records.finish(sampleResult("j1"), "publisher", { isWaiting: true });
        expect(await records.queued("j1")).toBe(true);
        expect(await records.queued("j2")).toBe(false);
      });

      test("of a finished job returns its result", async () => {
        await admit("j1");
        await records.queued("j1");
        await records.finish(sampleResult("j1"), "p-1");
        expect(await admit("j1")).toEqual({ kind: "finished", result: sampleResult("j1") });
        await records.published("j1");
        expect(await admit("j1")).toEqual({ kind: "finished", result: sampleResult("j1") });
      });

      test("of a finished job is new again when its record has expired", async () => {
        await useStore(SHORT_MEMORY_MS);
        await admit("j1");
        await records.queued("j1");
        await records.append(event("j1", "QUEUED"));
        await records.finish(sampleResult("j1"), "p-1");
        await waitFor(async () => (await admit("j1")).kind === "new", {
          timeoutMs: TIMEOUT_MS,
          what: "the record to expire",
        });
        expect((await records.find("j1"))?.events).toEqual([]);
        expect((await records.append(event("j1", "QUEUED"))).seq).toBe(1);
      });

      test("of a job that ended while its message waits is remembered until the message is settled", async () => {
        await admit("j1");
        await records.queued("j1");
        expect(await records.finish(sampleResult("j1"), "p-1", { isWaiting: true })).toMatchObject({
          kind: "publish",
        });
        await records.published("j1");
        await store.advance(100 * LONG_MEMORY_MS);
        expect(await records.result("j1")).toEqual(sampleResult("j1"));
        expect(await admit("j1")).toEqual({ kind: "finished", result: sampleResult("j1") });
        await records.settled("j1");
        await store.advance(LONG_MEMORY_MS / 2);
        expect(await records.result("j1")).toEqual(sampleResult("j1"));
        await store.advance(LONG_MEMORY_MS);
        expect(await records.result("j1")).toBeUndefined();
      });

      test("of an active job is stored for longer than a finished one", async () => {
        await useStore(SHORT_MEMORY_MS);
        await admit("active");
        await records.queued("active");
        await records.finish(sampleResult("finished"), "p-1");
        await waitFor(async () => (await records.find("finished")) === undefined, {
          timeoutMs: TIMEOUT_MS,
          what: "the record to expire",
        });
        expect(await admit("active")).toMatchObject({ kind: "active" });
      });

      test("of an active job names how long its state has not changed", async () => {
        await admit("j1");
        await records.queued("j1");
        const unchangedForMs = async () => {
          const admission = await admit("j1");
          return admission.kind === "active" ? admission.unchangedForMs : Number.NaN;
        };
        await store.advance(LONG_MEMORY_MS);
        expect(await unchangedForMs()).toBeGreaterThanOrEqual(LONG_MEMORY_MS);
        await records.append(event("j1", "BUILDING"));
        expect(await unchangedForMs()).toBeLessThan(LONG_MEMORY_MS);
      });

      test("of a job whose message is lost is new, once for the time given", async () => {
        await admit("j1");
        await records.queued("j1");
        expect(await records.messageLost("j1", LONG_MEMORY_MS)).toBe(false);
        await store.advance(LONG_MEMORY_MS);
        const other = await store.open();
        const calls = [records, other].map((each) => each.messageLost("j1", LONG_MEMORY_MS));
        expect((await Promise.all(calls)).toSorted()).toEqual([false, true]);
        expect(await admit("j1")).toMatchObject({ kind: "new" });
        await records.queued("j1");
        expect(await admit("j1")).toMatchObject({ kind: "active" });
        expect(await records.messageLost("j1", LONG_MEMORY_MS)).toBe(false);
      });

      test("of a job that has ended, is not queued or is unknown, does not depend on a lost message", async () => {
        await admit("ended");
        await records.queued("ended");
        await records.finish(sampleResult("ended"), "p-1");
        await admit("accepted");
        await store.advance(LONG_MEMORY_MS / 2);
        for (const jobId of ["ended", "accepted", "unknown"])
          expect(await records.messageLost(jobId, LONG_MEMORY_MS / 2)).toBe(false);
        expect(await admit("ended")).toMatchObject({ kind: "finished" });
        expect(await records.find("unknown")).toBeUndefined();
      });

      test("of many at once has one answer", async () => {
        const other = await store.open();
        const times = Array.from({ length: 20 }, (_, index) => new Date(acceptedAt.getTime() + index));
        const admissions = await Promise.all(
          times.map((time, index) =>
            (index % 2 ? other : records).admit({ jobId: "j1", job, identity, acceptedAt: time }),
          ),
        );
        const answers = new Set(admissions.map((admission) => JSON.stringify(admission)));
        expect(answers.size).toBe(1);
      });

      test("after a loss before the job was in its ready queue is new again", async () => {
        await records.append(event("j1", "QUEUED"));
        expect(await admit("j1")).toEqual({ kind: "new", acceptedAt });
        await records.queued("j1");
        expect(await admit("j1")).toMatchObject({ kind: "active" });
      });

      test("after a loss during a job joins the job", async () => {
        await records.append(event("j1", "BUILDING"));
        expect(await admit("j1", "answers")).toMatchObject({ kind: "active" });
        expect(await records.find("j1")).toMatchObject({ job, acceptedAt, state: "BUILDING" });
        expect(await records.finish(sampleResult("j1"), "p-1")).toMatchObject({
          kind: "publish",
          replyTo: ["answers"],
        });
      });
    });

    describe("a message with the id of another job", () => {
      const other = { ...identity, branch: "next", tenant: "other" };
      const conflict = { kind: "conflict", fields: ["branch", "tenant"] } as const;
      const admitOther = () =>
        records.admit({ jobId: "j1", job, identity: other, acceptedAt, replyTo: "curious" });
      const replyTo = async () => {
        const finish = await records.finish(sampleResult("j1"), "p-1");
        return finish.kind === "publish" ? finish.replyTo : undefined;
      };

      test("is a conflict that names the fields, while that job waits, runs and is remembered", async () => {
        await admit("j1", "answers");
        expect(await admitOther()).toEqual(conflict);
        await records.queued("j1");
        expect(await admitOther()).toEqual(conflict);
        await records.append(event("j1", "BUILDING"));
        expect(await admitOther()).toEqual(conflict);
        expect(await admit("j1")).toMatchObject({ kind: "active" });
        expect(await replyTo()).toEqual(["answers"]);
        expect(await admitOther()).toEqual(conflict);
        expect(await admit("j1")).toMatchObject({ kind: "finished" });
      });

      test("is a conflict in its values of build arguments, but not in the order of their names", async () => {
        await admit("j1");
        const argumentsOf = (build_args: Record<string, string>) =>
          records.admit({ jobId: "j1", job, identity: { ...identity, build_args }, acceptedAt });
        expect(await argumentsOf({ MODE: "fast", TOKEN: "t-1" })).toMatchObject({ kind: "new" });
        expect(await argumentsOf({ MODE: "fast", TOKEN: "t-2" })).toEqual({
          kind: "conflict",
          fields: ["build_args"],
        });
      });

      test("at once: one of them is the job, all others are conflicts", async () => {
        const second = await store.open();
        const admissions = await Promise.all(
          Array.from({ length: 20 }, (_, index) =>
            (index % 2 ? second : records).admit({
              jobId: "j1",
              job,
              identity: { ...identity, branch: `b-${index}` },
              acceptedAt,
            }),
          ),
        );
        expect(admissions.filter(({ kind }) => kind === "new")).toHaveLength(1);
        expect(admissions.filter(({ kind }) => kind === "conflict")).toHaveLength(19);
      });

      test("joins it if that job's record was lost, and its identity is that of the new record", async () => {
        await records.append(event("j1", "BUILDING"));
        expect(await records.differingFields("j1", other)).toEqual([]);
        expect(await admitOther()).toMatchObject({ kind: "active" });
        expect(await admit("j1")).toEqual(conflict);
        expect(await replyTo()).toEqual(["curious"]);
      });

      test("joins it if that job's record has no identity", async () => {
        await admit("j1");
        await records.queued("j1");
        await store.forgetIdentity("j1");
        expect(await records.differingFields("j1", other)).toEqual([]);
        expect(await admitOther()).toMatchObject({ kind: "active" });
        expect(await admit("j1")).toMatchObject({ kind: "active" });
      });

      test("is the next job once that job is forgotten", async () => {
        await admit("j1");
        await records.finish(sampleResult("j1"), "p-1");
        await store.advance(2 * LONG_MEMORY_MS);
        expect(await admitOther()).toMatchObject({ kind: "new" });
        expect(await admit("j1")).toEqual(conflict);
      });

      test("can be compared with that job beforehand", async () => {
        expect(await records.differingFields("j1", identity)).toBeUndefined();
        await admit("j1");
        expect(await records.differingFields("j1", identity)).toEqual([]);
        expect(await records.differingFields("j1", other)).toEqual(conflict.fields);
        await records.finish(sampleResult("j1"), "p-1");
        expect(await records.differingFields("j1", other)).toEqual(conflict.fields);
      });
    });

    describe("what a retry needs", () => {
      const basis: RetryBasis = {
        buildArgs: { TOKEN: "hidden", MODE: "" },
        withheldBuildArgs: ["URL"],
        hadGitToken: true,
        secretNames: ["npm"],
        registryHosts: [],
      };
      const admitRetryable = (changes: object = {}) =>
        records.admit({ jobId: "j1", job, identity, retryBasis: basis, acceptedAt, ...changes });

      test("is that of the first message, with the queues of all", async () => {
        expect(await records.retrySource("j1")).toBeUndefined();
        await admitRetryable({ replyTo: "one", correlationId: "c-1" });
        await admitRetryable({
          replyTo: "other",
          correlationId: "c-2",
          retryBasis: { ...basis, buildArgs: {} },
        });
        const source = { basis, replyTo: ["one", "other"], correlationId: "c-1" };
        expect(await records.retrySource("j1")).toEqual(source);
        await records.finish(sampleResult("j1"), "p-1");
        expect(await (await store.open()).retrySource("j1")).toEqual(source);
        expect(JSON.stringify(await records.find("j1"))).not.toContain("hidden");
      });

      test("is missing in a record that began after a loss, until a message has joined it", async () => {
        const missing = { basis: undefined, replyTo: [], correlationId: undefined };
        await records.finish(sampleResult("ended"), "p-1");
        expect(await records.retrySource("ended")).toEqual(missing);
        await records.append(event("j1", "BUILDING"));
        await admitRetryable();
        expect(await records.retrySource("j1")).toEqual({ ...missing, basis });
      });

      test("is missing in a record of a version that did not store it", async () => {
        await admit("j1");
        expect(await records.retrySource("j1")).toMatchObject({ basis: undefined });
        await admitRetryable();
        expect(await records.retrySource("j1")).toMatchObject({ basis: undefined });
      });
    });

    describe("the right to publish a result", () => {
      const finish = (publisher: string) => records.finish(sampleResult("j1"), publisher);
      const kindFor = async (publisher: string) => (await finish(publisher)).kind;

      test("belongs to one publisher, which may request it again", async () => {
        const other = await store.open();
        await records.admit({
          jobId: "j1",
          job,
          identity,
          acceptedAt,
          correlationId: "c-1",
          replyTo: "answers",
        });
        const result = sampleResult("j1");
        const finishes = await Promise.all([finish("p-1"), other.finish(result, "p-2")]);
        expect(finishes.map(({ kind }) => kind).toSorted()).toEqual(["publish", "publishing"]);
        const index = finishes.findIndex(({ kind }) => kind === "publish");
        const answer = { kind: "publish", result, replyTo: ["answers"], correlationId: "c-1" };
        expect(finishes[index]).toEqual(answer as never);
        expect(await finish(`p-${index + 1}`)).toEqual(answer as never);
      });

      test("ends when the result is published", async () => {
        expect(await kindFor("p-1")).toBe("publish");
        await records.published("j1");
        expect([await kindFor("p-1"), await kindFor("p-2")]).toEqual(["published", "published"]);
      });

      test("can be returned only by its publisher", async () => {
        expect(await kindFor("p-1")).toBe("publish");
        await records.unpublished("j1", "p-2");
        expect(await kindFor("p-2")).toBe("publishing");
        await records.unpublished("j1", "p-1");
        expect(await kindFor("p-2")).toBe("publish");
        await records.publishing("j1", "p-1");
        await records.unpublished("j1", "p-1");
        expect(await kindFor("p-1")).toBe("publishing");
      });

      test("passes to another publisher when it is not renewed", async () => {
        expect(await kindFor("p-1")).toBe("publish");
        await store.advance(PUBLISHER_TTL_MS);
        expect(await kindFor("p-2")).toBe("publish");
        expect(await kindFor("p-1")).toBe("publishing");
      });
    });

    test("the result can be read alone", async () => {
      expect(await records.result("j1")).toBeUndefined();
      await admit("j1");
      expect(await records.result("j1")).toBeUndefined();
      await records.finish(sampleResult("j1"), "p-1");
      expect(await records.result("j1")).toEqual(sampleResult("j1"));
    });

    describe("superseding", () => {
      test("returns the earlier jobs of the same key, until they are superseded", async () => {
        for (const id of ["j1", "j2", "j3", "other"]) await admit(id);
        expect(await records.supersede(inGroup("main"), "j1")).toEqual([]);
        expect(await records.supersede(inGroup("main"), "j2")).toEqual(["j1"]);
        expect(await records.supersede(inGroup("branch"), "other")).toEqual([]);
        // A message that is delivered again after a crash keeps its job's place.
        expect(await records.supersede(inGroup("main"), "j1")).toEqual([]);
        expect(await records.supersede(inGroup("main"), "j3")).toEqual(["j1", "j2"]);
        await records.superseded(inGroup("main"), "j1");
        expect(await records.supersede(inGroup("main"), "j3")).toEqual(["j2"]);
      });

      test("does not cross tenants, whatever their keys contain", async () => {
        const groups = [
          { tenant: "one", key: "main" },
          { tenant: "other", key: "main" },
          { tenant: "other", key: "one:main" },
          { tenant: "one.main", key: "" },
          { tenant: "one", key: "main:" },
        ];
        for (const [index, group] of groups.entries()) {
          await admit(`j${index}`);
          expect(await records.supersede(group, `j${index}`)).toEqual([]);
        }
        await records.superseded({ tenant: "other", key: "main" }, "j0");
        await admit("last");
        expect(await records.supersede({ tenant: "one", key: "main" }, "last")).toEqual(["j0"]);
      });

      test("has one order for all orchestrators", async () => {
        const other = await store.open();
        const ids = Array.from({ length: 10 }, (_, index) => `j${index}`);
        for (const id of ids) await admit(id);
        const before = await Promise.all(
          ids.map((id, index) => (index % 2 ? other : records).supersede(inGroup("main"), id)),
        );
        const counts = before.map((earlier) => earlier.length).toSorted((one, two) => one - two);
        expect(counts).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
      });
    });

    describe("events", () => {
      test("are numbered from 1 on and kept in order with their details", async () => {
        await admit("j1");
        const appended = [
          await records.append(event("j1", "QUEUED", { worker_region: "us-east-1", priority: "normal" })),
          await records.append(
            event("j1", "ASSIGNED", { worker_id: "w1", nested: { empty: [], object: {} } }),
          ),
        ];
        expect(appended).toEqual([
          {
            ...event("j1", "QUEUED", { worker_region: "us-east-1", priority: "normal" }),
            seq: 1,
          },
          {
            ...event("j1", "ASSIGNED", { worker_id: "w1", nested: { empty: [], object: {} } }),
            seq: 2,
          },
        ]);
        expect((await records.find("j1"))?.events).toEqual(appended);
        expect((await records.append(event("j2", "QUEUED"))).seq).toBe(1);
      });

      test("never get the same number twice", async () => {
        const other = await store.open();
        const appended = await Promise.all(
          Array.from({ length: 100 }, (_, index) =>
            (index % 2 ? other : records).append(event("j1", "BUILDING", { index })),
          ),
        );
        expect(appended.map(({ seq }) => seq).toSorted((one, two) => one - two)).toEqual(
          Array.from({ length: 100 }, (_, index) => index + 1),
        );
        for (const kept of (await records.find("j1"))?.events ?? []) expect(appended).toContainEqual(kept);
      });

      test("are kept up to the last 200", async () => {
        for (let index = 0; index < 210; index++) await records.append(event("j1", "RETRYING"));
        const events = (await records.find("j1"))?.events ?? [];
        expect(events).toHaveLength(200);
        expect(events[0]?.seq).toBe(11);
        expect(events.at(-1)?.seq).toBe(210);
      });

      test("set the state until the result does", async () => {
        await admit("j1");
        expect((await records.find("j1"))?.state).toBe("QUEUED");
        await records.append(event("j1", "BUILDING"));
        expect((await records.find("j1"))?.state).toBe("BUILDING");
        await records.finish(sampleResult("j1"), "p-1");
        await records.append(event("j1", "PUSHING"));
        expect((await records.find("j1"))?.state).toBe("SUCCEEDED");
      });

      test("after the job's end do not extend the record", async () => {
        await useStore(SHORT_MEMORY_MS);
        await admit("j1");
        await records.finish(sampleResult("j1"), "p-1");
        await waitFor(
          async () => {
            const found = await records.find("j1");
            if (found?.result) await records.append(event("j1", "SUCCEEDED"));
            return found?.result === undefined;
          },
          { timeoutMs: TIMEOUT_MS, what: "the record to expire" },
        );
      });
    });

    describe("the result of a job", () => {
      test("is granted to its publisher again until it is confirmed", async () => {
        await admit("j1");
        const publish = { kind: "publish", result: sampleResult("j1"), replyTo: [] } as const;
        expect(await records.finish(sampleResult("j1"), "p-1")).toEqual(publish);
        expect(await records.finish(sampleResult("j1"), "p-1")).toEqual(publish);
        await records.published("j1");
        expect(await records.finish(sampleResult("j1"), "p-1")).toEqual({ kind: "published" });
      });

      test("is the first one stored", async () => {
        await admit("j1");
        const second = sampleResult("j1", { status: "FAILED", attempt: 2, logs: [] });
        await records.finish(sampleResult("j1"), "p-1");
        expect(await records.finish(second, "p-1")).toMatchObject({
          kind: "publish",
          result: sampleResult("j1"),
        });
        expect(await records.find("j1")).toMatchObject({ state: "SUCCEEDED", result: sampleResult("j1") });
      });

      test("is the same for all, however many are stored at once", async () => {
        const other = await store.open();
        const finishes = await Promise.all(
          Array.from({ length: 20 }, (_, index) =>
            (index % 2 ? other : records).finish(sampleResult("j1", { attempt: index + 1 }), "p-1"),
          ),
        );
        expect(new Set(finishes.map((finish) => JSON.stringify(finish))).size).toBe(1);
      });

      test("goes once to every named reply_to", async () => {
        await admit("j1", "first");
        await records.queued("j1");
        await admit("j1", "second");
        await admit("j1", "first");
        await admit("j1");
        expect(await records.finish(sampleResult("j1"), "p-1")).toMatchObject({
          replyTo: ["first", "second"],
        });
      });

      test.each([
        ["SUCCESS", "SUCCEEDED"],
        ["FAILED", "FAILED"],
        ["CANCELLED", "CANCELLED"],
      ] as const)("with %s leaves the state %s", async (status, state) => {
        await records.finish(sampleResult("j1", { status }), "p-1");
        expect((await records.find("j1"))?.state).toBe(state);
      });

      test("needs no record, and keeps empty values as they are", async () => {
        const result = sampleResult("j1", { logs: [], error: null, image_url: null, status: "CANCELLED" });
        expect(await records.finish(result, "p-1")).toEqual({ kind: "publish", result, replyTo: [] });
        expect((await records.find("j1"))?.result).toEqual(result);
      });

      test("cannot be confirmed before it is stored", async () => {
        await admit("j1");
        await records.published("j1");
        await records.published("unknown");
        expect(await records.find("unknown")).toBeUndefined();
        expect(await records.finish(sampleResult("j1"), "p-1")).toMatchObject({ kind: "publish" });
      });
    });

    describe("images that were pushed", () => {
      const image = (number: number) => ({ inputs: `inputs-${number}`, digest: `sha256:${number}` });

      test("are listed for their repository, the latest first, for every orchestrator", async () => {
        expect(await records.knownImages("one")).toEqual([]);
        for (const number of [1, 2, 3]) await records.rememberImage("one", image(number));
        await records.rememberImage("other", image(4));
        await records.rememberImage("one", image(1));
        const second = await store.open();
        expect(await second.knownImages("one")).toEqual([image(1), image(3), image(2)]);
        expect(await second.knownImages("other")).toEqual([image(4)]);
      });

      test("of the same inputs are all stored", async () => {
        await records.rememberImage("one", image(1));
        await records.rememberImage("one", { ...image(1), digest: "sha256:again" });
        expect((await records.knownImages("one")).map(({ digest }) => digest)).toEqual([
          "sha256:again",
          "sha256:1",
        ]);
      });

      test("are returned up to 200, and stored up to 1,000", async () => {
        for (let number = 0; number < 1_010; number++) await records.rememberImage("one", image(number));
        const told = await records.knownImages("one");
        expect(told).toHaveLength(200);
        expect(told[0]).toEqual(image(1_009));
        expect(told.at(-1)).toEqual(image(810));
      });
    });

    describe("the list of jobs", () => {
      const all = { matches: () => true, limit: 100, after: undefined };
      const admitAt = (jobId: string, ms: number) =>
        records.admit({ jobId, job, identity, acceptedAt: new Date(ms) });
      const idsOf = ({ jobs }: JobPage) => jobs.map(({ jobId }) => jobId);

      test("is empty without jobs", async () => {
        expect(await records.list(all)).toEqual({ jobs: [], next: undefined });
      });

      test("has each job with its state, and its result without the log", async () => {
        await admitAt("j1", 1000);
        await admitAt("j2", 2000);
        await admitAt("j3", 3000);
        await records.append(event("j2", "QUEUED"));
        await records.append(event("j2", "BUILDING"));
        const { logs: _, ...result } = sampleResult("j3");
        await records.finish(sampleResult("j3"), "publisher");
        const second = await store.open();
        expect(await second.list(all)).toEqual({
          jobs: [
            { jobId: "j3", job, acceptedAt: new Date(3000), state: "SUCCEEDED", result },
            { jobId: "j2", job, acceptedAt: new Date(2000), state: "BUILDING", result: undefined },
            { jobId: "j1", job, acceptedAt: new Date(1000), state: "QUEUED", result: undefined },
          ],
          next: undefined,
        });
      });

      test("is read page by page, and misses no job of the same time", async () => {
        const ids = Array.from({ length: 25 }, (_, index) => `j${index}`);
        for (const [index, id] of ids.entries()) await admitAt(id, index < 20 ? 1000 : 2000);
        const seen: string[] = [];
        let after: JobPlace | undefined;
        do {
          const page = await records.list({ ...all, limit: 3, after });
          seen.push(...idsOf(page));
          after = page.next;
        } while (after);
        expect(new Set(seen.slice(0, 5))).toEqual(new Set(ids.slice(20)));
        expect(seen.toSorted()).toEqual(ids.toSorted());
      });

      test("goes on after a job that is accepted meanwhile, or whose record has expired", async () => {
        for (const number of [1, 2, 3, 4]) await admitAt(`j${number}`, number);
        const page = await records.list({ ...all, limit: 2 });
        await admitAt("j5", 5);
        expect(idsOf(await records.list({ ...all, after: page.next }))).toEqual(["j2", "j1"]);
        expect(idsOf(await records.list({ ...all, after: { acceptedAtMs: 3, jobId: "gone" } }))).toEqual([
          "j2",
          "j1",
        ]);
      });

      test("begins with the jobs accepted at the time before which it is wanted, or earlier", async () => {
        for (const ms of [999, 1000, 1001, 1002]) await admitAt(`j${ms}`, ms);
        const after = { acceptedAtMs: 1001, jobId: "" };
        expect(idsOf(await records.list({ ...all, after }))).toEqual(["j1000", "j999"]);
      });

      test("a page reads about 8 MB of records, and misses none of them", async () => {
        const ids = Array.from({ length: 12 }, (_, index) => `j${index}`);
        const large = { ...job, labels: { text: "x".repeat(1_000_000) } };
        for (const [index, jobId] of ids.entries())
          await records.admit({ jobId, job: large, identity, acceptedAt: new Date(index) });
        const first = await records.list(all);
        expect(first.jobs.length).toBeWithin(8, 12);
        expect((await records.list({ ...all, matches: () => false })).next).toEqual(first.next);
        const second = await records.list({ ...all, after: first.next });
        expect([...idsOf(first), ...idsOf(second)]).toEqual(ids.toReversed());
        expect(second.next).toBeUndefined();
      });

      test("may be filtered; a page reads at most 1,000 records", async () => {
        await admitAt("wanted", 1);
        for (let number = 0; number < 1005; number++) await admitAt(`j${number}`, 1000 + number);
        const listing = { ...all, matches: ({ jobId }: JobSummary) => jobId === "wanted" };
        const page = await records.list(listing);
        expect(page.jobs).toEqual([]);
        expect(idsOf(await records.list({ ...listing, after: page.next }))).toEqual(["wanted"]);
      });

      test("has no job whose record has expired", async () => {
        await useStore(LONG_MEMORY_MS);
        await admitAt("j1", 1);
        await records.finish(sampleResult("j1"), "publisher");
        await store.advance(LONG_MEMORY_MS + 1000);
        await admitAt("j2", 2);
        expect(idsOf(await records.list(all))).toEqual(["j2"]);
      });

      test("has a job whose record began with an event or a result, after a loss", async () => {
        await records.append(event("j1", "BUILDING"));
        await records.finish(sampleResult("j2"), "publisher");
        const { jobs } = await records.list(all);
        expect(new Map(jobs.map(({ jobId, state }) => [jobId, state]))).toEqual(
          new Map([
            ["j1", "BUILDING"],
            ["j2", "SUCCEEDED"],
          ]),
        );
      });
    });

    test("a record contains the build steps that came with the first result, and no list has them", async () => {
      const at = "2026-01-02T03:04:06.000Z";
      const steps = [{ number: 1, name: "[1/1] RUN make", started_at: at, ended_at: at, duration_ms: 0 }];
      await admit("j1");
      await records.finish(sampleResult("j1"), "p-1", { steps });
      await records.finish(sampleResult("j1"), "p-2", { steps: [] });
      expect((await records.find("j1"))?.steps).toEqual(steps);
      const { jobs } = await records.list({ matches: () => true, limit: 1, after: undefined });
      expect(JSON.stringify(jobs)).not.toContain("RUN make");
      await records.finish(sampleResult("j2"), "p-1", { steps: [] });
      await records.finish(sampleResult("j3"), "p-1");
      expect((await records.find("j2"))?.steps).toEqual([]);
      expect((await records.find("j3"))?.steps).toBeUndefined();
    });

    test("a record contains the job, its state, events and result", async () => {
      expect(await records.find("j1")).toBeUndefined();
      await admit("j1");
      await records.queued("j1");
      const queued = await records.append(event("j1", "QUEUED"));
      expect(await records.find("j1")).toEqual({
        jobId: "j1",
        job,
        acceptedAt,
        state: "QUEUED",
        events: [queued],
        result: undefined,
      });
    });

    test("closed records reject every call", async () => {
      await records.close();
      expect(records.isReady).toBe(false);
      await expect(admit("j1")).rejects.toBeInstanceOf(RecordsUnavailable);
      await expect(records.find("j1")).rejects.toBeInstanceOf(RecordsUnavailable);
      await expect(records.retrySource("j1")).rejects.toBeInstanceOf(RecordsUnavailable);
      await records.close();
    });
  });
}
