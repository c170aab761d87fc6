import { describe, expect, test } from "bun:test";
import { readInspection } from "../../../../../src/worker/buildkit/builders/buildx-inspect.ts";

const inspection = (...lines: string[]) => [
  "Name:          blacktree-0123456789abcdef",
  "Driver:        remote",
  "",
  "Nodes:",
  "Name:      blacktree-0123456789abcdef0",
  "Endpoint:  unix:///run/buildkit/buildkitd.sock",
  ...lines,
  "Labels:",
  " org.mobyproject.buildkit.worker.executor:    oci",
];

describe("readInspection", () => {
  test("lists the machine's own platform first, and each platform once", () => {
    const lines = [
      "Status:    running",
      "BuildKit:  v0.29.0",
      "Platforms: linux/arm64, linux/arm64/v8, linux/386*",
    ];
    expect(readInspection(inspection(...lines))).toEqual({
      version: "v0.29.0",
      platforms: ["linux/arm64", "linux/386"],
    });
  });

  test("accepts a missing version, and its different names in different releases", () => {
    const platforms = "Platforms: linux/amd64";
    expect(readInspection(inspection("Buildkit:  v0.13.2", platforms)).version).toBe("v0.13.2");
    expect(readInspection(inspection("BuildKit version: v0.15.0", platforms)).version).toBe("v0.15.0");
    expect(readInspection(inspection(platforms)).version).toBe("of unknown version");
  });

  test("throws when BuildKit reports an error or lists no platform", () => {
    expect(() => readInspection(inspection("Error:     connection refused"))).toThrow("connection refused");
    expect(() => readInspection(inspection("Status:    stopped", "Platforms: "))).toThrow(
      "names no platform",
    );
  });
});
