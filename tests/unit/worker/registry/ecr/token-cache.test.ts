import { expect, test } from "bun:test";
import { EcrTokenCache } from "../../../../../src/worker/registry/ecr/token-cache.ts";

const token = (expiresAtMs: number) => ({
  username: "AWS",
  password: crypto.randomUUID(),
  proxyEndpoint: "https://registry",
  expiresAt: new Date(expiresAtMs),
});

test("a token is reused until it would expire during a run", async () => {
  let nowMs = 0;
  const cache = new EcrTokenCache(1000, () => nowMs);
  let asked = 0;
  const ask = async () => {
    asked++;
    return token(nowMs + 5000);
  };
  const first = await cache.get("a", ask);
  nowMs = 3999;
  expect(await cache.get("a", ask)).toBe(first);
  nowMs = 4000;
  expect(await cache.get("a", ask)).not.toBe(first);
  await cache.get("b", ask);
  expect(asked).toBe(3);
});

test("a failed request is repeated for the next caller", async () => {
  const cache = new EcrTokenCache(1000);
  const failing = () => Promise.reject(new Error("no"));
  const both = await Promise.allSettled([cache.get("a", failing), cache.get("a", failing)]);
  expect(both.map(({ status }) => status)).toEqual(["rejected", "rejected"]);
  expect((await cache.get("a", async () => token(Date.now() + 60_000))).username).toBe("AWS");
});

test("a short-lived token is reused for three quarters of its lifetime", async () => {
  let nowMs = 0;
  const cache = new EcrTokenCache(60_000, () => nowMs);
  const ask = async () => token(nowMs + 4000);
  const first = await cache.get("a", ask);
  nowMs = 2999;
  expect(await cache.get("a", ask)).toBe(first);
  nowMs = 3000;
  expect(await cache.get("a", ask)).not.toBe(first);
});

test("an expired token is not reused", async () => {
  const cache = new EcrTokenCache(1000);
  const ask = async () => token(Date.now() - 1);
  expect(await cache.get("a", ask)).not.toBe(await cache.get("a", ask));
});

test("a refused token is not reused; its replacement is", async () => {
  const cache = new EcrTokenCache(1000);
  const ask = async () => token(Date.now() + 60_000);
  const refused = await cache.get("a", ask);
  cache.forget("a", refused);
  const next = await cache.get("a", ask);
  expect(next).not.toBe(refused);
  cache.forget("a", refused);
  expect(await cache.get("a", ask)).toBe(next);
});
