import { describe, expect, test } from "bun:test";
import { brotliCompressSync, deflateSync, gzipSync } from "node:zlib";
import {
  type ReadMessage,
  readableTarget,
  readJobMessage,
} from "../../../../src/orchestrator/job/message.ts";

const EXAMPLE = {
  repo_url: "username/reponame",
  branch: "main",
  deployment_version: "v1.0.3",
  aws_account: "1234567890",
  ecr_repo: "app-images",
};

const RULES = {
  git: { baseUrl: "https://github.com", allowedHosts: ["github.com", "gitlab.com"] },
  defaultRegion: "us-east-1",
  secretLimit: 100,
};

function read(message: unknown, messageId?: string): ReadMessage {
  const body = Buffer.from(typeof message === "string" ? message : JSON.stringify(message));
  return readJobMessage(body, { messageId }, RULES);
}

function problemsOf(message: unknown): readonly string[] {
  const outcome = read(message);
  if (outcome.kind !== "invalid") throw new Error(`read as ${outcome.kind}`);
  return outcome.problems;
}

describe("a valid message", () => {
  test("the documented example gets its defaults", () => {
    const outcome = read(EXAMPLE);
    expect(outcome).toMatchObject({
      kind: "job",
      explicitId: undefined,
      unknownFields: [],
      job: {
        region: "us-east-1",
        workerRegion: "us-east-1",
        regionPolicy: "prefer",
        priority: "normal",
        provenance: false,
        gitDepth: 1,
        gitTags: false,
      },
    });
  });

  test("git_depth 0 and git_tags are for all of the history", () => {
    expect(read({ ...EXAMPLE, git_depth: 0, git_tags: true })).toMatchObject({
      job: { gitDepth: 0, gitTags: true },
    });
  });

  test("worker_region defaults to region", () => {
    expect(read({ ...EXAMPLE, region: "eu-west-1" })).toMatchObject({
      job: { region: "eu-west-1", workerRegion: "eu-west-1" },
    });
  });

  test("tenant defaults to aws_account, in the job and in its public form", () => {
    const { aws_account: tenant } = EXAMPLE;
    expect(read(EXAMPLE)).toMatchObject({ job: { tenant }, publicJob: { tenant } });
    expect(read({ ...EXAMPLE, tenant: null })).toMatchObject({ job: { tenant } });
    const given = "Acme_1.team-x";
    expect(read({ ...EXAMPLE, tenant: given })).toMatchObject({
      job: { tenant: given, awsAccount: tenant },
      publicJob: { tenant: given },
    });
  });

  test("platforms are normalized and sorted", () => {
    const platforms = ["linux/arm64/v8", "linux/amd64", "linux/aarch64"];
    expect(read({ ...EXAMPLE, platforms })).toMatchObject({
      job: { platforms: ["linux/amd64", "linux/arm64"] },
    });
  });

  test("null counts as not set", () => {
    expect(read({ ...EXAMPLE, commit: null, labels: null, job_id: null }, "m-1")).toMatchObject({
      kind: "job",
      explicitId: "m-1",
    });
  });

  test("the id is job_id, else a valid message_id", () => {
    expect(read({ ...EXAMPLE, job_id: "j:1" }, "m-1").explicitId).toBe("j:1");
    expect(read(EXAMPLE, "m-1").explicitId).toBe("m-1");
    expect(read(EXAMPLE, "not an id").explicitId).toBeUndefined();
  });

  test("unknown fields are reported", () => {
    expect(read({ ...EXAMPLE, colour: "red" })).toMatchObject({ kind: "job", unknownFields: ["colour"] });
  });

  test("the public job contains no secret", () => {
    const outcome = read({
      ...EXAMPLE,
      git_token: "hush-1",
      build_args: { KEY: "hush-2" },
      unknown: "hush-3",
      secrets: { npm: "hush-4" },
      registry_auths: { "ghcr.io": { username: "hush-5", password: "hush-6" } },
    });
    if (outcome.kind !== "job") throw new Error(outcome.kind);
    expect(JSON.stringify(outcome.publicJob)).not.toContain("hush");
    expect(outcome.publicJob).toMatchObject({ build_args: { KEY: "***" }, branch: "main" });
    expect(outcome.job).toMatchObject({ gitToken: "hush-1", secrets: { npm: "hush-4" } });
  });

  test("the logins for registries are known by the hosts that docker uses", () => {
    const login = { username: "_json_key", password: '{\n"type": "service_account"}' };
    const given = { "GHCR.io": login, "https://index.docker.io/v1/": { identity_token: "token" } };
    const hosts = { "127.0.0.1:5000": login, "[::1]:5000": login, localhost: login, "registry:5000": login };
    expect(read({ ...EXAMPLE, registry_auths: { ...given, ...hosts } })).toMatchObject({
      job: { registryAuths: { "ghcr.io": login, "docker.io": { identityToken: "token" }, ...hosts } },
    });
  });

  test.each([["a/../b"], ["Dockerfile"], ["deploy/web/Dockerfile"], ["./x"]])(
    "dockerfile %s is inside the repository",
    (dockerfile) => {
      expect(read({ ...EXAMPLE, dockerfile }).kind).toBe("job");
    },
  );
});

