/** What proves that an existing image is the one that a job asks for. */
import { describe, expect, test } from "bun:test";
import { inputLabels } from "../../../../src/worker/pipeline/image-labels.ts";
import { WantedImage } from "../../../../src/worker/pipeline/wanted-image.ts";

const KEY = Buffer.alloc(32, 1);
const OTHER_KEY = Buffer.alloc(32, 2);
const DIGEST = `sha256:${"a".repeat(64)}`;
const OTHER_DIGEST = `sha256:${"b".repeat(64)}`;

const JOB = { tenant: "acme", ecrRepo: "app", deploymentVersion: "v1" };
const INPUTS = {
  repositoryUrl: "https://github.com/a/b",
  commit: "c".repeat(40),
  buildArgs: {},
  labels: {},
  gitDepth: 1,
  gitTags: false,
  provenance: false,
  platforms: [],
  secrets: {},
};

interface Changes {
  readonly job?: Partial<ConstructorParameters<typeof WantedImage>[0]>;
  readonly inputs?: Partial<Parameters<typeof inputLabels>[0]>;
  readonly keys?: readonly Buffer[];
}

function wanted({ job, inputs, keys = [KEY] }: Changes = {}): WantedImage {
  return new WantedImage({ ...JOB, ...job }, inputLabels({ ...INPUTS, ...inputs }), keys);
}

/** An image as a build of Blacktree makes it. */
const built = (changes: Changes = {}) => ({ digest: DIGEST, labels: wanted(changes).labels });

describe("the HMAC label", () => {
  test("HMAC label: proves an image of the same tenant, repository, version and inputs", () => {
    expect(wanted().isProven(built())).toBe(true);
  });

  test.each([
    ["another tenant", { job: { tenant: "other" } }],
    ["another repository", { job: { ecrRepo: "other" } }],
    ["another version", { job: { deploymentVersion: "v2" } }],
    ["another commit", { inputs: { commit: "d".repeat(40) } }],
    ["another git repository", { inputs: { repositoryUrl: "https://github.com/a/c" } }],
    ["another key", { keys: [OTHER_KEY] }],
    ["no key", { keys: [] }],
  ] satisfies [string, Changes][])(
    "HMAC label: an image of %s proves nothing for this job, whatever its other labels",
    (_, changes) => {
      const hmac = built(changes).labels["io.blacktree.hmac"] ?? "";
      const copied = { ...built().labels, "io.blacktree.hmac": hmac };
      expect(wanted().isProven({ digest: DIGEST, labels: copied })).toBe(false);
      expect(wanted().isProven(built(changes))).toBe(false);
    },
  );

  test("HMAC label: bare labels prove nothing, with or without a key", () => {
    const { "io.blacktree.hmac": _, ...labels } = built().labels;
    for (const keys of [[KEY], []]) {
      expect(wanted({ keys }).isProven({ digest: DIGEST, labels })).toBe(false);
      expect(wanted({ keys }).isProven({ digest: DIGEST, labels: wanted({ keys: [] }).labels })).toBe(false);
      expect(wanted({ keys }).seemsToBe(labels)).toBe(true);
    }
  });

  test("HMAC label: the labels beside it must be those of the job", () => {
    const labels = { ...built().labels, "io.blacktree.commit": "d".repeat(40) };
    expect(wanted().isProven({ digest: DIGEST, labels })).toBe(false);
  });

  test("HMAC label: after a key change the old key still verifies, and the new one signs", () => {
    const rotated = { keys: [OTHER_KEY, KEY] };
    expect(wanted(rotated).isProven(built())).toBe(true);
    expect(wanted({ keys: [OTHER_KEY] }).isProven(built(rotated))).toBe(true);
    expect(wanted().isProven(built(rotated))).toBe(false);
  });

  test("HMAC label: a job that may reuse accepts an image of another version", () => {
    const job = { deploymentVersion: "v2", mayReuse: true };
    expect(wanted({ job }).isProven(built())).toBe(true);
    const renamed = { ...built().labels, "io.blacktree.version": "v2" };
    expect(wanted({ job }).isProven({ digest: DIGEST, labels: renamed })).toBe(false);
  });

  test("HMAC label: empty without a key, so that a base image's does not remain", () => {
    expect(wanted({ keys: [] }).labels).toMatchObject({ "io.blacktree.hmac": "" });
    expect(wanted().labels["io.blacktree.hmac"]).toMatch(/^[0-9a-f]{64}$/);
  });
});

describe("the records", () => {
  const known = { inputs: wanted().inputsHash, digest: DIGEST };

  test.each(["versionImages", "knownImages"] as const)(
    "records: an image in %s is proven by its digest alone",
    (list) => {
      const image = wanted({ job: { [list]: [known] }, keys: [] });
      expect(image.isProven({ digest: DIGEST, labels: {} })).toBe(true);
      expect(image.isProven({ digest: OTHER_DIGEST, labels: image.labels })).toBe(false);
    },
  );

  test("records: other inputs and another tenant do not count", () => {
    const job = { versionImages: [known] };
    const image = { digest: DIGEST, labels: {} };
    expect(wanted({ job, inputs: { commit: "d".repeat(40) } }).isProven(image)).toBe(false);
    expect(wanted({ job: { ...job, tenant: "other" } }).isProven(image)).toBe(false);
  });

  test("records: an image that only has the labels of the recorded one is not proven", () => {
    const copy = { digest: OTHER_DIGEST, labels: built().labels };
    expect(wanted({ job: { versionImages: [known] } }).isProven(copy)).toBe(false);
    // The record of another version does not contradict.
    expect(wanted({ job: { knownImages: [known] } }).isProven(copy)).toBe(true);
  });
});

test("wanted image: a build may result in an image with all of the job's labels, and in no other one", () => {
  expect(wanted().mayBecome(built())).toBe(true);
  expect(wanted().mayBecome(built({ keys: [] }))).toBe(false);
  expect(wanted().mayBecome(built({ job: { deploymentVersion: "v2" } }))).toBe(false);
});
