import { expect, test } from "bun:test";
import { cacheScope } from "../../../../src/worker/buildkit/cache-scope.ts";

const REPOSITORY = "https://github.com/a/b";
const ONE = { tenant: "one", secrets: {} };
const OTHER = { tenant: "other", secrets: {} };
const withSecret = (job: typeof ONE) => ({ ...job, secrets: { npm: crypto.randomUUID() } });

test("jobs without secrets share their steps, unless sharing is limited to the tenant", () => {
  expect(cacheScope(ONE, REPOSITORY, "all").steps).toBeUndefined();
  const mine = cacheScope(ONE, REPOSITORY, "tenant").steps;
  expect(mine).toBeDefined();
  expect(cacheScope(ONE, "https://github.com/a/c", "tenant").steps).toBe(mine);
  expect(cacheScope(OTHER, REPOSITORY, "tenant").steps).not.toBe(mine);
});

test.each(["all", "tenant"] as const)(
  "a job with secrets shares its steps only with jobs of its repository (sharing: %s)",
  (sharing) => {
    const mine = cacheScope(withSecret(ONE), REPOSITORY, sharing).steps;
    expect(mine).toBeDefined();
    expect(cacheScope(withSecret(ONE), REPOSITORY, sharing).steps).toBe(mine);
    expect(cacheScope(withSecret(ONE), "https://github.com/a/c", sharing).steps).not.toBe(mine);
    expect(cacheScope(withSecret(OTHER), REPOSITORY, sharing).steps).not.toBe(mine);
    expect(cacheScope(ONE, REPOSITORY, sharing).steps).not.toBe(mine);
  },
);

test("cache mounts are never shared between tenants", () => {
  const { mounts } = cacheScope(ONE, REPOSITORY, "all");
  expect(cacheScope(withSecret(ONE), REPOSITORY, "tenant").mounts).toBe(mounts);
  expect(cacheScope(OTHER, REPOSITORY, "all").mounts).not.toBe(mounts);
});

test("the scope does not show the tenant, and is valid in a host name", () => {
  const { steps, mounts } = cacheScope(ONE, REPOSITORY, "tenant");
  for (const name of [steps, mounts]) expect(name).toMatch(/^[0-9a-f]{32}$/);
});
