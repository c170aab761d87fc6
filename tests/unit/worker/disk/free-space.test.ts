import { describe, expect, test } from "bun:test";
import { tmpdir } from "node:os";
import {
  areOnSameDisk,
  describeSize,
  freeSpaceAt,
  meetsReserve,
  scaledReserve,
} from "../../../../src/worker/disk/free-space.ts";

const space = { freeBytes: 100, freeInodes: 10, usedBytes: 0, totalBytes: 100 };

describe("free space", () => {
  test("meets a reserve when there are enough bytes and enough inodes", () => {
    expect(meetsReserve(space, { bytes: 100, inodes: 10 })).toBe(true);
    expect(meetsReserve(space, { bytes: 101, inodes: 10 })).toBe(false);
    expect(meetsReserve(space, { bytes: 100, inodes: 11 })).toBe(false);
    expect(meetsReserve({ ...space, freeInodes: Number.POSITIVE_INFINITY }, { bytes: 1, inodes: 1e9 })).toBe(
      true,
    );
  });

  test("always meets an empty reserve", () => {
    expect(meetsReserve({ ...space, freeBytes: 0, freeInodes: 0 }, { bytes: 0, inodes: 0 })).toBe(true);
  });

  test("a scaled reserve scales both values", () => {
    expect(scaledReserve({ bytes: 50, inodes: 8 }, 0.5)).toEqual({ bytes: 25, inodes: 4 });
  });

  test("is read from the file system of an existing folder", async () => {
    expect((await freeSpaceAt(tmpdir())).usedBytes).toBeGreaterThan(0);
    await expect(freeSpaceAt("/no/such/folder")).rejects.toThrow("ENOENT");
    expect(await areOnSameDisk(tmpdir(), tmpdir())).toBe(true);
    expect(await areOnSameDisk(tmpdir(), "/proc")).toBe(false);
    expect(await areOnSameDisk("/no/such/folder", "/no/such/folder")).toBe(false);
  });

  test("is described in kB, MB or GB", () => {
    expect([999, 4_200_000, 1_250_000_000].map(describeSize)).toEqual(["1 kB", "4 MB", "1.3 GB"]);
  });
});
