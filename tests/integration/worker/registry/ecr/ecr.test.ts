import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import { StepFailure } from "../../../../../src/worker/job/failure.ts";
import { EcrAuthenticator, type EcrSettings } from "../../../../../src/worker/registry/ecr/authenticator.ts";
import { EcrBaseRegistries } from "../../../../../src/worker/registry/ecr/base-registries.ts";
import type { NewEcrRepository } from "../../../../../src/worker/registry/ecr/repository.ts";
import { inFullCheck } from "../../../../support/machine/full-check.ts";
import { waitFor } from "../../../../support/machine/wait-for.ts";
import { type Aws, type EcrRepository, startAws } from "../../../../support/servers/aws.ts";
import { missingDockerEngine } from "../../../../support/servers/docker-engines.ts";
import { type PipelineBench, startPipelineBench } from "../../pipeline/pipeline-bench.ts";

const account = "123456789012";
const region = "us-east-1";
const tenant = "acme";
const request = (ecrRepo = "images") => ({
  job: { awsAccount: account, region, ecrRepo, tenant },
  log: () => undefined,
  signal: new AbortController().signal,
});

let aws: Aws;
const environmentBefore = { ...process.env };

async function awsWith(options: Parameters<typeof startAws>[0] = {}): Promise<void> {
  await aws.stop();
  aws = await startAws({ account, region, repositories: { [account]: ["images"] }, ...options });
  Object.assign(process.env, aws.env());
}

beforeEach(async () => {
  aws = await startAws({ account, region, repositories: { [account]: ["images"] } });
  Object.assign(process.env, aws.env());
});
afterEach(async () => {
  await aws.stop();
  for (const name of Object.keys(aws.env())) {
    const before = environmentBefore[name];
    if (before === undefined) delete process.env[name];
    else process.env[name] = before;
  }
});

const authenticator = (settings: EcrSettings = {}) => new EcrAuthenticator(settings);
const newRepository: NewEcrRepository = {
  scanOnPush: false,
  tagMutability: "MUTABLE",
  tagExclusions: [],
  tags: {},
};
const open: EcrRepository = { name: "open", imageTagMutability: "MUTABLE" };
const callsOf = (action: string) => aws.calls.filter((call) => call.action === action).length;

async function failureOf(work: Promise<unknown>) {
  const error = await work.then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  if (!(error instanceof StepFailure)) throw new Error("it did not fail as it should", { cause: error });
  return error.failure;
}

