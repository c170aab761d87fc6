import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { BadValue } from "../../../../src/shared/settings/settings.ts";
import type { BuilderLocation } from "../../../../src/worker/buildkit/builders/location.ts";
import { cgroupPath, checkBuildCgroup } from "../../../../src/worker/settings/build-cgroup.ts";
import { makeTempDir, type TempDir } from "../../../support/machine/temp-dir.ts";
import { writeFiles } from "../../../support/machine/write-files.ts";

test.each(["/blacktree", "/blacktreebuilds.slice", "/a.slice/a-b.slice/c@1_2"])(
  "%s is a valid path",
  (raw) => {
    expect(cgroupPath(raw)).toBe(raw);
  },
);

test.each([
  ...["/", "blacktree", "/blacktree/", "//a", "/a//b", "/..", "/a/../b", "/./a", "/.hidden", "/-a"],
  ...["blacktree.slice:docker:", "/a:b", "/a b", "/a,b", "/a\nb", "--help"],
])("%j is not a valid path", (raw) => {
  expect(() => cgroupPath(raw)).toThrow(BadValue);
});

describe("the control group", () => {
  const ENGINE = { kind: "engine" } as const;
  let root: TempDir;

  beforeAll(async () => {
    root = await makeTempDir("cgroup");
    await writeFiles(root.path, {
      "cgroup.controllers": "",
      "limited/pids.max": "200\n",
      "unlimited/pids.max": "max\n",
    });
  });
  afterAll(() => root.remove());

  function problems(buildCgroup: string, dockerHost?: string, builder: BuilderLocation = ENGINE): string[] {
    return checkBuildCgroup({ builder, buildCgroup }, dockerHost, root.path).map(
      ({ name, value, wrong, expected }) => `${name}=${value} ${wrong}; expected ${expected}`,
    );
  }

  test("is accepted when it has a limit", () => {
    expect(problems("/limited")).toEqual([]);
    expect(problems("/limited", "")).toEqual([]);
    expect(problems("/limited", "unix:///run/docker.sock")).toEqual([]);
    expect(checkBuildCgroup({ builder: { kind: "container" } }, "tcp://far:1", root.path)).toEqual([]);
  });

  test("has to exist and to have a limit", () => {
    expect(problems("/absent")).toEqual([
      expect.stringContaining("BLACKTREE_BUILD_CGROUP=/absent does not exist on this host"),
    ]);
    expect(problems("/unlimited")).toEqual([
      expect.stringMatching(/has no limits; expected memory\.max, cpu\.max or pids\.max/),
    ]);
  });

  test("is accepted only with the engine of this host", () => {
    for (const host of ["tcp://127.0.0.1:2376", "ssh://builder"]) {
      expect(problems("/limited", host)).toEqual([expect.stringContaining(host)]);
    }
    expect(problems("/limited", undefined, { kind: "container" })).toEqual([
      expect.stringContaining("BLACKTREE_BUILDER_OPTIONS=memory="),
    ]);
    expect(problems("/limited", undefined, { kind: "remote", address: "unix:///b.sock" })).toEqual([
      expect.stringContaining("own service"),
    ]);
  });
});
