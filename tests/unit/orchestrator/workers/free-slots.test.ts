import { describe, expect, test } from "bun:test";
import { FreeSlots } from "../../../../src/orchestrator/workers/free-slots.ts";

const NEAR = "us-east-1";
const FAR = "eu-west-1";
const ARM64 = ["linux/arm64"];

const group = (region: string, free: number, capabilities: string[] = []) => ({ region, capabilities, free });
const wish = (regions: string[], needs: string[] = []) => ({ regions, needs });

describe("free slots", () => {
  test("fit a job when one of its regions has one", () => {
    const free = new FreeSlots([group(FAR, 1)]);
    expect(free.fit(wish([NEAR]))).toBe(false);
    expect(free.fit(wish([NEAR, FAR]))).toBe(true);
    expect(free.isAnyIn([NEAR])).toBe(false);
    expect(free.isAnyIn([FAR])).toBe(true);
    expect(free.isAnyIn([])).toBe(false);
  });

  test("fit a job only when their worker can build it", () => {
    const free = new FreeSlots([group(NEAR, 5), group(FAR, 1, ARM64)]);
    expect(free.fit(wish([NEAR], ARM64))).toBe(false);
    expect(free.fit(wish([NEAR, FAR], ARM64))).toBe(true);
  });

  test("become fewer in the first region that fits", () => {
    const free = new FreeSlots([group(NEAR, 1), group(FAR, 1, ARM64)]);
    free.taken(wish([NEAR, FAR]));
    expect(free.isAnyIn([NEAR])).toBe(false);
    free.taken(wish([NEAR, FAR], ARM64));
    expect(free.isAnyIn([FAR])).toBe(false);
    free.taken(wish([NEAR, FAR]));
    expect(free.isAnyIn([NEAR, FAR])).toBe(false);
  });

  test("of several groups of a region are all used before the region is full", () => {
    const free = new FreeSlots([group(NEAR, 1), group(NEAR, 1, ARM64)]);
    free.taken(wish([NEAR]));
    expect(free.fit(wish([NEAR], ARM64))).toBe(true);
    free.taken(wish([NEAR], ARM64));
    expect(free.fit(wish([NEAR]))).toBe(false);
  });

  test("that cannot build a job stay free when those that can are exhausted", () => {
    const free = new FreeSlots([group(NEAR, 2), group(NEAR, 2, ARM64), group(FAR, 2, ARM64)]);
    free.exhausted(wish([NEAR], ARM64));
    expect(free.fit(wish([NEAR], ARM64))).toBe(false);
    expect(free.fit(wish([FAR], ARM64))).toBe(true);
    expect(free.fit(wish([NEAR]))).toBe(true);
    free.exhausted(wish([NEAR]));
    expect(free.fit(wish([NEAR]))).toBe(false);
  });
});