describe("signing in", () => {
  test("uses the registry of the response, with the job's account", async () => {
    aws.addRepository("1234567890", "images");
    const access = await authenticator().authenticate({
      ...request(),
      job: { awsAccount: "1234567890", region, ecrRepo: "images", tenant },
    });
    expect(access.host).toBe("1234567890.dkr.ecr.us-east-1.amazonaws.com");
    expect(access.origin).toBe(`https://${access.host}`);
    expect(access.credentials?.username).toBe("AWS");
    await awsWith({ proxyEndpoint: "http://127.0.0.1:4510" });
    const emulated = await authenticator().authenticate(request());
    expect(emulated).toMatchObject({ host: "127.0.0.1:4510", origin: "http://127.0.0.1:4510" });
  });

  test("one token is used for many runs, also concurrently", async () => {
    const ecr = authenticator();
    const atOnce = await Promise.all([1, 2, 3].map(() => ecr.authenticate(request())));
    const later = await ecr.authenticate(request());
    expect(new Set([...atOnce, later].map(({ credentials }) => credentials?.password)).size).toBe(1);
    expect(callsOf("GetAuthorizationToken")).toBe(1);
  });

  test("an expired token is used, but not cached", async () => {
    await awsWith({ tokenLifetimeMs: -1000 });
    const ecr = authenticator();
    await ecr.authenticate(request());
    await ecr.authenticate(request());
    aws.configure({ tokenLifetimeMs: 3_600_000 });
    await ecr.authenticate(request());
    await ecr.authenticate(request());
    expect(callsOf("GetAuthorizationToken")).toBe(3);
  });

  test("throttled requests are retried", async () => {
    aws.configure({ throttleNext: 2 });
    expect((await authenticator().authenticate(request())).tagMutability).toBe("mutable");
  });

  test("access denied is not retryable, a server error is", async () => {
    aws.configure({ denied: ["GetAuthorizationToken"] });
    const denied = await failureOf(authenticator().authenticate(request()));
    expect(denied).toMatchObject({ code: "ECR_AUTH", step: "authenticate", retryable: false });
    expect(denied.message).toContain("AccessDenied");
    aws.configure({ denied: [], failNext: 1000 });
    expect(await failureOf(authenticator().authenticate(request()))).toMatchObject({
      code: "ECR_AUTH",
      retryable: true,
    });
  });

  test("a wrong secret key, and an unreachable endpoint", async () => {
    process.env.AWS_SECRET_ACCESS_KEY = "wrong";
    expect(await failureOf(authenticator().authenticate(request()))).toMatchObject({
      code: "ECR_AUTH",
      retryable: false,
    });
    await aws.stop();
    expect(await failureOf(authenticator().authenticate(request()))).toMatchObject({
      code: "ECR_AUTH",
      retryable: true,
    });
  });

  test.each([-3_600_000, 3_600_000])(
    "a clock that differs by %d ms is corrected by AWS's answers",
    async (clockOffsetMs) => {
      aws.configure({ clockOffsetMs });
      expect((await authenticator().authenticate(request())).tagMutability).toBe("mutable");
      expect(aws.calls.filter(({ error }) => error !== undefined)).not.toEqual([]);
    },
  );

  inFullCheck().test("endless throttling is a retryable failure", async () => {
    aws.configure({ throttleNext: 1_000_000 });
    expect(await failureOf(authenticator().authenticate(request()))).toMatchObject({
      code: "ECR_AUTH",
      retryable: true,
    });
    expect(callsOf("GetAuthorizationToken")).toBeGreaterThan(1);
  });

  test("a request to an endpoint that does not answer times out", async () => {
    const held = aws.hold("GetAuthorizationToken");
    const failure = await failureOf(authenticator({ requestTimeoutMs: 100 }).authenticate(request()));
    expect(failure).toMatchObject({ code: "ECR_AUTH", retryable: true });
    held.release();
  });

  test("the policy of another account's repository grants access to the worker's own account", async () => {
    const other = "210987654321";
    aws.addRepository(other, { ...open, name: "shared", allowedAccounts: [account] });
    aws.addRepository(other, { ...open, name: "closed", allowedAccounts: [] });
    const lines: string[] = [];
    const signIn = (ecrRepo: string) =>
      authenticator().authenticate({
        ...request(),
        job: { awsAccount: other, region, ecrRepo, tenant },
        log: (line) => lines.push(line),
      });
    expect((await signIn("shared")).tagMutability).toBe("mutable");
    expect(lines).toEqual([]);
    // The registry decides about the push: a policy may allow a push without DescribeRepositories.
    expect((await signIn("closed")).tagMutability).toBe("unknown");
    expect(lines.join()).toContain("AccessDeniedException");
    expect(aws.calls.filter(({ input }) => input.registryId === other)).toHaveLength(2);
    expect(callsOf("AssumeRole")).toBe(0);
  });
});

