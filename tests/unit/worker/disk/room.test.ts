import { describe, expect, test } from "bun:test";
import { tmpdir } from "node:os";
import { areOnOneDisk, describeSize, isWithin, roomAt, times } from "../../../../src/worker/disk/room.ts";

const room = { freeBytes: 100, freeInodes: 10, usedBytes: 0 };

describe("room", () => {
  test("is enough when there is as much of both as is to stay free", () => {
    expect(isWithin(room, { bytes: 100, inodes: 10 })).toBe(true);
    expect(isWithin(room, { bytes: 101, inodes: 10 })).toBe(false);
    expect(isWithin(room, { bytes: 100, inodes: 11 })).toBe(false);
    expect(isWithin({ ...room, freeInodes: Number.POSITIVE_INFINITY }, { bytes: 1, inodes: 1e9 })).toBe(true);
  });

  test("of a reserve of nothing there is always enough", () => {
    expect(isWithin({ freeBytes: 0, freeInodes: 0, usedBytes: 9 }, { bytes: 0, inodes: 0 })).toBe(true);
  });

  test("a part of a reserve is a part of both", () => {
    expect(times({ bytes: 50, inodes: 8 }, 0.5)).toEqual({ bytes: 25, inodes: 4 });
  });

  test("is read of a file system, and of no folder that is not there", async () => {
    expect((await roomAt(tmpdir())).usedBytes).toBeGreaterThan(0);
    await expect(roomAt("/no/such/folder")).rejects.toThrow("ENOENT");
    expect(await areOnOneDisk(tmpdir(), tmpdir())).toBe(true);
    expect(await areOnOneDisk(tmpdir(), "/proc")).toBe(false);
    expect(await areOnOneDisk("/no/such/folder", "/no/such/folder")).toBe(false);
  });

  test("is told in units that people use", () => {
    expect([999, 4_200_000, 1_250_000_000].map(describeSize)).toEqual(["1 kB", "4 MB", "1.3 GB"]);
  });
});
