import { expect, test } from "bun:test";
import { canonicalPlatforms } from "../../../src/shared/platforms.ts";

test.each([
  ["linux/amd64", "linux/amd64"],
  ["linux/x86_64", "linux/amd64"],
  ["linux/amd64/v1", "linux/amd64"],
  ["linux/amd64/v3", "linux/amd64/v3"],
  ["linux/arm64/v8", "linux/arm64"],
  ["linux/aarch64", "linux/arm64"],
  ["linux/aarch64/v8", "linux/arm64"],
  ["linux/arm", "linux/arm/v7"],
  ["linux/arm/v7", "linux/arm/v7"],
  ["linux/armel", "linux/arm/v6"],
  ["linux/armhf", "linux/arm/v7"],
  ["linux/i386", "linux/386"],
  ["windows/amd64", "windows/amd64"],
])("%s is %s", (written, canonical) => {
  expect(canonicalPlatforms([written])).toEqual([canonical]);
});

test("order and duplicates do not matter", () => {
  expect(canonicalPlatforms(["linux/arm64", "linux/amd64", "linux/aarch64"])).toEqual([
    "linux/amd64",
    "linux/arm64",
  ]);
});
