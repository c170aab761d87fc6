import { expect, test } from "bun:test";
import {
  differingNames,
  fingerprintsOf,
  newSalt,
} from "../../../../src/orchestrator/records/fingerprints.ts";

const IDENTITY = {
  branch: "main",
  target: "main",
  build_args: { A: "1", "A,B": "2" },
  platforms: ["a", "b"],
};

test("a fingerprint is hex, and shows neither the value nor that two fields are equal", () => {
  const fingerprints = fingerprintsOf(IDENTITY, newSalt());
  expect(Object.keys(fingerprints)).toEqual(["branch", "build_args", "platforms", "target"]);
  for (const fingerprint of Object.values(fingerprints)) expect(fingerprint).toMatch(/^[0-9a-f]{64}$/);
  expect(fingerprints.branch).not.toBe(`${fingerprints.target}`);
});

test("a value has another fingerprint in every record", () => {
  expect(newSalt()).not.toBe(newSalt());
  const [one, other] = [fingerprintsOf(IDENTITY, newSalt()), fingerprintsOf(IDENTITY, newSalt())];
  expect(differingNames(one, other)).toEqual(Object.keys(one));
});

test("the order of keys does not count, that of a list does", () => {
  const { build_args: _, ...others } = IDENTITY;
  const reordered = { ...others, build_args: { "A,B": "2", A: "1" } };
  expect(JSON.stringify(fingerprintsOf(reordered, "s"))).toBe(JSON.stringify(fingerprintsOf(IDENTITY, "s")));
  const changes = { platforms: ["b", "a"], build_args: { A: "2", "A,B": "1" } };
  const changed = fingerprintsOf({ ...IDENTITY, ...changes }, "s");
  expect(differingNames(changed, fingerprintsOf(IDENTITY, "s"))).toEqual(["build_args", "platforms"]);
});

test("a missing field differs from a present one", () => {
  const { target: _, ...others } = IDENTITY;
  const [less, more] = [fingerprintsOf(others, "s"), fingerprintsOf(IDENTITY, "s")];
  expect(differingNames(less, more)).toEqual(["target"]);
  expect(differingNames(more, less)).toEqual(["target"]);
});
