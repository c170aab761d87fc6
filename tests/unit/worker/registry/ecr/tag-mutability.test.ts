import { expect, test } from "bun:test";
import type { Repository } from "@aws-sdk/client-ecr";
import { tagMutability } from "../../../../../src/worker/registry/ecr/tag-mutability.ts";

function repository(
  imageTagMutability: Repository["imageTagMutability"],
  ...filters: readonly string[]
): Repository {
  return {
    imageTagMutability,
    imageTagMutabilityExclusionFilters: filters.map((filter) => ({ filterType: "WILDCARD", filter })),
  };
}

test.each([
  ["MUTABLE", [], "v1", "mutable"],
  ["IMMUTABLE", [], "v1", "immutable"],
  ["MUTABLE", [], undefined, "mutable"],
  ["IMMUTABLE", [], undefined, "immutable"],
  ["IMMUTABLE_WITH_EXCLUSION", ["latest", "dev-*"], "dev-7", "mutable"],
  ["IMMUTABLE_WITH_EXCLUSION", ["latest", "dev-*"], "dev-", "mutable"],
  ["IMMUTABLE_WITH_EXCLUSION", ["latest", "dev-*"], "latest", "mutable"],
  ["IMMUTABLE_WITH_EXCLUSION", ["latest", "dev-*"], "latest2", "immutable"],
  ["IMMUTABLE_WITH_EXCLUSION", ["latest", "dev-*"], "my-dev-7", "immutable"],
  ["IMMUTABLE_WITH_EXCLUSION", ["*-rc*"], "v1.0-rc2", "mutable"],
  ["IMMUTABLE_WITH_EXCLUSION", ["v1.0"], "v1x0", "immutable"],
  ["IMMUTABLE_WITH_EXCLUSION", ["Dev*"], "dev1", "immutable"],
  ["MUTABLE_WITH_EXCLUSION", ["v*"], "v1", "immutable"],
  ["MUTABLE_WITH_EXCLUSION", ["v*"], "dev", "mutable"],
  ["MUTABLE_WITH_EXCLUSION", ["v*"], undefined, "unknown"],
  ["A_FUTURE_VALUE", [], "v1", "unknown"],
] as const)("in a repository that is %s %p the tag %s is %s", (mutability, filters, tag, expected) => {
  expect(tagMutability(repository(mutability as Repository["imageTagMutability"], ...filters), tag)).toBe(
    expected,
  );
});

test("is unknown without a repository, and with an unknown filter type", () => {
  expect(tagMutability(undefined, "v1")).toBe("unknown");
  const unknownFilter = { filterType: "REGEX", filter: "v1" };
  const future = {
    imageTagMutability: "IMMUTABLE_WITH_EXCLUSION",
    imageTagMutabilityExclusionFilters: [unknownFilter],
  } as unknown as Repository;
  expect(tagMutability(future, "v1")).toBe("unknown");
});