describe("a role", () => {
  const arnTemplate = "arn:aws:iam::{account}:role/builder";
  const arn = `arn:aws:iam::${account}:role/builder`;

  test("is assumed in the job's account", async () => {
    await authenticator({ role: { arnTemplate } }).authenticate(request());
    const assumed = aws.calls.find(({ action }) => action === "AssumeRole");
    expect(assumed?.input.RoleArn).toBe(arn);
    expect(assumed?.input.ExternalId).toBeUndefined();
    const repositories = aws.calls.find(({ action }) => action === "DescribeRepositories");
    expect(repositories?.accessKeyId).toStartWith("ASIA");
  });

  test("is assumed with its external id, which no error contains", async () => {
    const externalId = "the:external/id-1";
    aws.configure({ externalIds: { [arn]: externalId } });
    await authenticator({ role: { arnTemplate, externalId } }).authenticate(request());
    for (const wrongId of ["another:id-2", undefined]) {
      const ecr = authenticator({ role: { arnTemplate, externalId: wrongId } });
      const denied = await failureOf(ecr.authenticate(request()));
      expect(denied).toMatchObject({ code: "ECR_AUTH", step: "authenticate", retryable: false });
      expect(denied.message).toContain(`the role ${arn} cannot be assumed`);
      expect(denied.message).toContain("AccessDenied");
      expect(denied.message).not.toContain(`${wrongId}`);
      expect(denied.message.includes("BLACKTREE_ECR_EXTERNAL_ID")).toBe(wrongId !== undefined);
    }
  });

  test("is assumed for the repositories of each job alone, under the job's id", async () => {
    const role = {
      arnTemplate,
      externalId: "blacktree:{tenant}",
      cacheRepository: "cache/{tenant}",
      baseRepositories: [
        { name: "base/*" },
        { name: "shared-{tenant}" },
        { name: "here", registry: { host: "h", account, region } },
        { name: "elsewhere", registry: { host: "h", account: "210987654321", region } },
      ],
    };
    const ecr = authenticator({ role });
    const signIn = (jobId: string) =>
      ecr.authenticate({ ...request(), job: { ...request().job, jobId, tenant: "acme" } });
    const [one, two] = [await signIn("job:1"), await signIn("x".repeat(200))];
    expect(one.credentials?.password).not.toBe(two.credentials?.password);
    const sessions = aws.calls.filter(({ action }) => action === "AssumeRole").map(({ input }) => input);
    expect(sessions.map(({ RoleSessionName }) => RoleSessionName)).toEqual([
      "blacktree-job-1",
      `blacktree-${"x".repeat(54)}`,
    ]);
    expect(sessions.map(({ ExternalId }) => ExternalId)).toEqual(["blacktree:acme", "blacktree:acme"]);
    const arnOf = (name: string) => `arn:aws:ecr:${region}:${account}:repository/${name}`;
    const [token, own, base] = JSON.parse(String(sessions[0]?.Policy)).Statement;
    const registryActions = ["ecr:GetAuthorizationToken", "ecr:DescribeRepositoryCreationTemplates"];
    expect(token).toEqual({ Effect: "Allow", Action: registryActions, Resource: ["*"] });
    expect(own).toMatchObject({ Effect: "Allow", Resource: [arnOf("images"), arnOf("cache/acme")] });
    expect(base).toMatchObject({ Resource: [arnOf("base/*"), arnOf("shared-acme"), arnOf("here")] });
    expect(base.Action).not.toContain("ecr:PutImage");
  });

  const registry = {
    host: "210987654321.dkr.ecr.us-east-1.amazonaws.com",
    account: "210987654321",
    region,
  };
  const repositories = [{ name: "base/*", registry }, { name: "{tenant}", registry }, { name: "own" }];
  const baseRequest = (text: string) => ({
    job: { ...request().job, jobId: "job" },
    mayUse: (part: string) => text.includes(part),
    signal: new AbortController().signal,
  });

  test("signs in to another account's registry for pulls alone, and only if the Dockerfile may name it", async () => {
    const bases = new EcrBaseRegistries({ role: { arnTemplate }, repositories });
    expect(await bases.baseLogins(baseRequest("FROM alpine"))).toEqual([]);
    expect(aws.calls).toEqual([]);
    const [base, ...others] = await bases.baseLogins(baseRequest("ARG ACCOUNT=210987654321"));
    expect(others).toEqual([]);
    expect(base).toMatchObject({ host: registry.host, login: { username: "AWS" } });
    const [session] = aws.calls.filter(({ action }) => action === "AssumeRole");
    expect(session?.input.RoleArn).toBe(`arn:aws:iam::${account}:role/builder`);
    const [token, pull, ...more] = JSON.parse(String(session?.input.Policy)).Statement;
    expect(more).toEqual([]);
    expect(token).toEqual({ Effect: "Allow", Action: ["ecr:GetAuthorizationToken"], Resource: ["*"] });
    const arnOf = (name: string) => `arn:aws:ecr:us-east-1:210987654321:repository/${name}`;
    expect(pull).toEqual({
      Effect: "Allow",
      Action: ["ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer", "ecr:BatchCheckLayerAvailability"],
      Resource: [arnOf("base/*"), arnOf("acme")],
    });
  });

  test("a refused sign-in to another account's registry is a problem of that login alone", async () => {
    aws.configure({ deniedRoles: [arn] });
    const bases = new EcrBaseRegistries({ role: { arnTemplate }, repositories });
    const [base] = await bases.baseLogins(baseRequest(`FROM ${registry.host}/base/os`));
    expect(base?.login).toMatchObject({ problem: expect.stringContaining("role/builder") });
  });

  test("is named when it is denied", async () => {
    aws.configure({ deniedRoles: [arn] });
    const denied = await failureOf(authenticator({ role: { arnTemplate } }).authenticate(request()));
    expect(denied).toMatchObject({ code: "ECR_AUTH", retryable: false });
    expect(denied.message).toContain("role/builder");
  });

  test("is in the region's partition", async () => {
    await awsWith({ region: "cn-north-1" });
    const role = { arnTemplate: "arn:{partition}:iam::{account}:role/builder" };
    const job = { awsAccount: account, region: "cn-north-1", ecrRepo: "images", tenant };
    await authenticator({ role }).authenticate({ ...request(), job });
    const assumed = aws.calls.find(({ action }) => action === "AssumeRole");
    expect(assumed?.input.RoleArn).toBe(`arn:aws-cn:iam::${account}:role/builder`);
  });
});

