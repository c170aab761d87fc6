/** Every implementation of LogPlaces passes these tests. */
import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import type { LogPlaces } from "../../../../src/orchestrator/records/log-places.ts";

export interface LogPlacesUnderTest {
  open(memoryMs: number): Promise<LogPlaces>;
  /** Imitates that this time passes. */
  advance(ms: number): Promise<void>;
  remove(): Promise<void>;
}

const RUN = { tenant: "acme", jobId: "..", attempt: 1 };
const KEPT = { kind: "orchestrator", id: "one" } as const;
const MISSING = { kind: "missing", reason: "the disk was full" } as const;
const MEMORY_MS = 600_000;

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
      await places.note({ ...RUN, attempt: 2 }, { kind: "store" });
      await places.note({ ...RUN, jobId: "other" }, KEPT);
      expect(await places.find("..")).toEqual(
        new Map([
          [1, { ...MISSING, tenant: "acme" }],
          [2, { kind: "store", tenant: "acme" } as const],
        ]),
      );
      await places.note(RUN, KEPT);
      await places.note(RUN, MISSING);
      expect((await places.find("..")).get(1)).toEqual({ ...KEPT, tenant: "acme" });
      await places.note(RUN, { ...KEPT, id: "two" });
      expect((await places.find("..")).get(1)).toEqual({ ...KEPT, id: "two", tenant: "acme" });
      await places.note(RUN, { kind: "store" });
      await places.note(RUN, KEPT);
      expect((await places.find("..")).get(1)).toEqual({ kind: "store", tenant: "acme" });
    });

    test("a log that is kept is not copied again, and a missing one may be", async () => {
      expect(await places.claim(RUN, "one")).toBe("granted");
      expect(await places.find("..")).toEqual(new Map());
      await places.note(RUN, MISSING);
      expect(await places.claim(RUN, "one")).toBe("granted");
      await places.note(RUN, KEPT);
      expect(await places.claim(RUN, "one")).toBe("kept");
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
