import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { join } from "node:path";
import { firstReachableAddress } from "../../../../src/shared/rpc/advertised-address.ts";
import { SettingsError } from "../../../../src/shared/settings/settings.ts";
import { listenAddress, loadWorkerSettings } from "../../../../src/worker/settings/config.ts";
import { makeTempDir, type TempDir } from "../../../support/machine/temp-dir.ts";
import { writeFiles } from "../../../support/machine/write-files.ts";

const REQUIRED = { BLACKTREE_ORCHESTRATOR_ADDR: "127.0.0.1:5051", AWS_REGION: "eu-west-1" };

function load(environment: Record<string, string>) {
  return loadWorkerSettings({ flags: {}, environment }).values;
}

function problems(environment: Record<string, string>): readonly string[] {
  try {
    load(environment);
    return [];
  } catch (error) {
    if (error instanceof SettingsError) return error.problems.map(({ name }) => name);
    throw error;
  }
}

describe("worker settings", () => {
  test("the region is AWS_REGION unless it is set", () => {
    expect(load(REQUIRED).region).toBe("eu-west-1");
    expect(load({ ...REQUIRED, BLACKTREE_WORKER_REGION: "cellar" }).region).toBe("cellar");
    expect(problems({ BLACKTREE_ORCHESTRATOR_ADDR: "127.0.0.1:5051" })).toEqual(["BLACKTREE_WORKER_REGION"]);
  });

  test("without TLS the worker stays on loopback", () => {
    expect(listenAddress(load(REQUIRED))).toEqual({ host: "127.0.0.1", port: 6000 });
    expect(problems({ ...REQUIRED, BLACKTREE_WORKER_LISTEN: "0.0.0.0:6000" })).toEqual([
      "BLACKTREE_WORKER_LISTEN",
    ]);
    expect(
      problems({ ...REQUIRED, BLACKTREE_WORKER_LISTEN: "0.0.0.0:6000", BLACKTREE_INSECURE: "true" }),
    ).toEqual([]);
  });

  test("a wrong file of logins is a wrong setting, and is described without its values", async () => {
    const folder = await makeTempDir("auths");
    try {
      const path = join(folder.path, "config.json");
      const given = { ...REQUIRED, BLACKTREE_REGISTRY_AUTH: path };
      expect(problems(given)).toEqual(["BLACKTREE_REGISTRY_AUTH"]);
      await writeFiles(folder.path, { "config.json": '{"auths":{"ghcr.io":{"auth":"hush"}}}' });
      expect(problems(given)).toEqual(["BLACKTREE_REGISTRY_AUTH"]);
      expect(() => load(given)).toThrow(/ghcr\.io/);
      expect(() => load(given)).not.toThrow(/hush/);
      await writeFiles(folder.path, { "config.json": '{"auths":{"ghcr.io":{"auth":"dTpw"}}}' });
      expect(load(given).registryAuths?.auths.logins.size).toBe(1);
    } finally {
      await folder.remove();
    }
  });

  test("base repositories are of the job's account, with a role, or of a named registry", () => {
    const base = (BLACKTREE_ECR_BASE_REPOS: string, more = {}) => ({
      ...REQUIRED,
      BLACKTREE_ECR_BASE_REPOS,
      ...more,
    });
    const role = { BLACKTREE_ECR_ROLE_ARN: "arn:aws:iam::{account}:role/push" };
    const named = "210987654321.dkr.ecr.eu-west-1.amazonaws.com/base/*";
    expect(load(base(named)).ecrBaseRepositories).toEqual([
      {
        name: "base/*",
        registry: { host: named.split("/")[0] ?? "", account: "210987654321", region: "eu-west-1" },
      },
    ]);
    expect(problems(base(`base/*,${named}`))).toEqual(["BLACKTREE_ECR_BASE_REPOS"]);
    expect(problems(base(`base/*,${named}`, role))).toEqual([]);
    for (const wrong of [
      "21.dkr.ecr.eu-west-1.amazonaws.com/base",
      `${named}:1`,
      named.replace(".com", ".co"),
    ])
      expect(problems(base(wrong, role))).toEqual(["BLACKTREE_ECR_BASE_REPOS"]);
  });

  test("the three TLS files are required together", () => {
    const names = problems({ ...REQUIRED, BLACKTREE_TLS_CA: "/nowhere.pem" });
    expect(names).toEqual(["BLACKTREE_TLS_CA", "BLACKTREE_TLS_CERT", "BLACKTREE_TLS_KEY"]);
  });

  test("every invalid setting is reported at once", () => {
    const names = problems({
      BLACKTREE_ORCHESTRATOR_ADDR: "nowhere",
      BLACKTREE_WORKER_SLOTS: "0",
      BLACKTREE_WORK_DIR: "relative",
      BLACKTREE_DRAIN_TIMEOUT: "soon",
      BLACKTREE_DISK_RESERVE: "much",
      BLACKTREE_INODE_RESERVE: "-1",
      BLACKTREE_ECR_ROLE_ARN: "arn",
      BLACKTREE_GIT_BASE_URL: "ftp://x",
    });
    expect(names).toHaveLength(9);
  });
});

