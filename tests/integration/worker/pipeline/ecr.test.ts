import {
  afterAll,
  afterEach,
  beforeAll,
  beforeEach,
  describe,
  expect,
  setDefaultTimeout,
  test,
} from "bun:test";
import { EcrAuthenticator, type EcrSettings } from "../../../../src/worker/pipeline/ecr-authenticator.ts";
import { StepFailure } from "../../../../src/worker/pipeline/step-failure.ts";
import { type Aws, startAws } from "../../../support/aws.ts";
import { missingDockerEngine } from "../../../support/docker-engines.ts";
import { type PipelineBench, startPipelineBench } from "./pipeline-bench.ts";

setDefaultTimeout(60_000);

const account = "123456789012";
const region = "us-east-1";
const request = (ecrRepo = "images") => ({
  job: { awsAccount: account, region, ecrRepo },
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

const authenticator = (settings: Partial<EcrSettings> = {}) =>
  new EcrAuthenticator({ createRepository: false, ...settings });
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
  test("the registry is that of the answer, with the job's account", async () => {
    aws.addRepository("1234567890", "images");
    const access = await authenticator().authenticate({
      ...request(),
      job: { awsAccount: "1234567890", region, ecrRepo: "images" },
    });
    expect(access.host).toBe("1234567890.dkr.ecr.us-east-1.amazonaws.com");
    expect(access.origin).toBe(`https://${access.host}`);
    expect(access.credentials?.username).toBe("AWS");
    await awsWith({ proxyEndpoint: "http://127.0.0.1:4510" });
    const emulated = await authenticator().authenticate(request());
    expect(emulated).toMatchObject({ host: "127.0.0.1:4510", origin: "http://127.0.0.1:4510" });
  });

  test("one token serves many runs, also at once", async () => {
    const ecr = authenticator();
    const atOnce = await Promise.all([1, 2, 3].map(() => ecr.authenticate(request())));
    const later = await ecr.authenticate(request());
    expect(new Set([...atOnce, later].map(({ credentials }) => credentials?.password)).size).toBe(1);
    expect(callsOf("GetAuthorizationToken")).toBe(1);
  });

  test("a token that has ended already is used, and not kept", async () => {
    await awsWith({ tokenLifetimeMs: -1000 });
    const ecr = authenticator();
    await ecr.authenticate(request());
    await ecr.authenticate(request());
    aws.configure({ tokenLifetimeMs: 3_600_000 });
    await ecr.authenticate(request());
    await ecr.authenticate(request());
    expect(callsOf("GetAuthorizationToken")).toBe(3);
  });

  test("throttling is waited out", async () => {
    aws.configure({ throttleNext: 2 });
    expect((await authenticator().authenticate(request())).tagMutability).toBe("mutable");
  });

  test("access denied is final, a fault of the server may pass", async () => {
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

  test("a wrong secret key, and an endpoint that is away", async () => {
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

  test("a role is assumed in the job's account", async () => {
    const roleArnTemplate = "arn:aws:iam::{account}:role/builder";
    await authenticator({ roleArnTemplate }).authenticate(request());
    const assumed = aws.calls.find(({ action }) => action === "AssumeRole");
    expect(assumed?.input.RoleArn).toBe(`arn:aws:iam::${account}:role/builder`);
    aws.configure({ deniedRoles: [`arn:aws:iam::${account}:role/builder`] });
    const denied = await failureOf(authenticator({ roleArnTemplate }).authenticate(request()));
    expect(denied).toMatchObject({ code: "ECR_AUTH", retryable: false });
    expect(denied.message).toContain("role/builder");
  });
});

describe("the repository", () => {
  test("one that is not there is made only when that is wanted", async () => {
    expect(await failureOf(authenticator().authenticate(request("missing")))).toMatchObject({
      code: "ECR_REPO_NOT_FOUND",
      retryable: false,
    });
    await authenticator({ createRepository: true }).authenticate(request("missing"));
    expect(aws.repositories(account).map(({ name }) => name)).toContain("missing");
  });

  test("a worker that may not look goes on, and says so", async () => {
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
  }, 120_000);
  afterAll(() => bench?.stop(), 60_000);
  beforeEach(async () => {
    await awsWith({ proxyEndpoint: bench.proxy.url });
    bench.proxy.faults.login = (username, password) => aws.login(username, password);
  });

  test("signs in, builds, pushes and tags", async () => {
    const { name, commit } = await bench.createSample();
    const run = bench.start(
      { repoUrl: name, ecrRepo: "images" },
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

  test("with a password that the registry does not know ends before it builds", async () => {
    aws.configure({ wrongPassword: true });
    const { name } = await bench.createSample();
    const run = bench.start(
      { repoUrl: name, ecrRepo: "images" },
      { parts: { authenticator: authenticator() } },
    );
    expect(await run.end).toMatchObject({
      status: "FAILED",
      failure: { code: "ECR_AUTH", retryable: false },
    });
    expect(run.states).not.toContain("BUILDING");
  });

  test("into an immutable repository that has the version ends before it builds", async () => {
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

  test("a clone that cannot be done and a login that can end in the clone's failure", async () => {
    const run = bench.start(
      { repoUrl: "acme/none", ecrRepo: "images" },
      { parts: { authenticator: authenticator() } },
    );
    expect(await run.end).toMatchObject({ status: "FAILED", failure: { code: "REPO_NOT_FOUND" } });
    expect(await bench.leftFolders()).toEqual([]);
  });
});
