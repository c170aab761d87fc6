import { describe, expect, test } from "bun:test";
import { cacheRepositoryFor, isCacheRepository } from "../../../../src/worker/registry/cache-repository.ts";

describe("the repository of a tenant's cache", () => {
  test("is the same for all tenants without a placeholder", () => {
    expect(cacheRepositoryFor("build-cache", "acme")).toBe("build-cache");
  });

  test("has the tenant's name, as far as a repository may have it", () => {
    expect(cacheRepositoryFor("cache/{tenant}", "acme-1")).toBe("cache/acme-1");
    const names = ["ACME", "Acme", "acme_", "-acme", "..."].map((tenant) =>
      cacheRepositoryFor("cache/{tenant}", tenant),
    );
    for (const name of names) expect(name).toMatch(/^cache\/[a-z0-9]+(-[a-z0-9]+)*$/);
    expect(new Set(["cache/acme", ...names]).size).toBe(names.length + 1);
  });

  test.each([
    ["build-cache", "build-cache", true],
    ["build-cache", "build-cache/x", false],
    ["build-cache", "app", false],
    ["cache/{tenant}", "cache/acme", true],
    ["cache/{tenant}", "cache/other", true],
    ["cache/{tenant}", "cache", false],
    ["cache/{tenant}/layers", "cache/acme/layers", true],
    ["cache/{tenant}/layers", "cache/acme", false],
    ["{tenant}", "acme", true],
  ])("with %s, %s is one of them: %p", (template, repository, isOne) => {
    expect(isCacheRepository(template, repository)).toBe(isOne);
  });
});
