import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { chmodSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { adminAccess, loadOrchestratorSettings } from "../../../src/orchestrator/config.ts";
import { makeTempDir, type TempDir } from "../../support/machine/temp-dir.ts";

function load(redisUrl: string, environment: Readonly<Record<string, string>> = {}) {
  const required = { RABBITMQ_URL: "amqp://localhost", REDIS_URL: redisUrl, BLACKTREE_INSECURE: "true" };
  const withoutApi = { BLACKTREE_ADMIN_LISTEN: "off" };
  return loadOrchestratorSettings({
    flags: {},
    environment: { ...required, ...withoutApi, ...environment },
  });
}

describe("REDIS_URL", () => {
  test.each([
    "redis://host",
    "redis://host/",
    "redis://host/0",
    "rediss://user:password@host:6379/15",
    "redis://one,redis://two/,redis://three/0",
    "redis://one/3?sentinel=mymaster,redis://two",
    "redis://endpoint?cluster",
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
    ["redis://endpoint/1?cluster", "names a database, but a Cluster has only database 0"],
    ["redis://one?cluster&sentinel=mymaster", "names both a Cluster and Sentinels"],
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

test("BLACKTREE_LOG_STORE is checked with the others, and a login in it is not shown", () => {
  const environment = { BLACKTREE_LOG_STORE: "s3://key:hidden@logs", BLACKTREE_REGION: "?" };
  expect(() => load("redis://host", environment)).toThrow(/BLACKTREE_REGION = .*\n.*BLACKTREE_LOG_STORE/);
  expect(() => load("redis://host", environment)).not.toThrow(/hidden/);
  const { values } = load("redis://host", { BLACKTREE_LOG_STORE: "s3://logs/ci/" });
  expect(values.logStore).toEqual({ bucket: "logs", prefix: "ci" });
});

describe("BLACKTREE_LOG_DIR", () => {
  const withFolder = (folder: string) => load("redis://host", { BLACKTREE_LOG_DIR: folder }).values.logDir;

  test("it need not exist, and is not made by the check of the settings", async () => {
    const temp = await makeTempDir("log-dir");
    expect(withFolder(temp.path)).toBe(temp.path);
    const below = join(temp.path, "a/b");
    expect(withFolder(below)).toBe(below);
    expect(readdirSync(temp.path)).toEqual([]);
    await temp.remove();
  });

  test("a place where no folder can be is refused, together with all other wrong settings", async () => {
    const temp = await makeTempDir("log-dir");
    const file = join(temp.path, "file");
    writeFileSync(file, "");
    expect(() => withFolder("logs")).toThrow("expected an absolute path");
    expect(() => withFolder(file)).toThrow(`BLACKTREE_LOG_DIR = "${file}": is not a folder`);
    const both = { BLACKTREE_LOG_DIR: join(file, "logs"), BLACKTREE_LOG_SIZE: "1KB" };
    expect(() => load("redis://host", both)).toThrow(
      /BLACKTREE_LOG_DIR = .*ENOTDIR.*\nBLACKTREE_LOG_SIZE = "1KB"/,
    );
    await temp.remove();
  });
});

describe("BLACKTREE_ADMIN_HOSTS", () => {
  const withHosts = (hosts: string) =>
    load("redis://host", { BLACKTREE_ADMIN_HOSTS: hosts }).values.adminHosts;

  test("names are compared without regard to case", () => {
    expect(withHosts("Builds.example.com, localhost,[2001:DB8::1]")).toEqual([
      "builds.example.com",
      "localhost",
      "[2001:db8::1]",
    ]);
  });

  test.each(["builds.example.com:443", "https://builds.example.com", "*.example.com", "2001:db8::1", "a/b"])(
    "%s is refused",
    (hosts) => {
      expect(() => withHosts(hosts)).toThrow("expected host names without a port");
    },
  );
});

describe("the admin API's token", () => {
  const TOKEN = "correct-horse";
  let folder: TempDir;
  let count = 0;

  beforeAll(async () => {
    folder = await makeTempDir("token");
  });
  afterAll(() => folder.remove());

  function file(mode: string, content = `${TOKEN}\n`): string {
    const path = join(folder.path, `token-${count++}`);
    writeFileSync(path, content);
    chmodSync(path, Number.parseInt(mode, 8));
    return path;
  }

  const withApi = (environment: Readonly<Record<string, string>>) =>
    load("redis://host", { BLACKTREE_ADMIN_LISTEN: "127.0.0.1:8080", ...environment }).values;

  test.each(["127.0.0.1:8080", "[::1]:8080", "0.0.0.0:8080"])(
    "on %s the API does not start without one",
    (listen) => {
      const start = () => withApi({ BLACKTREE_ADMIN_LISTEN: listen });
      expect(start).toThrow(
        /^BLACKTREE_ADMIN_TOKEN: is not set, nor is BLACKTREE_ADMIN_TOKEN_FILE: .*; expected BLACKTREE_ADMIN_TOKEN_FILE=FILE after .*, or BLACKTREE_ADMIN_LISTEN=off$/,
      );
    },
  );

  test("it is not needed when the API is off", () => {
    expect(adminAccess(withApi({ BLACKTREE_ADMIN_LISTEN: "off" }))).toBeUndefined();
  });

  test.each(["0600", "0400", "0640", "0440"])("it may be in a file of mode %s", (mode) => {
    expect(adminAccess(withApi({ BLACKTREE_ADMIN_TOKEN_FILE: file(mode) }))?.token).toBe(TOKEN);
  });

  test.each(["0644", "0604", "0660", "0602"])("a file of mode %s is refused, with the remedy", (mode) => {
    const path = file(mode);
    expect(() => withApi({ BLACKTREE_ADMIN_TOKEN_FILE: path })).toThrow(
      `BLACKTREE_ADMIN_TOKEN_FILE = "${path}": can be read or changed by other users (mode ${mode}); expected a file that only its owner can read, and its group at most: chmod 600 ${path}`,
    );
  });

  test("a file that is missing, or has no usable token, is refused under its own name only", () => {
    const refusals = [join(folder.path, "missing"), folder.path, file("0600", "short\n"), file("0600", "")];
    for (const path of refusals) {
      const start = () => withApi({ BLACKTREE_ADMIN_TOKEN_FILE: path });
      expect(start).toThrow(/^BLACKTREE_ADMIN_TOKEN_FILE = "[^\n]*$/);
    }
  });

  test("two of them are refused", () => {
    const both = { BLACKTREE_ADMIN_TOKEN: TOKEN, BLACKTREE_ADMIN_TOKEN_FILE: file("0600") };
    expect(() => withApi(both)).toThrow(
      'BLACKTREE_ADMIN_TOKEN = "***": is set, and BLACKTREE_ADMIN_TOKEN_FILE too; expected only one of them',
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

describe("BLACKTREE_ORIGINAL_API", () => {
  const withApi = (environment: Readonly<Record<string, string>>) =>
    load("redis://host", { BLACKTREE_ORIGINAL_API: "true", ...environment });

  test("needs an account, and has the original's repository by default", () => {
    expect(withApi({ BLACKTREE_ORIGINAL_API_ACCOUNT: "1234567890" }).values).toMatchObject({
      hasOriginalApi: true,
      originalApiAccount: "1234567890",
      originalApiEcrRepo: "blacktree",
    });
  });

  test.each([
    ["BLACKTREE_ORIGINAL_API_ACCOUNT", {}],
    ["BLACKTREE_ORIGINAL_API_ACCOUNT", { BLACKTREE_ORIGINAL_API_ACCOUNT: "12a" }],
    [
      "BLACKTREE_ORIGINAL_API_ECR_REPO",
      { BLACKTREE_ORIGINAL_API_ACCOUNT: "1", BLACKTREE_ORIGINAL_API_ECR_REPO: "Upper" },
    ],
  ])("%s is refused if the settings are %j", (name, environment) => {
    expect(() => withApi(environment)).toThrow(name);
  });
});

test("BLACKTREE_REPLY_TO is a list of patterns, off, or by default everything", () => {
  expect(load("redis://host").values.replyPatterns).toEqual(["*"]);
  const given = (value: string) => load("redis://host", { BLACKTREE_REPLY_TO: value }).values.replyPatterns;
  expect(given("replies.*, audit")).toEqual(["replies.*", "audit"]);
  expect(given("off")).toBe("off");
  expect(() => given("two words")).toThrow("BLACKTREE_REPLY_TO");
});
