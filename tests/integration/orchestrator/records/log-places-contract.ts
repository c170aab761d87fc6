/** Every implementation of LogPlaces passes these tests. */
import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import type { JobRecords } from "../../../../src/orchestrator/records/job-records.ts";
import type { LogPlaces } from "../../../../src/orchestrator/records/log-places.ts";
import { sampleResult } from "../sample-result.ts";

export interface LogPlacesUnderTest {
  open(memoryMs: number): Promise<LogPlaces>;
  /** Beside the places; they remember ended jobs for half of MEMORY_MS. */
  readonly records: JobRecords;
  /** Imitates that this time passes. */
  advance(ms: number): Promise<void>;
  remove(): Promise<void>;
}

const RUN = { tenant: "acme", jobId: "..", attempt: 1 };
const KEPT = { kind: "orchestrator", id: "one" } as const;
const STORED = { kind: "store", id: "one" } as const;
const MISSING = { kind: "missing", reason: "the disk was full" } as const;
export const MEMORY_MS = 600_000;

export function describeLogPlacesContract(name: string, create: () => Promise<LogPlacesUnderTest>): void {
  describe(`${name}: places of logs`, () => {
    let subject: LogPlacesUnderTest;
    let places: LogPlaces;
    beforeEach(async () => {
      subject = await create();
      places = await subject.open(MEMORY_MS);
    });
    afterEach(() => subject.remove());

    test("each attempt has a place, which only an equal or better one replaces", async () => {
      expect(await places.find("..")).toEqual(new Map());
      await places.note(RUN, MISSING);
      await places.note({ ...RUN, attempt: 2 }, STORED);
      await places.note({ ...RUN, jobId: "other" }, KEPT);
      expect(await places.find("..")).toEqual(
        new Map([
          [1, { ...MISSING, tenant: "acme" }],
          [2, { ...STORED, tenant: "acme" }],
        ]),
      );
      await places.note(RUN, KEPT);
      await places.note(RUN, MISSING);
      expect((await places.find("..")).get(1)).toEqual({ ...KEPT, tenant: "acme" });
      await places.note(RUN, { ...KEPT, id: "two" });
      expect((await places.find("..")).get(1)).toEqual({ ...KEPT, id: "two", tenant: "acme" });
      await places.note(RUN, STORED);
      await places.note(RUN, KEPT);
      expect((await places.find("..")).get(1)).toEqual({ ...STORED, tenant: "acme" });
    });

    test("a log that is kept is not copied again, and a missing one may be", async () => {
      expect(await places.claim(RUN, "one")).toBe("granted");
      expect(await places.find("..")).toEqual(new Map());
      await places.note(RUN, MISSING);
      expect(await places.claim(RUN, "one")).toBe("granted");
      await places.note(RUN, KEPT);
      expect(await places.claim(RUN, "one")).toBe("kept");
    });

    test("the places of an earlier job with the same id are forgotten when a job begins, and never those of this one", async () => {
      const { records } = subject;
      const admit = () => records.admit({ jobId: "..", job: {}, identity: {}, acceptedAt: new Date() });
      const attempts = async () => [...(await places.find("..")).keys()];
      await places.note({ ...RUN, jobId: "other" }, KEPT);
      await admit();
      await places.note(RUN, KEPT);
      await places.note({ ...RUN, attempt: 2 }, STORED);
      // Delivered again before it was recorded as queued, then while it runs, then after its end.
      expect((await admit()).kind).toBe("new");
      await records.queued("..");
      expect((await admit()).kind).toBe("active");
      await records.finish(sampleResult(".."), "publisher");
      expect((await admit()).kind).toBe("finished");
      expect(await attempts()).toEqual([1, 2]);
      await subject.advance(MEMORY_MS / 2);
      expect(await attempts()).toEqual([1, 2]);
      expect((await admit()).kind).toBe("new");
      expect(await attempts()).toEqual([]);
      expect(await places.claim(RUN, "one")).toBe("granted");
      expect((await places.find("other")).size).toBe(1);
    });

    test("places are forgotten after the memory", async () => {
      await places.note(RUN, KEPT);
      await subject.advance(MEMORY_MS - 60_000);
      expect((await places.find("..")).size).toBe(1);
      await subject.advance(60_000);
      expect((await places.find("..")).size).toBe(0);
    });
  });
}
