/** `reuse: same-commit`, from the message to the registry: an image that was pushed before only gets another tag. */
import { expect, test } from "bun:test";
import { rm } from "node:fs/promises";
import { join } from "node:path";
import type { JobResult } from "../../src/shared/job.ts";
import { type OrchestratorProcess, SHORT_LEASE, shownJob } from "../support/blacktree/deployment.ts";
import { faultSite, type SampleJob, sampleJob } from "../support/blacktree/fault-site.ts";
import { sampleRepository } from "../support/machine/sample-repository.ts";

const site = faultSite();
let versions = 0;

interface Ended {
  readonly result: JobResult;
  readonly isBuilt: boolean;
}

async function build(orchestrator: OrchestratorProcess, job: SampleJob, changes: object): Promise<Ended> {
  const number = versions++;
  const job_id = `reuse-${number}`;
  const message = { ...job, job_id, deployment_version: `v${number}`, reuse: "same-commit", ...changes };
  await site.deployment.publish(message);
  const result = await site.deployment.nextResult();
  expect(result).toMatchObject({ job_id, status: "SUCCESS" });
  const tagged = await site.backends.registry.getManifest(job.ecr_repo, message.deployment_version);
  expect(tagged?.digest).toBe(`${result.image_digest}`);
  const events = (await shownJob(orchestrator, job_id))?.events ?? [];
  return { result, isBuilt: events.some(({ state }) => state === "BUILDING") };
}

test("reuse: an image of the same commit and inputs is tagged by any worker, and every other one is built", async () => {
  const { deployment, backends } = { backends: site.backends, deployment: await site.deploy() };
  const orchestrator = await deployment.startOrchestrator(SHORT_LEASE);
  await deployment.startWorker(orchestrator);
  await deployment.startWorker(orchestrator);
  const job = await sampleJob(backends, {});
  const again = (changes: object = {}) => build(orchestrator, job, changes);

  const first = await again({ reuse: "never" });
  expect(first.isBuilt).toBe(true);
  const uploads = () =>
    backends.ecr.requests.filter(({ path }) => path.startsWith(`/v2/${job.ecr_repo}/blobs/uploads/`)).length;
  const uploadsBefore = uploads();
  for (let count = 0; count < 3; count++) {
    const reused = await again();
    expect(reused.isBuilt).toBe(false);
    expect(reused.result).toMatchObject({
      image_digest: first.result.image_digest,
      commit: first.result.commit,
      attempt: 1,
    });
  }
  expect(uploads()).toBe(uploadsBefore);

  expect((await again({ reuse: "never" })).isBuilt).toBe(true);
  expect((await again({ build_args: { API_LEVEL: "2" } })).isBuilt).toBe(true);

  await backends.git.commit(job.repo_url, await sampleRepository({ greeting: "another commit" }));
  expect((await again()).isBuilt).toBe(true);
  expect((await again()).isBuilt).toBe(false);

  await deployment.flushRedis();
  expect((await again()).isBuilt).toBe(true);
  expect((await again()).isBuilt).toBe(false);

  const stored = `docker/registry/v2/repositories/${job.ecr_repo}`;
  await rm(join(backends.registry.storageDir, stored), { recursive: true });
  expect((await again()).isBuilt).toBe(true);
});