describe("registry settings", () => {
  let dir: TempDir;
  const policy = (name: string) => join(dir.path, name);
  const NEW_REPOSITORIES = {
    BLACKTREE_ECR_SCAN_ON_PUSH: "true",
    BLACKTREE_ECR_TAG_MUTABILITY: "IMMUTABLE",
    BLACKTREE_ECR_TAG_EXCLUSIONS: "latest, dev-*",
    BLACKTREE_ECR_REPOSITORY_TAGS: "team=payments, cost center=7, empty=",
  };

  beforeAll(async () => {
    dir = await makeTempDir("config");
    await writeFiles(dir.path, { right: '{"rules": []}', wrong: '{"rule": []}', broken: "{" });
  });
  afterAll(() => dir.remove());

  test("configure created repositories", () => {
    const values = load({
      ...REQUIRED,
      ...NEW_REPOSITORIES,
      BLACKTREE_ECR_CREATE_REPOSITORY: "true",
      BLACKTREE_ECR_LIFECYCLE_POLICY_FILE: policy("right"),
    });
    expect(values).toMatchObject({
      ecrScanOnPush: true,
      ecrTagMutability: "IMMUTABLE",
      ecrTagExclusions: ["latest", "dev-*"],
      ecrRepositoryTags: { team: "payments", "cost center": "7", empty: "" },
      ecrLifecyclePolicy: '{"rules": []}',
    });
  });

  test("that have no effect while no repositories are created are reported", () => {
    const given = { ...NEW_REPOSITORIES, BLACKTREE_ECR_LIFECYCLE_POLICY_FILE: policy("right") };
    expect(problems({ ...REQUIRED, ...given }).toSorted()).toEqual(Object.keys(given).toSorted());
    const defaults = { BLACKTREE_ECR_SCAN_ON_PUSH: "false", BLACKTREE_ECR_TAG_MUTABILITY: "MUTABLE" };
    expect(problems({ ...REQUIRED, ...defaults })).toEqual([]);
  });

  test.each([
    ["BLACKTREE_ECR_TAG_EXCLUSIONS", "a*b*c*d"],
    ["BLACKTREE_ECR_TAG_EXCLUSIONS", "a/b"],
    ["BLACKTREE_ECR_TAG_EXCLUSIONS", "1,2,3,4,5,6"],
    ["BLACKTREE_ECR_TAG_MUTABILITY", "immutable"],
    ["BLACKTREE_ECR_REPOSITORY_TAGS", "team"],
    ["BLACKTREE_ECR_REPOSITORY_TAGS", "=payments"],
    ["BLACKTREE_ECR_LIFECYCLE_POLICY_FILE", "/nowhere.json"],
    ["BLACKTREE_ECR_LIFECYCLE_POLICY_FILE", "wrong"],
    ["BLACKTREE_ECR_LIFECYCLE_POLICY_FILE", "broken"],
    ["BLACKTREE_REGISTRY", "no registry"],
  ])("%s cannot be %s", (name, value) => {
    const given = name.endsWith("_FILE") && !value.startsWith("/") ? policy(value) : value;
    expect(problems({ ...REQUIRED, BLACKTREE_ECR_CREATE_REPOSITORY: "true", [name]: given })).toEqual([name]);
  });

  test.each([
    "arn:aws:iam::{account}:role/push",
    "arn:aws-cn:iam::{account}:role/some/path/push",
    "arn:aws-us-gov:iam::123456789012:role/push",
    "arn:{partition}:iam::{account}:role/push",
  ])("the role may be %s", (arn) => {
    const externalId = "some:id-1";
    const given = { ...REQUIRED, BLACKTREE_ECR_ROLE_ARN: arn, BLACKTREE_ECR_EXTERNAL_ID: externalId };
    expect(load(given)).toMatchObject({ ecrRoleArn: arn, ecrExternalId: externalId });
  });

  test("an external id requires a role, and is masked", () => {
    const given = { ...REQUIRED, BLACKTREE_ECR_EXTERNAL_ID: "some:id-1" };
    expect(problems(given)).toEqual(["BLACKTREE_ECR_EXTERNAL_ID"]);
    const environment = { ...given, BLACKTREE_ECR_ROLE_ARN: "arn:aws:iam::{account}:role/push" };
    expect(loadWorkerSettings({ flags: {}, environment }).lines).toContain("BLACKTREE_ECR_EXTERNAL_ID=***");
    expect(() => load({ ...environment, BLACKTREE_ECR_EXTERNAL_ID: "wrong id" })).toThrow('"***"');
  });

  test("a registry's user name and password are required together", () => {
    const registry = { ...REQUIRED, BLACKTREE_REGISTRY: "registry.example:5000" };
    expect(problems(registry)).toEqual([]);
    expect(problems({ ...registry, BLACKTREE_REGISTRY_USERNAME: "me" })).toEqual([
      "BLACKTREE_REGISTRY_PASSWORD",
    ]);
    expect(problems({ ...registry, BLACKTREE_REGISTRY_PASSWORD: "secret" })).toEqual([
      "BLACKTREE_REGISTRY_USERNAME",
    ]);
  });
});

