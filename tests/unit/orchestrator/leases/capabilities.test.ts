import { describe, expect, test } from "bun:test";
import { capabilitiesOf, covers, neededBy } from "../../../../src/orchestrator/leases/capabilities.ts";

const AMD64 = "linux/amd64";
const ARM64 = "linux/arm64";
const PLAIN = { platforms: [], provenance: false, secrets: {} };

describe("the capabilities of a worker", () => {
  test("are those that it declares", () => {
    const declared = { platforms: [AMD64, ARM64], multiPlatform: true, provenance: true, secrets: true };
    expect(capabilitiesOf(declared)).toEqual([AMD64, ARM64, "multi-platform", "provenance", "secrets"]);
    const little = { platforms: [AMD64], multiPlatform: false, provenance: false, secrets: false };
    expect(capabilitiesOf(little)).toEqual([AMD64]);
  });

  test("are empty when it declares none, as older versions do", () => {
    expect(capabilitiesOf(undefined)).toEqual([]);
  });
});

describe("the needs of a job", () => {
  test("are empty when it requests nothing special", () => {
    expect(neededBy(PLAIN)).toEqual([]);
    expect(covers([], neededBy(PLAIN))).toBe(true);
  });

  test.each([
    ["a platform", { platforms: [ARM64] }, [ARM64]],
    ["several platforms", { platforms: [AMD64, ARM64] }, [AMD64, ARM64, "multi-platform"]],
    ["provenance", { provenance: true }, ["provenance"]],
    ["secrets", { secrets: { npm: "hidden" } }, ["secrets"]],
  ])("are %s", (_, asked, needs) => {
    expect(neededBy({ ...PLAIN, ...asked })).toEqual(needs);
  });

  test("have to be covered in full", () => {
    const needs = neededBy({ ...PLAIN, platforms: [ARM64], provenance: true });
    expect(covers([AMD64, ARM64, "provenance", "secrets"], needs)).toBe(true);
    expect(covers([AMD64, "provenance"], needs)).toBe(false);
    expect(covers([ARM64], needs)).toBe(false);
  });
});
