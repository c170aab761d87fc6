import { expect, test } from "bun:test";
import {
  type BuilderCapabilities,
  refuseUnsupported,
  unsupportedBy,
} from "../../../../src/worker/buildkit/capabilities.ts";

const NOTHING_ASKED = { platforms: [], provenance: false, secrets: {} };
const LEAST: BuilderCapabilities = {
  platforms: ["linux/amd64"],
  multiPlatform: false,
  provenance: false,
  secrets: false,
  registryCache: false,
};
const MOST: BuilderCapabilities = {
  platforms: ["linux/amd64", "linux/arm64"],
  multiPlatform: true,
  provenance: true,
  secrets: true,
  registryCache: true,
};

test("a job that asks for nothing, or for the builder's own platform, is for every builder", () => {
  expect(unsupportedBy(LEAST, NOTHING_ASKED)).toEqual([]);
  expect(unsupportedBy(LEAST, { ...NOTHING_ASKED, platforms: ["linux/amd64"] })).toEqual([]);
});

test.each([
  [{ platforms: ["linux/arm64"] }, "linux/arm64"],
  [{ platforms: ["linux/amd64", "linux/arm64"] }, "several platforms"],
  [{ provenance: true }, "provenance"],
  [{ secrets: { npm: "hidden" } }, "secrets"],
])("%j takes a builder that can", (asked, named) => {
  const job = { ...NOTHING_ASKED, ...asked };
  expect(unsupportedBy(LEAST, job).join()).toContain(named);
  expect(unsupportedBy(MOST, job)).toEqual([]);
});

test("the refusal is no failure that may pass, says all that is missing, and what there is", () => {
  const builder = { description: "docker 20.10", capabilities: LEAST };
  const job = { platforms: ["linux/arm64"], provenance: true, secrets: { npm: "hidden" } };
  expect(() => refuseUnsupported(builder, job)).toThrow(
    "this worker cannot build for linux/arm64 (only for linux/amd64) and with provenance and with secrets: it has docker 20.10",
  );
});