describe("the reuse key", () => {
  const [key, other] = ["5a".repeat(32), "7C".repeat(40)];

  test("reuse key: one or more, in hex; none by default", () => {
    expect(load(REQUIRED).reuseKeys).toBeUndefined();
    const given = { ...REQUIRED, BLACKTREE_REUSE_KEY: `${key}, ${other}` };
    expect(load(given).reuseKeys).toEqual([Buffer.from(key, "hex"), Buffer.from(other, "hex")]);
    const { lines } = loadWorkerSettings({ flags: {}, environment: given });
    expect(lines).toContain("BLACKTREE_REUSE_KEY=***");
  });

  test.each([
    ["too short", key.slice(2)],
    ["of an odd length", `${key}5`],
    ["not hex", "no key!!".repeat(8)],
    ["base64", Buffer.from(key, "hex").toString("base64")],
    ["hex and something else", `${key} ${key}`],
    ["an empty list", ","],
    ["a list with a wrong key", `${key},short`],
  ])("reuse key: one that is %s is refused, and not printed", (_, value) => {
    const given = { ...REQUIRED, BLACKTREE_REUSE_KEY: value };
    expect(problems(given)).toEqual(["BLACKTREE_REUSE_KEY"]);
    expect(() => load(given)).toThrow(/^BLACKTREE_REUSE_KEY = "\*\*\*": .*openssl rand -hex 32/);
  });
});

describe("the advertised address", () => {
  const interfaces = {
    lo: [{ address: "127.0.0.1", family: "IPv4", internal: true }],
    eth0: [
      { address: "fe80::1", family: "IPv6", internal: false },
      { address: "2001:db8::7", family: "IPv6", internal: false },
      { address: "192.0.2.7", family: "IPv4", internal: false },
    ],
  } as unknown as ReturnType<typeof import("node:os").networkInterfaces>;

  test("is that of the listener", () => {
    expect(firstReachableAddress({ host: "127.0.0.1", port: 6000 }, interfaces)).toEqual({
      host: "127.0.0.1",
      port: 6000,
    });
  });

  test("is the machine's first one beyond loopback when the listener listens on all addresses", () => {
    expect(firstReachableAddress({ host: "0.0.0.0", port: 6000 }, interfaces)).toEqual({
      host: "192.0.2.7",
      port: 6000,
    });
    expect(firstReachableAddress({ host: "0.0.0.0", port: 6000 }, { lo: interfaces.lo })).toEqual({
      host: "127.0.0.1",
      port: 6000,
    });
  });
});

test("settings of git hosts", () => {
  expect(load(REQUIRED)).toMatchObject({ gitSilenceTimeoutMs: 120_000, gitTokenScope: "repository" });
  const given = { BLACKTREE_GIT_SILENCE_TIMEOUT: "5m", BLACKTREE_GIT_TOKEN_SCOPE: "owner" };
  expect(load({ ...REQUIRED, ...given })).toMatchObject({
    gitSilenceTimeoutMs: 300_000,
    gitTokenScope: "owner",
  });
  const invalid = { BLACKTREE_GIT_SILENCE_TIMEOUT: "0s", BLACKTREE_GIT_TOKEN_SCOPE: "host" };
  expect(problems({ ...REQUIRED, ...invalid })).toEqual(Object.keys(invalid));
});

describe("BLACKTREE_GIT_USER", () => {
  const users = (value: string) => load({ ...REQUIRED, BLACKTREE_GIT_USER: value }).gitUsers;

  test("has a user name for each host", () => {
    const value = "GitLab.example:8443=gitlab+deploy-token-1, github.com=x-access-token";
    expect(users(value)).toEqual({
      "gitlab.example:8443": "gitlab+deploy-token-1",
      "github.com": "x-access-token",
    });
    expect(load(REQUIRED).gitUsers).toBeUndefined();
  });

  test.each([
    "deploy-user",
    "github.com=",
    "=user",
    "https://github.com=user",
    "github.com/acme=user",
    "github.com=user:password",
    "github.com=two words",
    "github.com=a,GitHub.com=b",
  ])("%s is invalid", (value) => {
    expect(problems({ ...REQUIRED, BLACKTREE_GIT_USER: value })).toEqual(["BLACKTREE_GIT_USER"]);
  });
});