describe("an invalid message", () => {
  test.each([
    ["labels", { a: "\ud800" }],
    ["build_args", { "\udc00": "a" }],
    ["supersede", "web\ud800/main"],
    ["registry_auths", { "ghcr.io": { username: "u", password: "\ud83d" } }],
  ])("%s with half of a surrogate pair is refused", (name, value) => {
    expect(problemsOf({ ...EXAMPLE, [name]: value })).toEqual([
      `${name}: has half of a surrogate pair; expected Unicode text`,
    ]);
  });

  test("half of a surrogate pair in an unknown field, and whole pairs, are accepted", () => {
    expect(read({ ...EXAMPLE, note: "\ud800", labels: { a: "\ud83d\ude00" } }).kind).toBe("job");
  });

  test.each([
    ["{", "not JSON; expected a JSON object"],
    ["[]", "not a JSON object"],
    ['"text"', "not a JSON object"],
    ["null", "not a JSON object"],
  ])("%s", (body, problem) => expect(problemsOf(body)[0]).toStartWith(problem));

  test("not UTF-8", () => {
    const outcome = readJobMessage(Buffer.from([0x7b, 0xff, 0x7d]), {}, RULES);
    expect(outcome).toMatchObject({
      kind: "invalid",
      problems: ["not UTF-8; expected a JSON object in UTF-8"],
    });
  });

  test("reports every missing or invalid field, and no other", () => {
    const problems = problemsOf({
      branch: "--upload-pack=touch /tmp/x",
      aws_account: 1234,
      ecr_repo: "UPPER",
      region: "us-east-1",
    });
    const fields = problems.map((problem) => problem.split(":")[0]).toSorted();
    expect(fields).toEqual(["aws_account", "branch", "deployment_version", "ecr_repo", "repo_url"]);
  });

  test("never repeats a value", () => {
    const problems = problemsOf({
      ...EXAMPLE,
      branch: "hush hush",
      git_token: "hush hush",
      labels: { "a=b": "hush hush" },
    });
    expect(problems.join()).not.toContain("hush");
    expect(problems).toHaveLength(3);
  });

  test("keeps its explicit id", () => {
    expect(read({ job_id: "j-1" })).toMatchObject({ kind: "invalid", explicitId: "j-1" });
    expect(read("{", "m-1")).toMatchObject({ kind: "invalid", explicitId: "m-1" });
    for (const job_id of ["a b", 42])
      expect(read({ ...EXAMPLE, job_id }, "m-1")).toMatchObject({ kind: "invalid", explicitId: "m-1" });
    expect(read({ ...EXAMPLE, job_id: 42 })).toMatchObject({ kind: "invalid", explicitId: undefined });
  });

  test.each([
    ["repo_url", "https://user:pass@github.com/a/b"],
    ["repo_url", "https://evil.example/a/b"],
    ["repo_url", "--upload-pack=x/y"],
    ["repo_url", "../../etc/passwd"],
    ["repo_url", "file:///etc/passwd"],
    ["repo_url", 7],
    ["branch", ""],
    ["branch", "-b"],
    ["branch", "a..b"],
    ["branch", "a b"],
    ["git_depth", -1],
    ["git_depth", 1.5],
    ["git_depth", "1"],
    ["git_depth", 2_000_000_000],
    ["git_tags", "true"],
    ["branch", "x.lock"],
    ["branch", "refs/heads/"],
    ["branch", "日".repeat(86)],
    ["branch", "\ud800"],
    ["deployment_version", "-v1"],
    ["deployment_version", "a/b"],
    ["deployment_version", "v".repeat(129)],
    ["aws_account", "12a"],
    ["aws_account", ""],
    ["ecr_repo", "../x"],
    ["ecr_repo", "a//b"],
    ["tenant", ""],
    ["tenant", "a:b"],
    ["tenant", "a/b"],
    ["tenant", "a b"],
    ["tenant", "a\n"],
    ["tenant", "x".repeat(65)],
    ["tenant", 1234567890],
    ["region", "us east"],
    ["region", "us-east-1/../x"],
    ["worker_region", "a.b"],
    ["region_policy", "maybe"],
    ["job_id", ""],
    ["job_id", "a/b"],
    ["commit", "main"],
    ["commit", "abc123"],
    ["dockerfile", "../Dockerfile"],
    ["dockerfile", "a/../../b"],
    ["dockerfile", "/etc/passwd"],
    ["dockerfile", "-"],
    ["context", ".."],
    ["context", "https://example.org/x.git"],
    ["target", "--x"],
    ["build_args", ["a"]],
    ["build_args", { "": "x" }],
    ["build_args", { "A=B": "x" }],
    ["build_args", { "A\0": "x" }],
    ["build_args", { A: 1 }],
    ["labels", { "io.blacktree.commit": "x" }],
    ["labels", { "a=b": "x" }],
    ["labels", { "": "x" }],
    ["platforms", "linux/amd64"],
    ["git_token", "a\nb"],
    ["secrets", { "../x": "y" }],
    ["secrets", { large: "x".repeat(512_001) }],
    ["secrets", Object.fromEntries(Array.from({ length: 101 }, (_, index) => [`name-${index}`, "x"]))],
    ["registry_auths", [{ username: "u", password: "p" }]],
    ["registry_auths", { "ghcr.io": "hush" }],
    ["registry_auths", { "ghcr.io": { username: "u" } }],
    ["registry_auths", { "ghcr.io": { username: "u:v", password: "p" } }],
    ["registry_auths", { "ghcr.io": { username: "u", password: "" } }],
    ["registry_auths", { "ghcr.io": { username: "u", password: "x".repeat(16_385) } }],
    ["registry_auths", { "ghcr.io": { username: "u", password: "p", identity_token: "t" } }],
    ["registry_auths", { "ghcr.io": { identity_token: "two words" } }],
    ["registry_auths", { "ghcr.io": { auth: "dTpw" } }],
    ["registry_auths", { ghcr: { username: "u", password: "p" } }],
    ["registry_auths", { "https://ghcr.io": { username: "u", password: "p" } }],
    ["registry_auths", { "ghcr.io/owner": { username: "u", password: "p" } }],
    ["registry_auths", { "docker.io": { identity_token: "t" }, "index.docker.io": { identity_token: "u" } }],
    [
      "registry_auths",
      Object.fromEntries(Array.from({ length: 33 }, (_, index) => [`r${index}.io`, { identity_token: "t" }])),
    ],
    ["priority", "urgent"],
    ["timeout_seconds", 0],
    ["timeout_seconds", 1.5],
    ["timeout_seconds", "60"],
    ["supersede", ""],
    ["provenance", "yes"],
    ["reuse", "always"],
  ])("%s = %p", (field, value) => {
    const problems = problemsOf({ ...EXAMPLE, [field]: value });
    expect(problems).toHaveLength(1);
    expect(problems[0]).toStartWith(`${field}: `);
  });

  test("a wrong login is named by its registry, and not by its value", () => {
    const registry_auths = {
      "ghcr.io": { username: "hush-1", password: 7 },
      "user:hush-2": { username: "hush-3", password: "hush-4" },
      "quay.io": { identity_token: "fine" },
    };
    const problems = problemsOf({ ...EXAMPLE, registry_auths });
    expect(problems.join()).not.toContain("hush");
    expect(problems.join()).toContain("registry_auths: ghcr.io: expected username");
    expect(problems.join()).not.toContain("quay.io: ");
  });

  test("a build argument named __proto__", () => {
    const message = `{"build_args":{"__proto__":"x"},${JSON.stringify(EXAMPLE).slice(1)}`;
    expect(problemsOf(message)[0]).toStartWith("build_args: ");
  });

  test("a message that is too large", () => {
    expect(problemsOf({ ...EXAMPLE, branch: "x".repeat(1_100_000) })[0]).toContain(
      "expected at most 1048576",
    );
  });
});

