/** Jobs that cannot succeed: each ends in one result with the reason, and its worker continues with other jobs. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { randomUUID } from "node:crypto";
import type { JobResult } from "../../src/shared/job.ts";
import { apiRequest } from "../support/blacktree/admin-api.ts";
import {
  type Deployment,
  type OrchestratorProcess,
  startDeployment,
  untilFree,
  type WorkerProcess,
} from "../support/blacktree/deployment.ts";
import { FAILURE_SCHEMA } from "../support/blacktree/result-schema.ts";
import { commandLines } from "../support/blacktree/running-programs.ts";
import { timedOutInStep } from "../support/machine/growing-timeout.ts";
import { sampleRepository } from "../support/machine/sample-repository.ts";
import { waitFor } from "../support/machine/wait-for.ts";
import { type Backends, startBackends } from "../support/servers/backends.ts";

const ACCOUNT = "210987654321";
const PRIVATE_TOKEN = `right-${randomUUID()}`;
/** Longer than any test waits, and different from all other sleeps on this machine. */
const SLEEP_SECONDS = 40_000 + (process.pid % 10_000);

let backends: Backends;
let deployment: Deployment;
let orchestrator: OrchestratorProcess;
let worker: WorkerProcess;
let sent = 0;

beforeAll(async () => {
  backends = await startBackends({ engine: "26.1" });
  const { aws, ecr, git } = backends;
  aws.addRepository(ACCOUNT, "app-images");
  aws.addRepository(ACCOUNT, { name: "fixed-images", imageTagMutability: "IMMUTABLE" });
  ecr.faults.immutableRepositories = new Set(["fixed-images"]);
  await git.createRepository("owner/working", await sampleRepository());
  await git.createRepository("owner/failing", await sampleRepository({ variant: "failing" }));
  await git.createRepository("owner/empty", await sampleRepository({ variant: "none" }));
  const slow = await sampleRepository({ variant: "slow", sleepSeconds: SLEEP_SECONDS });
  await git.createRepository("owner/slow", slow);
  await git.createRepository("owner/private", await sampleRepository(), {
    private: { token: PRIVATE_TOKEN },
  });
  deployment = await startDeployment(backends);
  orchestrator = await deployment.startOrchestrator({ BLACKTREE_UNSUPPORTED_AFTER: "1s" });
  worker = await deployment.startWorker(orchestrator);
});

afterAll(async () => {
  await deployment?.stop();
  await backends?.stop();
});

const jobOf = (changes: object) => ({
  repo_url: "owner/working",
  branch: "main",
  deployment_version: `v${sent++}`,
  aws_account: ACCOUNT,
  ecr_repo: "app-images",
  ...changes,
});

async function resultOf(changes: object): Promise<JobResult> {
  await deployment.publish(jobOf(changes));
  return deployment.nextResult();
}

/** The job's result, checked to be a failure with all fields, and without a tagged image. */
async function failureOf(changes: object): Promise<JobResult> {
  const job = jobOf(changes);
  await deployment.publish(job);
  const result = await deployment.nextResult();
  expect(FAILURE_SCHEMA.parse(result)).toEqual(result as never);
  expect(result.deployment_version).toBe(job.deployment_version);
  expect(result.logs.at(-1)).toBe(`ERROR: ${result.error?.message}`);
  return result;
}

interface Failing {
  readonly what: string;
  readonly code: string;
  readonly step: string;
  readonly job: object;
  readonly message: RegExp;
}

