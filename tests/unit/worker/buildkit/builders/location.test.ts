import { describe, expect, test } from "bun:test";
import { BadValue } from "../../../../../src/shared/settings/settings.ts";
import {
  builderLocation,
  checkBuilderOptions,
} from "../../../../../src/worker/buildkit/builders/location.ts";

describe("the location of BuildKit", () => {
  test("is the engine, a container, or an address", () => {
    expect(builderLocation("engine")).toEqual({ kind: "engine" });
    expect(builderLocation("container")).toEqual({ kind: "container" });
    for (const address of [
      "unix:///run/buildkit/buildkitd.sock",
      "tcp://10.0.0.7:1234",
      "tcp://[::1]:1234",
    ]) {
      expect(builderLocation(address)).toEqual({ kind: "remote", address });
    }
  });

  test("is nothing else, and nothing that could be read as an option", () => {
    for (const raw of [
      "docker",
      "--leave",
      "unix://relative",
      "tcp://host",
      "ssh://host",
      "tcp://user:word@host:1",
    ]) {
      expect(() => builderLocation(raw)).toThrow(BadValue);
    }
  });

  test("options are accepted only for a BuildKit that is not the engine's", () => {
    const builderOptions = ["memory=4g"];
    expect(checkBuilderOptions({ builder: { kind: "container" }, builderOptions })).toEqual([]);
    expect(checkBuilderOptions({ builder: { kind: "engine" }, builderOptions: [] })).toEqual([]);
    expect(checkBuilderOptions({ builder: { kind: "engine" }, builderOptions })).toMatchObject([
      { name: "BLACKTREE_BUILDER_OPTIONS", value: "memory=4g" },
    ]);
    // The invalid builder has already been reported.
    expect(checkBuilderOptions({ builderOptions })).toEqual([]);
  });
});