describe("content-encoding", () => {
  const body = Buffer.from(JSON.stringify(EXAMPLE));
  const readEncoded = (encoded: Buffer, contentEncoding: string) =>
    readJobMessage(encoded, { messageId: "m-1", contentEncoding }, RULES);

  test.each([
    ["gzip", gzipSync(body)],
    ["GZIP", gzipSync(body)],
    ["utf-8", body],
    ["identity", body],
    ["", body],
  ])("%p is accepted", (encoding, encoded) =>
    expect(readEncoded(encoded, encoding)).toMatchObject({ kind: "job", body, explicitId: "m-1" }),
  );

  test.each([
    ["deflate", deflateSync(body), 'content-encoding: "deflate" is not supported; expected gzip'],
    ["br", brotliCompressSync(body), 'content-encoding: "br" is not supported'],
    ["gzip", body, "content-encoding: the body is not valid gzip"],
    ["gzip", gzipSync(body).subarray(0, 40), "content-encoding: the body is not valid gzip"],
    [
      "gzip",
      gzipSync(Buffer.alloc(50_000_000)),
      "the message has more than 1048576 bytes after decompression",
    ],
  ])("%s that is not decoded is a bad message, with its id", (encoding, encoded, problem) => {
    const outcome = readEncoded(encoded, encoding);
    expect(outcome).toMatchObject({ kind: "invalid", explicitId: "m-1" });
    expect(outcome.kind === "invalid" && outcome.problems[0]).toStartWith(problem);
  });
});

describe("the target of an invalid message", () => {
  const { aws_account } = EXAMPLE;

  test("contains the valid fields, with the default of an absent tenant", () => {
    const target = { aws_account, tenant: aws_account, ecr_repo: "app-images", deployment_version: "v1.0.3" };
    expect(readableTarget({ ...EXAMPLE, branch: 1 })).toEqual(target);
    expect(readableTarget({ ...EXAMPLE, tenant: null })).toEqual(target);
    expect(readableTarget({ ...EXAMPLE, tenant: "acme" })).toEqual({ ...target, tenant: "acme" });
  });

  test.each([{ tenant: "a b" }, { tenant: 7 }, { aws_account: "hush" }, { aws_account: undefined }])(
    "has no tenant with %j",
    (fields) => expect(readableTarget({ ...EXAMPLE, ...fields }).tenant).toBeUndefined(),
  );
});
