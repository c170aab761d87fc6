import { expect, test } from "bun:test";
import { createHash } from "node:crypto";
import { RunLog } from "../../../src/worker/run-log.ts";

function sha256(text: string): string {
  return createHash("sha256").update(text).digest("hex");
}

test("describes the whole, keeps the tail by lines", () => {
  const log = new RunLog({ lines: 2, bytes: 1000 });
  for (const line of ["one", "two", "three"]) log.add(line);
  expect(log.tail()).toEqual(["two", "three"]);
  expect(log.summary()).toEqual({
    bytes: 14,
    lines: 3,
    sha256: sha256("one\ntwo\nthree\n"),
    truncated: false,
  });
});

test("keeps the tail by bytes", () => {
  const log = new RunLog({ lines: 100, bytes: 10 });
  for (const line of ["1234", "5678", "ä"]) log.add(line);
  expect(log.tail()).toEqual(["5678", "ä"]);
});

test("a line without end is cut, and that is said", () => {
  const log = new RunLog({ lines: 10, bytes: 100_000 });
  const kept = log.add("x".repeat(20_000));
  expect(kept).toHaveLength(16 * 1024 + " [line cut]".length);
  expect(log.summary().truncated).toBe(true);
});

test("may keep nothing", () => {
  const log = new RunLog({ lines: 0, bytes: 1000 });
  log.add("one");
  expect(log.tail()).toEqual([]);
  expect(log.summary().lines).toBe(1);
});
