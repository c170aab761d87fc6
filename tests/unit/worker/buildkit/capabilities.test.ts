import { expect, test } from "bun:test";
import {
  type BuilderCapabilities,
  notRunBy,
  refuseUnsupported,
  unsupportedBy,
} from "../../../../src/worker/buildkit/capabilities.ts";

const NO_REQUIREMENTS = { platforms: [], provenance: false, secrets: {} };
const MINIMAL: BuilderCapabilities = {
  platforms: ["linux/amd64"],
  multiPlatform: false,
  provenance: false,
  secrets: false,
  registryCache: false,
};
const FULL: BuilderCapabilities = {
  platforms: ["linux/amd64", "linux/arm64"],
  multiPlatform: true,
  provenance: true,
  secrets: true,
  registryCache: true,
};

test("every builder supports a job without requirements, or with the builder's own platform", () => {
  expect(unsupportedBy(MINIMAL, NO_REQUIREMENTS)).toEqual([]);
  expect(unsupportedBy(MINIMAL, { ...NO_REQUIREMENTS, platforms: ["linux/amd64"] })).toEqual([]);
});

test("every builder builds for any platform, as long as no step has to run on it", () => {
  expect(unsupportedBy(MINIMAL, { ...NO_REQUIREMENTS, platforms: ["linux/arm64"] })).toEqual([]);
  expect(notRunBy({ capabilities: MINIMAL }, { platforms: ["linux/amd64", "linux/arm64"] })).toEqual([
    "linux/arm64",
  ]);
  expect(notRunBy({ capabilities: FULL }, { platforms: ["linux/arm64"] })).toEqual([]);
});

test.each([
  [{ platforms: ["linux/amd64", "linux/arm64"] }, "several platforms"],
  [{ provenance: true }, "provenance"],
  [{ secrets: { npm: "hidden" } }, "secrets"],
])("%j needs a builder with that capability", (requested, named) => {
  const job = { ...NO_REQUIREMENTS, ...requested };
  expect(unsupportedBy(MINIMAL, job).join()).toContain(named);
  expect(unsupportedBy(FULL, job)).toEqual([]);
});

test("the refusal names everything that is missing, and the builder", () => {
  const builder = { description: "docker 20.10", capabilities: MINIMAL };
  const job = { platforms: ["linux/arm64"], provenance: true, secrets: { npm: "hidden" } };
  expect(() => refuseUnsupported(builder, job)).toThrow(
    "this worker cannot build with provenance and with secrets: it has docker 20.10",
  );
});