describe("the registry's host", () => {
  const own = "999988887777";

  test.each([
    ["cn-north-1", "dkr.ecr.cn-north-1.amazonaws.com.cn"],
    ["us-gov-west-1", "dkr.ecr.us-gov-west-1.amazonaws.com"],
    ["us-gov-west-1", "dkr.ecr-fips.us-gov-west-1.amazonaws.com"],
    ["eu-west-1", "dkr-ecr.eu-west-1.on.aws"],
  ])("in %s is %s of the job's account, as ECR's own answer has it", async (of, host) => {
    await awsWith({ region: of, account: own, proxyEndpoint: `https://${own}.${host}` });
    aws.addRepository(account, "images");
    const job = { awsAccount: account, region: of, ecrRepo: "images", tenant };
    const access = await authenticator().authenticate({ ...request(), job });
    expect(access).toMatchObject({
      host: `${account}.${host}`,
      origin: `https://${account}.${host}`,
      tagMutability: "mutable",
    });
  });
});

describe("the repository", () => {
  test("a missing repository is created only if the settings say so", async () => {
    expect(await failureOf(authenticator().authenticate(request("missing")))).toMatchObject({
      code: "ECR_REPO_NOT_FOUND",
      retryable: false,
    });
    const access = await authenticator({ newRepository }).authenticate(request("missing"));
    expect(access.tagMutability).toBe("mutable");
    expect(aws.repositories(account).find(({ name }) => name === "missing")).toMatchObject({
      imageTagMutability: "MUTABLE",
      scanOnPush: false,
    });
    expect(callsOf("PutLifecyclePolicy")).toBe(0);
  });

  describe("that ECR would create with the push", () => {
    const onPush = (prefix: string) => ({ prefix, appliedFor: ["REPLICATION", "CREATE_ON_PUSH"] });
    const notOnPush = (prefix: string) => ({ prefix, appliedFor: ["PULL_THROUGH_CACHE"] });

    test.each([
      ["by a template for all repositories", [notOnPush("other"), onPush("ROOT")]],
      ["by a template for its prefix", [notOnPush("ROOT"), onPush("team"), notOnPush("team/web")]],
    ])("%s is left to the push", async (_, creationTemplates) => {
      aws.configure({ creationTemplates });
      const lines: string[] = [];
      const asked = { ...request("team/app"), log: (line: string) => lines.push(line) };
      expect((await authenticator().authenticate(asked)).tagMutability).toBe("unknown");
      expect(lines).toEqual(["the ECR repository team/app does not exist yet; ECR creates it with the push"]);
    });

    test.each([
      ["its template creates none", [onPush("ROOT"), notOnPush("team")], []],
      ["the template is for others", [onPush("tea"), onPush("team/app/web")], []],
      ["the worker may not read templates", [onPush("ROOT")], ["DescribeRepositoryCreationTemplates"]],
    ])("is missing if %s", async (_, creationTemplates, denied) => {
      aws.configure({ creationTemplates, denied });
      const failure = await failureOf(authenticator().authenticate(request("team/app")));
      expect(failure).toMatchObject({ code: "ECR_REPO_NOT_FOUND", retryable: false });
    });

    test("is missing in another account, whose templates are not known", async () => {
      aws.configure({ creationTemplates: [onPush("ROOT")] });
      const other = { ...request("app"), job: { ...request("app").job, awsAccount: "210987654321" } };
      expect(await failureOf(authenticator().authenticate(other))).toMatchObject({
        code: "ECR_REPO_NOT_FOUND",
      });
    });
  });

  test("is created with the configured settings", async () => {
    const lifecyclePolicy = '{"rules":[]}';
    const wanted: NewEcrRepository = {
      scanOnPush: true,
      tagMutability: "IMMUTABLE",
      tagExclusions: ["dev-*"],
      lifecyclePolicy,
      tags: { team: "payments", "cost center": "7" },
    };
    const signIn = (deploymentVersion: string) => {
      const job = { ...request("missing").job, deploymentVersion };
      return authenticator({ newRepository: wanted }).authenticate({ ...request(), job });
    };
    expect((await signIn("dev-1")).tagMutability).toBe("mutable");
    expect((await signIn("v1")).tagMutability).toBe("immutable");
    expect(aws.repositories(account).find(({ name }) => name === "missing")).toMatchObject({
      imageTagMutability: "IMMUTABLE_WITH_EXCLUSION",
      imageTagMutabilityExclusionFilters: [{ filterType: "WILDCARD", filter: "dev-*" }],
      scanOnPush: true,
      lifecyclePolicyText: lifecyclePolicy,
      tags: [
        { Key: "team", Value: "payments" },
        { Key: "cost center", Value: "7" },
      ],
    });
  });

  test("without its lifecycle policy is still used, with a warning", async () => {
    aws.configure({ denied: ["PutLifecyclePolicy"] });
    const lines: string[] = [];
    const ecr = authenticator({ newRepository: { ...newRepository, lifecyclePolicy: '{"rules":[]}' } });
    await ecr.authenticate({ ...request("missing"), log: (line) => lines.push(line) });
    expect(lines.at(-1)).toMatch(/^WARNING: .*missing.*lifecycle policy.*not authorized/);
  });

  test("is created once by concurrent runs", async () => {
    const held = aws.hold("CreateRepository");
    const runs = [1, 2, 3].map(() => authenticator({ newRepository }).authenticate(request("missing")));
    await waitFor(() => callsOf("CreateRepository") === 3, { timeoutMs: 30_000, what: "three who make it" });
    held.release();
    for (const { tagMutability } of await Promise.all(runs)) expect(tagMutability).toBe("mutable");
    expect(aws.calls.filter(({ error }) => error === "RepositoryAlreadyExistsException")).toHaveLength(2);
  });

  test("keeps the settings of another run that has just created it", async () => {
    const held = aws.hold("CreateRepository");
    const slower = authenticator({ newRepository }).authenticate(request("missing"));
    await held.arrived;
    aws.addRepository(account, { name: "missing", imageTagMutability: "IMMUTABLE" });
    held.release();
    expect((await slower).tagMutability).toBe("immutable");
  });

  test("without the permission to create it, the error says so", async () => {
    aws.configure({ denied: ["CreateRepository"] });
    const denied = await failureOf(authenticator({ newRepository }).authenticate(request("missing")));
    expect(denied).toMatchObject({ code: "ECR_AUTH", retryable: false });
    expect(denied.message).toContain("missing cannot be created");
  });

  test("without the permission to check it, the run continues, and the log says so", async () => {
    aws.configure({ denied: ["DescribeRepositories"] });
    const lines: string[] = [];
    const access = await authenticator().authenticate({ ...request(), log: (line) => lines.push(line) });
    expect(access.tagMutability).toBe("unknown");
    expect(lines).toHaveLength(1);
  });
});

