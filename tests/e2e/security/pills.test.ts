/** Jobs that declare more than any program needs: each fails once, and its worker continues. */
import { expect, test } from "bun:test";
import type { JobResult } from "../../../src/shared/job.ts";
import { untilFree } from "../../support/blacktree/deployment.ts";
import {
  expectNothingLeft,
  faultSite,
  type SampleJob,
  sampleJob,
} from "../../support/blacktree/fault-site.ts";

const site = faultSite();

const numbers = (count: number) => Array.from({ length: count }, (_, index) => index);

const SUBMODULES = numbers(3000).map((number) => `m${number % 100}/${number}`);

interface Pill {
  readonly files?: Readonly<Record<string, string>>;
  readonly gitlinks?: Readonly<Record<string, string>>;
  readonly fields?: object;
  readonly code: string;
  readonly attempt: number;
  readonly message: string;
}

const PILLS: Readonly<Record<string, Pill>> = {
  submodules: {
    files: {
      ".gitmodules": SUBMODULES.map((path) => `[submodule "${path}"]\npath=${path}\n`).join(""),
    },
    gitlinks: Object.fromEntries(SUBMODULES.map((path) => [path, "1".repeat(40)])),
    code: "CLONE_FAILED",
    attempt: 1,
    message: "BLACKTREE_",
  },
  attributes: {
    files: { ".gitattributes": "*.x filter=y\n".repeat(200_000) },
    code: "CLONE_FAILED",
    attempt: 1,
    message: "BLACKTREE_GIT_SETTINGS_FILE_LIMIT",
  },
  secrets: {
    fields: { secrets: Object.fromEntries(numbers(20_000).map((number) => [`secret-${number}`, "value"])) },
    code: "INVALID_JOB",
    attempt: 0,
    message: "BLACKTREE_SECRET_LIMIT",
  },
};

test("poison pills stop no worker: each job fails at its first attempt, and the next one is built", async () => {
  const { backends } = site;
  const jobs = new Map<string, Pill>();
  const submitted: (SampleJob & object)[] = [];
  for (const pill of Object.values(PILLS)) {
    const job = await sampleJob(backends, { variant: "working" });
    await backends.git.commit(job.repo_url, { ...pill.files }, { gitlinks: pill.gitlinks });
    jobs.set(job.job_id, pill);
    submitted.push({ ...job, ...pill.fields });
  }
  const deployment = await site.deploy();
  const orchestrator = await deployment.startOrchestrator();
  const worker = await deployment.startWorker(orchestrator);
  for (const job of submitted) await deployment.publish(job);
  for (const _ of submitted) {
    const result: JobResult = await deployment.nextResult();
    const { code, attempt, message } = jobs.get(result.job_id) ?? {};
    expect(result).toMatchObject({ status: "FAILED", attempt, error: { code, retryable: false } });
    expect(result.error?.message).toContain(message ?? "");
  }
  await deployment.publish(await sampleJob(backends, { variant: "working" }));
  expect(await deployment.nextResult()).toMatchObject({
    status: "SUCCESS",
    attempt: 1,
    worker_id: worker.id,
  });
  await untilFree(orchestrator, worker);
  // The dead letter of the invalid job is expected.
  await deployment.amqp.purgeQueue("jobs.build.dead");
  await expectNothingLeft(deployment, orchestrator);
});
