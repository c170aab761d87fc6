import { describe, expect, test } from "bun:test";
import * as parse from "../../../../src/shared/settings/parsers.ts";
import {
  flagOf,
  loadSettings,
  maskUrlPasswords,
  optional,
  required,
  SettingsError,
  withDefault,
} from "../../../../src/shared/settings/settings.ts";

const TABLE = {
  brokers: required(
    { name: "RABBITMQ_URL", description: "the brokers", secrecy: "urls" },
    parse.commaSeparated(parse.url("amqp", "amqps")),
  ),
  slots: withDefault({ name: "BLACKTREE_SLOTS", description: "slots" }, parse.integer(1, 8), "2"),
  token: optional(
    { name: "BLACKTREE_TOKEN", description: "a token", secrecy: "secret" },
    parse.matching(/^.{4,}$/, "4 or more"),
  ),
};

function load(environment: Record<string, string>, flags: Record<string, string> = {}) {
  return loadSettings(TABLE, { flags, environment });
}

function problemsOf(environment: Record<string, string>): string {
  try {
    load(environment);
  } catch (error) {
    if (error instanceof SettingsError) return error.message;
    throw error;
  }
  throw new Error("the settings were accepted");
}

describe("settings", () => {
  test("are read from flags, then the environment, then defaults", () => {
    const environment = { RABBITMQ_URL: "amqp://one,amqps://two", BLACKTREE_SLOTS: "3" };
    expect(load(environment).values).toEqual({
      brokers: ["amqp://one", "amqps://two"],
      slots: 3,
      token: undefined,
    });
    expect(load(environment, { BLACKTREE_SLOTS: "4" }).values.slots).toBe(4);
    expect(load({ RABBITMQ_URL: "amqp://one" }).values.slots).toBe(2);
  });

  test("an empty value means the default", () => {
    expect(load({ RABBITMQ_URL: "amqp://one", BLACKTREE_SLOTS: "", BLACKTREE_TOKEN: " " }).values.slots).toBe(
      2,
    );
  });

  test("an error lists every wrong setting, with secrets masked", () => {
    const message = problemsOf({
      RABBITMQ_URL: "http://me:hush@host",
      BLACKTREE_SLOTS: "many",
      BLACKTREE_TOKEN: "hum",
    });
    expect(message.split("\n")).toHaveLength(3);
    expect(message).toContain(
      'RABBITMQ_URL = "http://me:***@host": has an unsupported scheme; expected a URL that starts with amqp://',
    );
    expect(message).toContain(
      'BLACKTREE_SLOTS = "many": is not a whole number in range; expected a whole number from 1 to 8',
    );
    expect(message).toContain('BLACKTREE_TOKEN = "***"');
    expect(message).not.toContain("hush");
    expect(message).not.toContain("hum");
  });

  test("the error for a missing setting names its flag, if it has one", () => {
    expect(problemsOf({})).toBe("RABBITMQ_URL: is not set; expected the brokers, set in the environment");
    const table = { region: required({ name: "BLACKTREE_REGION", description: "a region" }, parse.text) };
    expect(() => loadSettings(table, { flags: {}, environment: {} })).toThrow(
      "BLACKTREE_REGION: is not set; expected a region, set with --region or in the environment",
    );
  });

  test("the effective settings show defaults and mask secrets", () => {
    const { lines } = load({ RABBITMQ_URL: "amqp://me:hush@one", BLACKTREE_TOKEN: "hush" });
    expect(lines).toEqual(["RABBITMQ_URL=amqp://me:***@one", "BLACKTREE_SLOTS=2", "BLACKTREE_TOKEN=***"]);
  });

  test("the result is frozen", () => {
    expect(Object.isFrozen(load({ RABBITMQ_URL: "amqp://one" }).values)).toBe(true);
  });

  test.each([
    ["BLACKTREE_GRPC_LISTEN", "--grpc-listen"],
    ["BLACKTREE_LOG_LEVEL", "--log-level"],
  ])("%s has the flag %s", (name, flag) => expect(flagOf(name)).toBe(flag));

  test.each([
    ["amqp://u:p@h/v", "amqp://u:***@h/v"],
    ["redis://:p@h,redis://u:q@i", "redis://:***@h,redis://u:***@i"],
    ["amqp://u:p@ss@h", "amqp://u:***@h"],
    ["https://token@h/x", "https://***@h/x"],
    ["amqp://u:p/s@h", "amqp://u:***@h"],
    ["amqp://u:p?s@h/v", "amqp://u:***@h/v"],
    ["amqp://u:1#s@h", "amqp://u:***@h"],
    ["amqp://u:p s@h", "amqp://u:***@h"],
    ["amqp://u:p,s@h,amqp://u:q@i", "amqp://u:***@h,amqp://u:***@i"],
    ["amqp://a b:p@h", "amqp://:***@h"],
    ["amqp://h/a?b,redis://i", "amqp://h/a?b,redis://i"],
    // It could be the end of a password.
    ["amqp://h/a@b", "amqp://***@b"],
  ])("the password in %s is masked", (url, masked) => expect(maskUrlPasswords(url)).toBe(masked));
});

describe("parsers", () => {
  test.each([
    ["500ms", 500],
    ["2s", 2000],
    ["1.5m", 90_000],
    ["24h", 86_400_000],
  ])("duration %s", (raw, expected) => expect(parse.duration(0, 86_400_000)(raw)).toBe(expected));

  test.each([
    ["0", 0],
    ["500B", 500],
    ["1.5KB", 1500],
    ["10GB", 10_000_000_000],
    ["2 GiB", 2_147_483_648],
  ])("size %s", (raw, expected) => expect(parse.size(raw)).toBe(expected));

  test.each(["", "5", "-1GB", "5G", "5gb", "GB"])("not a valid size: %p", (raw) => {
    expect(() => parse.size(raw)).toThrow("a size such as 500MB");
  });

  test.each(["", "5", "5 s", "-1s", "5w", "2d"])("not a valid duration up to a day: %p", (raw) => {
    expect(() => parse.duration(0, 86_400_000)(raw)).toThrow("a duration from 0s to 1d");
  });

  test.each([
    ["127.0.0.1:80", { host: "127.0.0.1", port: 80 }],
    ["[::1]:0", { host: "::1", port: 0 }],
    ["build-1.lan:6000", { host: "build-1.lan", port: 6000 }],
  ])("address %s", (raw, expected) => {
    expect(parse.hostPort(raw)).toEqual(expected);
    expect(parse.formatHostPort(expected)).toBe(raw);
  });

  test.each(["host", "host:", ":80", "host:65536", "::1:80", "[1.2.3.4]:80", "a b:80", "http://h:80"])(
    "not a valid address: %p",
    (raw) => expect(() => parse.hostPort(raw)).toThrow("expected host:port"),
  );

  test("a file that is unreadable or not PEM is refused", () => {
    expect(() => parse.pemFile("/nowhere/at-all.pem")).toThrow("ENOENT");
    expect(() => parse.pemFile("/etc/hostname")).toThrow("contains no PEM block");
  });
});