const reason = await missingDockerEngine("26.1");

describe.skipIf(reason !== undefined)(`a run that pushes to ECR${reason ? ` (${reason})` : ""}`, () => {
  let bench: PipelineBench;

  beforeAll(async () => {
    bench = await startPipelineBench({ engine: "26.1" });
  });
  afterAll(() => bench?.stop());
  beforeEach(async () => {
    await awsWith({ proxyEndpoint: bench.proxy.url });
    bench.proxy.faults.login = (username, password) => aws.login(username, password);
  });

  test("signs in, builds, pushes and tags", async () => {
    const { name, commit } = await bench.createSample();
    const run = bench.start(
      { repoUrl: name, ecrRepo: "images", tenant },
      { parts: { authenticator: authenticator() } },
    );
    expect(await run.end).toMatchObject({
      status: "SUCCESS",
      commit,
      imageUrl: `${bench.proxy.host}/images:${run.job.deploymentVersion}`,
    });
    expect(await bench.registry.listTags("images")).toContain(run.job.deploymentVersion);
    const [token] = [...aws.calls].filter(({ action }) => action === "GetAuthorizationToken");
    expect(token?.status).toBe(200);
  });

  test("a wrong password fails before the build", async () => {
    aws.configure({ wrongPassword: true });
    const { name } = await bench.createSample();
    const run = bench.start(
      { repoUrl: name, ecrRepo: "images", tenant },
      { parts: { authenticator: authenticator() } },
    );
    expect(await run.end).toMatchObject({
      status: "FAILED",
      failure: { code: "ECR_AUTH", retryable: false },
    });
    expect(run.states).not.toContain("BUILDING");
  });

  test("an existing version in an immutable repository fails before the build", async () => {
    aws.addRepository(account, { name: "fixed", imageTagMutability: "IMMUTABLE" });
    const { name } = await bench.createSample();
    const parts = { authenticator: authenticator() };
    const first = bench.start({ repoUrl: name, ecrRepo: "fixed" }, { parts });
    const { imageDigest } = await first.end;
    const same = bench.start({ ...first.job, attempt: 2 }, { parts });
    expect(await same.end).toMatchObject({ status: "SUCCESS", imageDigest });
    await bench.git.commit(name, { greeting: "another one\n" });
    const other = bench.start({ ...first.job, attempt: 3 }, { parts });
    expect(await other.end).toMatchObject({
      status: "FAILED",
      failure: { code: "TAG_IMMUTABLE", retryable: false },
    });
    expect(other.states).not.toContain("BUILDING");
  });

  test("moves a tag that the repository's filters exclude, and no other", async () => {
    aws.addRepository(account, {
      name: "releases",
      imageTagMutability: "IMMUTABLE_WITH_EXCLUSION",
      imageTagMutabilityExclusionFilters: [{ filterType: "WILDCARD", filter: "dev-*" }],
    });
    const { name } = await bench.createSample();
    const parts = { authenticator: authenticator() };
    const versions = ["dev-1", "v1"].map(bench.unique);
    const jobs = versions.map((deploymentVersion) => ({
      repoUrl: name,
      ecrRepo: "releases",
      deploymentVersion,
    }));
    for (const job of jobs)
      expect(await bench.start(job, { parts }).end).toMatchObject({ status: "SUCCESS" });
    await bench.git.commit(name, { greeting: "another one\n" });
    const [moved, fixed] = jobs.map((job) => bench.start(job, { parts }));
    expect(await moved?.end).toMatchObject({ status: "SUCCESS" });
    expect(moved?.states).toContain("BUILDING");
    expect(await fixed?.end).toMatchObject({
      status: "FAILED",
      failure: { code: "TAG_IMMUTABLE", retryable: false },
    });
    expect(fixed?.states).not.toContain("BUILDING");
  });

  test.each([
    ["without a repository", "none-such", false, "ECR_REPO_NOT_FOUND"],
    ["with credentials that the registry refuses", "images", true, "ECR_AUTH"],
  ] as const)("%s ends while its clone still waits", async (_, ecrRepo, wrongPassword, code) => {
    aws.configure({ wrongPassword });
    const { name } = await bench.createSample();
    const held = bench.git.hold();
    try {
      const run = bench.start(
        { repoUrl: name, ecrRepo, tenant },
        { parts: { authenticator: authenticator() } },
      );
      expect(await run.end).toMatchObject({ status: "FAILED", failure: { code, retryable: false } });
      expect(run.states).not.toContain("BUILDING");
      expect(await bench.leftFolders()).toEqual([]);
    } finally {
      held.release();
    }
  });

  test("outlives its token: the push continues with a new one, in the same attempt", async () => {
    aws.configure({ tokenLifetimeMs: 4000 });
    const { name } = await bench.createSample({ variant: "slow", sleepSeconds: 6 });
    const handedOut = new Set<string>();
    bench.proxy.faults.login = (username, password) => {
      handedOut.add(password);
      // The next token is valid for as long as a busy machine needs for the push.
      aws.configure({ tokenLifetimeMs: 3_600_000 });
      return aws.login(username, password);
    };
    const run = bench.start(
      { repoUrl: name, ecrRepo: "images", tenant },
      { parts: { authenticator: authenticator() } },
    );
    expect(await run.end).toMatchObject({ status: "SUCCESS" });
    expect(await bench.registry.listTags("images")).toContain(run.job.deploymentVersion);
    expect(callsOf("GetAuthorizationToken")).toBeGreaterThan(1);
    expect(handedOut.size).toBeGreaterThan(1);
    for (const password of handedOut) expect(run.lines.join("\n")).not.toContain(password);
    expect(await bench.leftFolders()).toEqual([]);
  });

  test("a failed clone and a successful login end in the clone's failure", async () => {
    const run = bench.start(
      { repoUrl: "acme/none", ecrRepo: "images", tenant },
      { parts: { authenticator: authenticator() } },
    );
    expect(await run.end).toMatchObject({ status: "FAILED", failure: { code: "REPO_NOT_FOUND" } });
    expect(await bench.leftFolders()).toEqual([]);
  });
});
