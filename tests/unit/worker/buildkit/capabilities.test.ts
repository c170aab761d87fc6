import { expect, test } from "bun:test";
import {
  type BuilderCapabilities,
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

test.each([
  [{ platforms: ["linux/arm64"] }, "linux/arm64"],
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
    "this worker cannot build for linux/arm64 (only for linux/amd64) and with provenance and with secrets: it has docker 20.10",
  );
});
