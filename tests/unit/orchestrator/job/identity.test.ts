import { describe, expect, test } from "bun:test";
import { KNOWN_FIELDS } from "../../../../src/orchestrator/job/fields.ts";
import { describeConflict } from "../../../../src/orchestrator/job/identity.ts";
import { readJobMessage } from "../../../../src/orchestrator/job/message.ts";
import { differingNames, fingerprintsOf } from "../../../../src/orchestrator/records/fingerprints.ts";

type Message = Readonly<Record<string, unknown>>;

const JOB: Message = {
  repo_url: "owner/name",
  branch: "main",
  deployment_version: "v1",
  aws_account: "1234567890",
  ecr_repo: "images",
};

function fingerprints(fields: Message, defaultRegion: string) {
  const git = { baseUrl: "https://github.com", allowedHosts: ["github.com"] };
  const message = readJobMessage(
    Buffer.from(JSON.stringify({ ...JOB, ...fields })),
    {},
    { git, defaultRegion, secretLimit: 100 },
  );
  if (message.kind !== "job") throw new Error(message.problems.join());
  return fingerprintsOf(message.identity, "salt");
}

function differing(one: Message, other: Message, otherDefaultRegion = "us-east-1"): readonly string[] {
  return differingNames(fingerprints(one, "us-east-1"), fingerprints(other, otherDefaultRegion));
}

describe("messages are the same job", () => {
  test.each<[string, Message, Message]>([
    ["an unknown field", {}, { colour: "red" }],
    ["job_id", { job_id: "one" }, { job_id: "other" }],
    ["a rotated git_token", { git_token: "one" }, { git_token: "other" }],
    ["a git_token", {}, { git_token: "one" }],
    ["rotated secrets", { secrets: { a: "1", b: "2" } }, { secrets: { b: "3", a: "4" } }],
    ["registry_auths", {}, { registry_auths: { "ghcr.io": { identity_token: "one" } } }],
    ["the case of a SHA", { commit: "a".repeat(40) }, { commit: "A".repeat(40) }],
    ["the order of build_args", { build_args: { A: "1", B: "2" } }, { build_args: { B: "2", A: "1" } }],
    ["the order of labels", { labels: { "a.b": "1", a: "2" } }, { labels: { a: "2", "a.b": "1" } }],
    ["the order of platforms", { platforms: ["a/b", "c/d"] }, { platforms: ["c/d", "a/b", "c/d"] }],
    ["the name of a platform", { platforms: ["linux/x86_64"] }, { platforms: ["linux/amd64"] }],
    ["the folder's Dockerfile", { context: "web" }, { context: "web", dockerfile: "web/Dockerfile" }],
    ["the worker region", { region: "eu-west-1" }, { region: "eu-west-1", worker_region: "eu-west-1" }],
  ])("that differ only in %s", (_, one, other) => {
    expect(differing(one, other)).toEqual([]);
  });

  test.each([...KNOWN_FIELDS].filter((name) => !(name in JOB)))("with %s absent or null", (name) => {
    expect(differing({}, { [name]: null })).toEqual([]);
  });

  test.each<[string, unknown]>([
    ["tenant", JOB.aws_account],
    ["git_depth", 1],
    ["git_tags", false],
    ["region_policy", "prefer"],
    ["dockerfile", "Dockerfile"],
    ["context", "."],
    ["build_args", {}],
    ["labels", {}],
    ["platforms", []],
    ["secrets", {}],
    ["priority", "normal"],
    ["provenance", false],
    ["reuse", "never"],
  ])("with %s absent or given as its default", (name, value) => {
    expect(differing({}, { [name]: value })).toEqual([]);
  });

  test.each<Message>([{}, { region: "eu-west-1" }, { worker_region: "eu-west-1" }])(
    "with %j at orchestrators with different default regions",
    (fields) => expect(differing(fields, fields, "ap-south-1")).toEqual([]),
  );
});

describe("messages are two jobs", () => {
  const DIFFERENT: Readonly<Record<string, readonly [one: unknown, other: unknown]>> = {
    repo_url: ["owner/name", "owner/other"],
    branch: ["main", "next"],
    deployment_version: ["v1", "v2"],
    ecr_repo: ["images", "others"],
    tenant: ["acme", "acme-2"],
    region: [undefined, "us-east-1"],
    worker_region: [undefined, "us-east-1"],
    region_policy: ["prefer", "require"],
    commit: [undefined, "a".repeat(40)],
    dockerfile: [undefined, "web/Dockerfile"],
    context: [undefined, "web"],
    target: ["one", "other"],
    build_args: [{ A: "1" }, { A: "2" }],
    labels: [{ a: "1" }, { b: "1" }],
    platforms: [[], ["linux/arm64"]],
    secrets: [{ a: "1" }, { b: "1" }],
    priority: ["low", "high"],
    git_depth: [1, 0],
    git_tags: [false, true],
    timeout_seconds: [undefined, 60],
    supersede: ["main", "next"],
    provenance: [false, true],
    reuse: ["never", "same-commit"],
    retry_of: [undefined, "an-ended-job"],
  };

  test.each(Object.entries(DIFFERENT))("that differ in %s, which is named", (name, [one, other]) => {
    expect(differing({ [name]: one }, { [name]: other })).toEqual([name]);
  });

  test("whichever field differs", () => {
    const tested = new Set([
      ...Object.keys(DIFFERENT),
      "aws_account",
      "git_token",
      "job_id",
      "registry_auths",
    ]);
    expect(tested).toEqual(new Set(KNOWN_FIELDS));
  });

  test("of two tenants, if only the account differs", () => {
    expect(differing({}, { aws_account: "999" })).toEqual(["aws_account", "tenant"]);
    expect(differing({ tenant: "acme" }, { tenant: "acme", aws_account: "999" })).toEqual(["aws_account"]);
  });

  test("for which the sender gets the names of all fields", () => {
    const fields = differing({}, { branch: "next", build_args: { A: "hush" } });
    expect(describeConflict(fields)).toBe(
      "the id is that of another job, which differs in: branch, build_args",
    );
  });
});
