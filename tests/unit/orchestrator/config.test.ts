import { describe, expect, test } from "bun:test";
import { loadOrchestratorSettings } from "../../../src/orchestrator/config.ts";

function load(redisUrl: string, environment: Readonly<Record<string, string>> = {}) {
  const required = { RABBITMQ_URL: "amqp://localhost", REDIS_URL: redisUrl, BLACKTREE_INSECURE: "true" };
  return loadOrchestratorSettings({ flags: {}, environment: { ...required, ...environment } });
}

describe("REDIS_URL", () => {
  test.each([
    "redis://host",
    "redis://host/",
    "redis://host/0",
    "rediss://user:password@host:6379/15",
    "redis://one,redis://two/,redis://three/0",
    "redis://one/3?sentinel=mymaster,redis://two",
    "redis://one/3?sentinel=mymaster,redis://two/3",
  ])("%s is accepted", (url) => {
    expect(load(url).values.redisUrl).toBe(url);
  });

  test("empty parts of the list are left out", () => {
    expect(load("redis://one, redis://two,").values.redisUrl).toBe("redis://one,redis://two");
  });

  test.each([
    ["redis://host/mydb", "has a path that is not the number of a database"],
    ["redis://host/1/", "has a path that is not the number of a database"],
    ["redis://host/-1", "has a path that is not the number of a database"],
    ["redis://host/1.5", "has a path that is not the number of a database"],
    ["redis://host?db=3", "has the parameter db, which has no effect"],
    ["redis://one?sentinel=", "has no name after sentinel="],
    ["redis://one,redis://two?sentinel=mymaster", "has the parameter sentinel, which has no effect"],
    ["redis://one/1,redis://two", "names a database, but a Cluster has only database 0"],
    ["redis://one,redis://two/1", "names a database, but a Cluster has only database 0"],
    ["redis://one/3?sentinel=mymaster,redis://two/4", "names different databases"],
    [",", "has no URL"],
  ])("%s is refused", (url, wrong) => {
    expect(() => load(url)).toThrow(`REDIS_URL = ${JSON.stringify(url)}: ${wrong}; expected `);
  });
});

describe("BLACKTREE_KEY_PREFIX", () => {
  const withPrefix = (prefix: string) => load("redis://host", { BLACKTREE_KEY_PREFIX: prefix });

  test.each([
    ["", "{blacktree}:"],
    ["a", "{a}:"],
    ["Team-1_x.y", "{Team-1_x.y}:"],
    ["p".repeat(64), `{${"p".repeat(64)}}:`],
  ])("%j becomes a hash tag", (prefix, keyPrefix) => {
    expect(withPrefix(prefix).values.keyPrefix).toBe(keyPrefix);
  });

  test.each(["a:b", "{a}", "a b", "a*", "é", "p".repeat(65)])("%j is refused", (prefix) => {
    expect(() => withPrefix(prefix)).toThrow(
      `BLACKTREE_KEY_PREFIX = ${JSON.stringify(prefix)}: has the wrong format; expected 1 to 64 of letters, digits, . _ -`,
    );
  });
});

describe("RABBITMQ_MANAGEMENT_URL", () => {
  const withUrl = (url: string) => load("redis://host", { RABBITMQ_MANAGEMENT_URL: url });

  test("is optional, and its password is masked", () => {
    expect(load("redis://host").values.rabbitmqManagementUrl).toBeUndefined();
    const url = "https://watcher:hush@host:15671/rabbit";
    expect(withUrl(url).values.rabbitmqManagementUrl).toBe(url);
    expect(withUrl(url).lines).toContain("RABBITMQ_MANAGEMENT_URL=https://watcher:***@host:15671/rabbit");
  });

  test.each([
    ["amqp://user:hush@host", "has an unsupported scheme"],
    ["http://host:15672", "has no user"],
    ["http://user:hush@host:15672/?vhost=a", "has a query or fragment"],
    ["host:15672", "has an unsupported scheme"],
  ])("%s is refused", (url, wrong) => {
    expect(() => withUrl(url)).toThrow(`: ${wrong}; expected a URL `);
    expect(() => withUrl(url)).not.toThrow("hush");
  });
});
