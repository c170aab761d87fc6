import { describe, expect, test } from "bun:test";
import { FreeSlots } from "../../../../src/orchestrator/workers/free-slots.ts";

const NEAR = "us-east-1";
const FAR = "eu-west-1";
const ARM64 = ["linux/arm64"];

const group = (region: string, free: number, capabilities: string[] = []) => ({ region, capabilities, free });
const requirements = (regions: string[], needs: string[] = []) => ({ regions, needs });

describe("free slots", () => {
  test("fit a job when one of its regions has a free slot", () => {
    const free = new FreeSlots([group(FAR, 1)]);
    expect(free.fit(requirements([NEAR]))).toBe(false);
    expect(free.fit(requirements([NEAR, FAR]))).toBe(true);
    expect(free.hasAnyIn([NEAR])).toBe(false);
    expect(free.hasAnyIn([FAR])).toBe(true);
    expect(free.hasAnyIn([])).toBe(false);
    expect(free.hasAny).toBe(true);
  });

  test("fit a job only when their worker can build it", () => {
    const free = new FreeSlots([group(NEAR, 5), group(FAR, 1, ARM64)]);
    expect(free.fit(requirements([NEAR], ARM64))).toBe(false);
    expect(free.fit(requirements([NEAR, FAR], ARM64))).toBe(true);
  });

  test("become fewer in the first region that fits", () => {
    const free = new FreeSlots([group(NEAR, 1), group(FAR, 1, ARM64)]);
    free.claimed(requirements([NEAR, FAR]));
    expect(free.hasAnyIn([NEAR])).toBe(false);
    free.claimed(requirements([NEAR, FAR], ARM64));
    expect(free.hasAnyIn([FAR])).toBe(false);
    free.claimed(requirements([NEAR, FAR]));
    expect(free.hasAnyIn([NEAR, FAR])).toBe(false);
    expect(free.hasAny).toBe(false);
  });

  test("of all groups of a region are used before the region is full", () => {
    const free = new FreeSlots([group(NEAR, 1), group(NEAR, 1, ARM64)]);
    free.claimed(requirements([NEAR]));
    expect(free.fit(requirements([NEAR], ARM64))).toBe(true);
    free.claimed(requirements([NEAR], ARM64));
    expect(free.fit(requirements([NEAR]))).toBe(false);
  });

  test("of workers that cannot build a job stay free when those of capable workers are exhausted", () => {
    const free = new FreeSlots([group(NEAR, 2), group(NEAR, 2, ARM64), group(FAR, 2, ARM64)]);
    free.exhausted(requirements([NEAR], ARM64));
    expect(free.fit(requirements([NEAR], ARM64))).toBe(false);
    expect(free.fit(requirements([FAR], ARM64))).toBe(true);
    expect(free.fit(requirements([NEAR]))).toBe(true);
    free.exhausted(requirements([NEAR]));
    expect(free.fit(requirements([NEAR]))).toBe(false);
  });
});