const FAILING_JOBS: readonly Failing[] = [
  {
    what: "no such repository",
    code: "REPO_NOT_FOUND",
    step: "clone",
    job: { repo_url: "owner/nowhere" },
    message: /repository .*\/owner\/nowhere does not exist/,
  },
  {
    what: "no such branch",
    code: "REF_NOT_FOUND",
    step: "clone",
    job: { branch: "no-such-branch" },
    message: /no branch or tag 'no-such-branch'/,
  },
  {
    what: "a commit outside the branch's history",
    code: "REF_NOT_FOUND",
    step: "clone",
    job: { commit: "1234567890123456789012345678901234567890" },
    message: /1234567890123456789012345678901234567890 is not in the history of 'main'/,
  },
  {
    what: "a wrong token",
    code: "GIT_AUTH",
    step: "clone",
    job: { repo_url: "owner/private", git_token: "a-wrong-token" },
    message: /does not accept the git_token/,
  },
  {
    what: "no token",
    code: "GIT_AUTH",
    step: "clone",
    job: { repo_url: "owner/private" },
    message: /the job has no git_token/,
  },
  {
    what: "no Dockerfile",
    code: "DOCKERFILE_NOT_FOUND",
    step: "build",
    job: { repo_url: "owner/empty" },
    message: /no file Dockerfile/,
  },
  {
    what: "no such Dockerfile",
    code: "DOCKERFILE_NOT_FOUND",
    step: "build",
    job: { dockerfile: "deploy/Dockerfile" },
    message: /no file deploy\/Dockerfile/,
  },
  {
    what: "a RUN step that fails",
    code: "BUILD_FAILED",
    step: "build",
    job: { repo_url: "owner/failing" },
    message: /exit code: 3/,
  },
  {
    what: "no such stage",
    code: "BUILD_FAILED",
    step: "build",
    job: { target: "no-such-stage" },
    message: /no-such-stage/,
  },
  {
    what: "no such context",
    code: "INVALID_JOB",
    step: "build",
    job: { context: "no-such-folder" },
    message: /no folder no-such-folder/,
  },
  {
    what: "no such ECR repository",
    code: "ECR_REPO_NOT_FOUND",
    step: "authenticate",
    job: { ecr_repo: "no-such-images" },
    message: /no-such-images/,
  },
];

