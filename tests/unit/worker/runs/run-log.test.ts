import { expect, test } from "bun:test";
import { createHash } from "node:crypto";
import { UNREAD_OUTPUT } from "../../../../src/worker/buildkit/progress/missing-output.ts";
import { type LogLimits, RunLog } from "../../../../src/worker/runs/run-log.ts";

const WIDE: LogLimits = { keptBytes: 1_000_000, tail: { lines: 100, bytes: 1_000_000 } };

interface Logged {
  readonly log: RunLog;
  readonly kept: readonly string[];
}

/** The storage adds this much to each line. */
const OVERHEAD_BYTES = 60;

function logged(
  lines: readonly string[],
  limits: LogLimits,
  refusal: (kept: readonly string[]) => string | undefined = () => undefined,
): Logged {
  const kept: string[] = [];
  const storage = {
    sizeBytes: 0,
    append({ line }: { line: string }) {
      kept.push(line);
      storage.sizeBytes += Buffer.byteLength(line) + OVERHEAD_BYTES;
    },
    refusal: () => refusal(kept),
  };
  const log = new RunLog(limits, storage);
  for (const line of lines) log.add(line);
  log.end();
  return { log, kept };
}

/** The description of a log of which these lines were reported. */
function described({ kept }: Logged, truncated: boolean) {
  const text = kept.map((line) => `${line}\n`).join("");
  const sha256 = createHash("sha256").update(text).digest("hex");
  return { bytes: Buffer.byteLength(text), lines: kept.length, sha256, truncated };
}

test("run log: describes the whole log, and keeps the tail by lines", () => {
  const whole = logged(["one", "two", "thrée"], { ...WIDE, tail: { lines: 2, bytes: 1000 } });
  expect(whole.kept).toEqual(["one", "two", "thrée"]);
  expect(whole.log.tail()).toEqual(["two", "thrée"]);
  expect(whole.log.summary()).toEqual(described(whole, false));
});

test("run log: keeps the tail by bytes", () => {
  const { log } = logged(["1234", "5678", "ä"], { ...WIDE, tail: { lines: 100, bytes: 10 } });
  expect(log.tail()).toEqual(["5678", "ä"]);
});

test("run log: beyond the limit it keeps the last lines, and reports what is left out", () => {
  const lines = Array.from({ length: 1000 }, (_, index) => `line ${index}`);
  const limits = { keptBytes: 100, tail: { lines: 3, bytes: 1000 } };
  const cut = logged(lines, limits);
  const head = lines.slice(0, 13);
  const leftOut = lines.slice(13, -3);
  const leftOutBytes = Buffer.byteLength(leftOut.join("\n")) + 1;
  expect(cut.kept).toEqual([
    ...head,
    "[the log is longer than 100 bytes: of the rest, only the last lines are kept]",
    `[${leftOutBytes} bytes in ${leftOut.length} lines are left out here]`,
    "line 997",
    "line 998",
    "line 999",
  ]);
  expect(cut.log.tail()).toEqual(["line 997", "line 998", "line 999"]);
  expect(cut.log.summary()).toEqual(described(cut, true));
});

test("run log: nothing is left out when the last lines are all that exceeded the limit", () => {
  const lines = Array.from({ length: 20 }, (_, index) => `line ${index}`);
  const cut = logged(lines, { keptBytes: 100, tail: { lines: 10, bytes: 1000 } });
  expect(cut.kept.filter((line) => !line.startsWith("["))).toEqual(lines);
  expect(cut.log.summary()).toEqual(described(cut, false));
});

test("run log: may keep only the last lines", () => {
  const { log, kept } = logged(["one", "two", "three"], { keptBytes: 0, tail: { lines: 1, bytes: 1000 } });
  expect(kept.at(-1)).toBe("three");
  expect(kept).toHaveLength(3);
  expect(log.summary().truncated).toBe(true);
});

test("run log: a very long line that no program printed is cut, and the cut is marked", () => {
  const cut = logged(["x".repeat(100_000)], WIDE);
  expect(cut.kept[0]).toHaveLength(64 * 1024 + " [line cut]".length);
  expect(cut.log.summary()).toEqual(described(cut, true));
});

test("run log: detects that BuildKit has left output out", () => {
  const isTruncated = (line: string) => logged([line], WIDE).log.summary().truncated;
  expect(isTruncated("#7 0.413 [output clipped, log limit 2MiB reached]")).toBe(true);
  expect(isTruncated("#7 0.413 [output clipped, log speed 200KiB/s reached]")).toBe(true);
  expect(isTruncated("#7 0.413 [output clipped, log limit 976.5625KiB/s reached]")).toBe(true);
  expect(isTruncated(UNREAD_OUTPUT)).toBe(true);
  expect(isTruncated("#7 0.413 the limit is reached]")).toBe(false);
});

test("run log: a result may have no log", () => {
  const { log } = logged(["one"], { ...WIDE, tail: { lines: 0, bytes: 1000 } });
  expect(log.tail()).toEqual([]);
  expect(log.summary().lines).toBe(1);
});

test("run log: when it can no longer be stored, the last lines are kept, and the reason is noted once", () => {
  const lines = Array.from({ length: 100 }, (_, index) => `line ${index}`);
  const isFull = (kept: readonly string[]) => (kept.length >= 10 ? "the disk is full" : undefined);
  const cut = logged(lines, { ...WIDE, tail: { lines: 2, bytes: 1000 } }, isFull);
  expect(cut.kept).toEqual([
    ...lines.slice(0, 10),
    "[the disk is full: of the rest, only the last lines are kept]",
    "[704 bytes in 88 lines are left out here]",
    ...lines.slice(-2),
  ]);
  expect(cut.log.summary()).toEqual(described(cut, true));
});

test("run log: nothing is said to be missing when the last lines are all that could not be stored", () => {
  const isFull = (kept: readonly string[]) => (kept.length >= 1 ? "the disk is full" : undefined);
  const cut = logged(["one", "two", "three"], WIDE, isFull);
  expect(cut.kept.filter((line) => !line.startsWith("["))).toEqual(["one", "two", "three"]);
  expect(cut.log.summary()).toEqual(described(cut, false));
});

test("run log: millions of empty lines take limited space", () => {
  const lines = Array.from({ length: 300_000 }, () => "");
  const cut = logged(lines, { keptBytes: 1_000_000, tail: { lines: 2, bytes: 1000 } });
  expect(cut.kept.length * OVERHEAD_BYTES).toBeLessThan(8_100_000);
  expect(cut.kept).toContain(
    "[the log takes more than 8000000 bytes with the times of its lines: of the rest, only the last lines are kept]",
  );
  expect(cut.log.summary()).toEqual(described(cut, true));
});
