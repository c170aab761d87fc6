import { expect, test } from "bun:test";
import { cacheScope } from "../../../../src/worker/buildkit/cache-scope.ts";

const REPOSITORY = "https://github.com/a/b";
const ONE = { awsAccount: "111111111111", secrets: {} };
const OTHER = { awsAccount: "222222222222", secrets: {} };
const withSecret = (job: typeof ONE) => ({ ...job, secrets: { npm: crypto.randomUUID() } });

test("jobs without secrets share their steps, unless each tenant is to have its own", () => {
  expect(cacheScope(ONE, REPOSITORY, "all").steps).toBeUndefined();
  const mine = cacheScope(ONE, REPOSITORY, "tenant").steps;
  expect(mine).toBeDefined();
  expect(cacheScope(ONE, "https://github.com/a/c", "tenant").steps).toBe(mine);
  expect(cacheScope(OTHER, REPOSITORY, "tenant").steps).not.toBe(mine);
});

test.each(["all", "tenant"] as const)(
  "a job with secrets shares only with its own repository's, when %s do",
  (sharing) => {
    const mine = cacheScope(withSecret(ONE), REPOSITORY, sharing).steps;
    expect(mine).toBeDefined();
    expect(cacheScope(withSecret(ONE), REPOSITORY, sharing).steps).toBe(mine);
    expect(cacheScope(withSecret(ONE), "https://github.com/a/c", sharing).steps).not.toBe(mine);
    expect(cacheScope(withSecret(OTHER), REPOSITORY, sharing).steps).not.toBe(mine);
    expect(cacheScope(ONE, REPOSITORY, sharing).steps).not.toBe(mine);
  },
);

test("cache mounts are a tenant's own in any case", () => {
  const { mounts } = cacheScope(ONE, REPOSITORY, "all");
  expect(cacheScope(withSecret(ONE), REPOSITORY, "tenant").mounts).toBe(mounts);
  expect(cacheScope(OTHER, REPOSITORY, "all").mounts).not.toBe(mounts);
});

test("it does not show the account, and is fit for a host name", () => {
  const { steps, mounts } = cacheScope(ONE, REPOSITORY, "tenant");
  for (const name of [steps, mounts]) expect(name).toMatch(/^[0-9a-f]{32}$/);
});
