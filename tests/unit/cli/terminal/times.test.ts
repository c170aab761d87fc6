import { expect, test } from "bun:test";
import { shownAge, shownDuration, shownTime } from "../../../../src/cli/terminal/times.ts";

test("times, ages and durations", () => {
  expect(shownTime("2026-01-31T12:00:05.678Z")).toBe("2026-01-31 12:00:05Z");
  expect(shownTime("2026-01-31T12:00:05+02:00")).toBe("2026-01-31 10:00:05Z");
  expect(shownTime("unknown")).toBe("unknown");
  const ages = [-1, 0, 119_999, 120_000, 7_200_000, 172_800_000].map(shownAge);
  expect(ages).toEqual(["0s", "0s", "119s", "2m", "2h", "2d"]);
  const durations = [0, 12_340, 61_000, 3_725_000].map(shownDuration);
  expect(durations).toEqual(["0.0 s", "12.3 s", "1 min 1 s", "1 h 2 min"]);
});
