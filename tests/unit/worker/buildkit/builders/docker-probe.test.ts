import { expect, test } from "bun:test";
import { isAtLeast } from "../../../../../src/worker/buildkit/builders/docker-probe.ts";

test.each([
  "buildx 0.13.1+ds1",
  "buildx v0.13.0",
  "buildx v0.30.1",
  "buildx v1.0.0",
  "buildx v0.0.0+unknown",
  "buildx",
])("%s prints its progress in a format for programs", (version) => {
  expect(isAtLeast(version, 13)).toBe(true);
});

test.each(["buildx v0.12.1", "buildx 0.5.1-docker"])("%s does not", (version) => {
  expect(isAtLeast(version, 13)).toBe(false);
});
