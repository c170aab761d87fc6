import { describe, expect, test } from "bun:test";
import {
  hasLabels,
  type ImageInputs,
  inputLabels,
  inputsHash,
  standardLabels,
} from "../../../../src/worker/pipeline/image-labels.ts";

const inputs: ImageInputs = {
  repositoryUrl: "https://github.com/a/b",
  commit: "c".repeat(40),
  buildArgs: { ONE: "1", TWO: "2" },
  labels: { team: "x" },
  gitDepth: 1,
  gitTags: false,
  provenance: false,
  platforms: [],
  secrets: {},
};
const labels = inputLabels(inputs);

test("image inputs: the order of arguments and labels does not count, and other labels do not matter", () => {
  const again = inputLabels({ ...inputs, buildArgs: { TWO: "2", ONE: "1" } });
  expect(hasLabels({ ...again, maintainer: "me" }, labels)).toBe(true);
});

test.each([
  [{ repositoryUrl: "https://github.com/a/c" }],
  [{ commit: "d".repeat(40) }],
  [{ gitDepth: 0 }],
  [{ gitTags: true }],
  [{ dockerfile: "Other" }],
  [{ context: "sub" }],
  [{ target: "test" }],
  [{ buildArgs: { ONE: "1" } }],
  [{ buildArgs: { ONE: "1", TWO: "3" } }],
  [{ buildArgs: { ONE: '1","TWO":"2', TWO: "2" } }],
  [{ labels: {} }],
  [{ provenance: true }],
  [{ platforms: ["linux/amd64"] }],
  [{ secrets: { npm: "x" } }],
] satisfies [Partial<ImageInputs>][])("image inputs: %j makes another image", (change) => {
  expect(hasLabels(inputLabels({ ...inputs, ...change }), labels)).toBe(false);
});

test("image inputs: secrets count by name, in any order, and no value is included", () => {
  const with2 = inputLabels({ ...inputs, secrets: { npm: "hidden one", pip: "hidden two" } });
  expect(with2).toMatchObject({ "io.blacktree.secrets": "npm,pip" });
  expect(inputLabels({ ...inputs, secrets: { pip: "other", npm: "values" } })).toEqual(with2);
  expect(JSON.stringify(with2)).not.toContain("hidden");
});

test("image inputs: an image without labels of its inputs does not match", () => {
  expect(hasLabels({}, labels)).toBe(false);
});

test("image inputs: every label is set, so that a base image's labels do not remain", () => {
  const others = inputLabels({ ...inputs, dockerfile: "D", context: "c", target: "t" });
  expect(Object.keys(labels)).toEqual(Object.keys(others));
});

test("image inputs: one hash covers the tenant and all inputs", () => {
  const hash = inputsHash(labels, "acme");
  const again = inputLabels({ ...inputs, buildArgs: { TWO: "2", ONE: "1" } });
  expect(inputsHash(again, "acme")).toBe(hash);
  expect(hash).toMatch(/^[0-9a-f]{64}$/);
  expect(inputsHash(labels, "other")).not.toBe(hash);
  expect(inputsHash(inputLabels({ ...inputs, commit: "d".repeat(40) }), "acme")).not.toBe(hash);
  expect(inputsHash(inputLabels({ ...inputs, buildArgs: {} }), "acme")).not.toBe(hash);
});

test("image inputs: an image of a version that did not have an input yet matches while that input is empty", () => {
  const later = { ...labels, "io.blacktree.added": "" } as const;
  expect(hasLabels(labels, later)).toBe(true);
  expect(inputsHash(later, "acme")).toBe(inputsHash(labels, "acme"));
  const given = { ...labels, "io.blacktree.added": "1" } as const;
  expect(hasLabels(labels, given)).toBe(false);
  expect(inputsHash(given, "acme")).not.toBe(inputsHash(labels, "acme"));
});

describe("standardLabels", () => {
  const origin = { repositoryUrl: "https://github.com/a/b", commit: "c".repeat(40), version: "v1" };

  test("standard labels: created is the commit's time in RFC 3339 format", () => {
    const committedAt = new Date("2026-01-20T10:00:00.000+02:00");
    expect(standardLabels({ ...origin, committedAt })).toEqual({
      "org.opencontainers.image.source": "https://github.com/a/b",
      "org.opencontainers.image.revision": "c".repeat(40),
      "org.opencontainers.image.version": "v1",
      "org.opencontainers.image.created": "2026-01-20T08:00:00Z",
    });
  });

  test("standard labels: created is omitted when the commit's time is unknown", () => {
    expect(standardLabels({ ...origin, committedAt: undefined })).not.toHaveProperty([
      "org.opencontainers.image.created",
    ]);
  });
});
