import { expect, test } from "bun:test";
import { requirePolicyOrder } from "../../../../../src/worker/buildkit/builders/source-policy-probe.ts";

test.each(["v0.10.6", "v0.11.6", "0.11.0"])("BuildKit %s is too old for source policies", (version) => {
  expect(() => requirePolicyOrder(version)).toThrow("BuildKit of version 0.12 or newer");
});

test.each(["v0.12.0", "v0.29.0", "v1.0.0", "of unknown version"])("BuildKit %s is tried", (version) => {
  expect(() => requirePolicyOrder(version)).not.toThrow();
});