describe("each fault has its code", () => {
  test.each(FAILING_JOBS)("$code: $what", async ({ code, step, job, message }) => {
    const result = await failureOf(job);
    expect(result).toMatchObject({
      error: { code, step, retryable: false },
      attempt: 1,
      worker_id: worker.id,
    });
    expect(result.error?.message).toMatch(message);
    await untilFree(orchestrator, worker);
  });

  test("a failing RUN step's own output is in the log", async () => {
    const { logs, log, commit } = await failureOf({ repo_url: "owner/failing" });
    expect(logs.join("\n")).toContain("this step fails");
    expect(log.lines).toBe(logs.length);
    expect(commit).toMatch(/^[0-9a-f]{40}$/);
  });

  test("ECR_AUTH: the registry does not accept the password that ECR returned", async () => {
    // A separate account, since a worker caches the tokens of accounts that it has used.
    const aws_account = "111111111111";
    backends.aws.addRepository(aws_account, "app-images");
    backends.aws.configure({ wrongPassword: true });
    try {
      const { error } = await failureOf({ aws_account });
      expect(error).toMatchObject({ code: "ECR_AUTH", step: "authenticate", retryable: false });
      expect(error?.message).toContain(backends.ecr.host);
    } finally {
      backends.aws.configure({ wrongPassword: false });
    }
    await untilFree(orchestrator, worker);
  });

  test("ECR_AUTH: AWS does not accept the worker's key", async () => {
    const foreign = await deployment.startWorker(orchestrator, {
      AWS_SECRET_ACCESS_KEY: "a-wrong-secret",
      BLACKTREE_WORKER_REGION: "nowhere-1",
    });
    const { error, worker_id } = await failureOf({ worker_region: "nowhere-1", region_policy: "require" });
    expect(error).toMatchObject({ code: "ECR_AUTH", step: "authenticate", retryable: false });
    expect(error?.message).toContain("InvalidSignatureException");
    expect(worker_id).toBe(foreign.id);
    await foreign.process.stop();
  });

  test("TAG_IMMUTABLE: the version is already tagged with another commit, which is detected before anything is built", async () => {
    const sample = await sampleRepository();
    await backends.git.createRepository("owner/released", sample);
    const job = { repo_url: "owner/released", ecr_repo: "fixed-images", deployment_version: "v1" };
    const first = await resultOf(job);
    expect(first).toMatchObject({ status: "SUCCESS" });
    expect(await resultOf(job)).toMatchObject({ status: "SUCCESS", image_digest: first.image_digest });

    await backends.git.commit("owner/released", { greeting: "another one\n" });
    const second = await failureOf(job);
    expect(second.error).toMatchObject({ code: "TAG_IMMUTABLE", step: "tag", retryable: false });
    expect(second.timings_ms.build).toBe(0);
    const tagged = await backends.registry.getManifest("fixed-images", "v1");
    expect(tagged?.digest).toBe(`${first.image_digest}`);
    await untilFree(orchestrator, worker);
  });

  test("TIMEOUT: the build is ended with all its processes", async () => {
    const isAsleep = async () =>
      (await commandLines()).some((line) => line.includes(`sleep ${SLEEP_SECONDS}`));
    let job_id = "";
    // Of this job, and with its output in the log.
    const isInStep = async () => {
      const log = await apiRequest(orchestrator.apiUrl, `/api/v1/jobs/${job_id}/logs`);
      return (await log.text()).includes("this step sleeps") && (await isAsleep());
    };
    const { error, logs } = await timedOutInStep(isInStep, async (timeout_seconds) => {
      job_id = `times-out-${timeout_seconds}`;
      await deployment.publish(jobOf({ job_id, repo_url: "owner/slow", timeout_seconds }));
      return deployment.nextResult((timeout_seconds + 60) * 1000);
    });
    expect(error).toMatchObject({ code: "TIMEOUT", step: "build", retryable: false });
    expect(logs.join("\n")).toContain("this step sleeps");
    await waitFor(async () => !(await isAsleep()), { timeoutMs: 30_000, what: "the RUN step to end" });
    await untilFree(orchestrator, worker);
  });

  test("INVALID_JOB: nothing of it is run", async () => {
    const job = { ...jobOf({ job_id: "invalid-job" }), branch: "--upload-pack=/bin/true", aws_account: 12 };
    await deployment.publish(job);
    const result = await deployment.nextResult();
    expect(result).toMatchObject({
      job_id: "invalid-job",
      status: "FAILED",
      attempt: 0,
      worker_id: null,
      error: { code: "INVALID_JOB", step: "intake", retryable: false },
      deployment_version: job.deployment_version,
      ecr_repo: "app-images",
    });
    expect(result.error?.message).toMatch(/branch: .*aws_account: /);
    expect(worker.process.lines.join("\n")).not.toContain("invalid-job");
  });

  test("a platform whose programs no worker runs is no failure while no step has to run on it", async () => {
    const result = await resultOf({ job_id: "foreign-job", platforms: ["plan9/mips"] });
    expect(result).toMatchObject({ job_id: "foreign-job", status: "SUCCESS", worker_id: worker.id });
  });
});

test("failures: failing and working jobs one after another do not disturb each other", async () => {
  const jobs = ["owner/failing", "owner/working", "owner/empty", "owner/working", "owner/nowhere"];
  for (const [index, repo_url] of jobs.entries())
    await deployment.publish(jobOf({ repo_url, job_id: `mixed-${index}` }));
  const results = new Map<string, JobResult>();
  for (const _ of jobs) {
    const result = await deployment.nextResult();
    results.set(result.job_id, result);
  }
  const ends = jobs.map((_, index) => results.get(`mixed-${index}`));
  expect(ends.map((end) => end?.error?.code ?? end?.status)).toEqual([
    "BUILD_FAILED",
    "SUCCESS",
    "DOCKERFILE_NOT_FOUND",
    "SUCCESS",
    "REPO_NOT_FOUND",
  ]);
  await untilFree(orchestrator, worker);
});
