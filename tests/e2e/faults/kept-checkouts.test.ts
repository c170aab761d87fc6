/** Checkouts that a worker caches for the next job: no job has files of another job, even after a crash. */
import { expect, test } from "bun:test";
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import type { JobResult } from "../../../src/shared/job.ts";
import { SHORT_LEASE, untilState } from "../../support/blacktree/deployment.ts";
import {
  expectSuccess,
  faultSite,
  holdPush,
  type SampleJob,
  sampleJob,
} from "../../support/blacktree/fault-site.ts";
import { runFolders } from "../../support/blacktree/run-folders.ts";
import { isFullCheck } from "../../support/machine/full-check.ts";

const site = faultSite();

/** The cached checkouts that are ready for a next job. */
async function keptIn(workDir: string): Promise<string[]> {
  const names = await readdir(join(workDir, "mirrors"), { recursive: true });
  // <boot>/<tenant and repository>/<checkout>
  return names.filter((name) => name.split("/").length === 3);
}

/** The next job of the same repository. */
function another(job: SampleJob, name: string, changes: object = {}): SampleJob {
  return { ...job, job_id: `${job.job_id}-${name}`, deployment_version: name, ...changes };
}

/** Matches BuildKit's pushes by digest. */
const manifestsOf = ({ ecr_repo }: SampleJob) => ({
  method: "PUT",
  path: new RegExp(`^/v2/${ecr_repo}/manifests/sha256:`),
});

/** The content of this file in the version's image. */
async function fileOf({ ecr_repo, deployment_version }: SampleJob, path: string): Promise<string> {
  return (await site.backends.registry.readImageFile(ecr_repo, deployment_version, path)).trim();
}

test("cached checkouts: a worker is killed in a build that uses one: the next attempt and the next job have the right files", async () => {
  const deployment = await site.deploy();
  const orchestrator = await deployment.startOrchestrator(SHORT_LEASE);
  const crashed = await deployment.startWorker(orchestrator);
  const { workDir } = crashed;
  const first = await sampleJob(site.backends, { variant: "working", greeting: "one" });
  await deployment.publish(first);
  await expectSuccess(site, first, { worker: crashed });
  const [kept] = await keptIn(workDir);
  expect(kept).toBeDefined();

  await site.backends.git.commit(first.repo_url, { greeting: "two\n" });
  const second = another(first, "v2");
  const held = site.keep(holdPush(site.backends, second));
  await deployment.publish(second);
  await held.arrived;
  // The run owns it meanwhile, and removes it.
  expect(await keptIn(workDir)).toEqual([]);
  expect(await runFolders(workDir)).toHaveLength(1);
  await crashed.process.kill();
  const worker = await deployment.startWorker(orchestrator, { BLACKTREE_WORK_DIR: workDir });
  held.release();
  await expectSuccess(site, second, { worker, attempt: 2 });
  expect(await fileOf(second, "printed")).toBe("two");
  expect(await runFolders(workDir)).toEqual([]);
  const [anew, ...others] = await keptIn(workDir);
  expect(others).toEqual([]);
  expect(anew).not.toBe(`${kept}`);

  await site.backends.git.commit(first.repo_url, { greeting: "six\n" });
  const third = another(first, "v3");
  await deployment.publish(third);
  await expectSuccess(site, third, { worker });
  expect(await fileOf(third, "printed")).toBe("six");
});

test("cached checkouts: jobs of one repository run at once, in slots and workers of one host: each image has its own commit", async () => {
  const deployment = await site.deploy();
  const orchestrator = await deployment.startOrchestrator();
  const [twoSlots, oneSlot] = await Promise.all([
    deployment.startWorker(orchestrator, { BLACKTREE_WORKER_SLOTS: "2" }),
    deployment.startWorker(orchestrator),
  ]);
  const { git } = site.backends;
  const job = await sampleJob(site.backends, { variant: "working", greeting: "m0" });
  let before: string | undefined;
  const rounds = isFullCheck ? 5 : 2;
  for (let round = 1; round <= rounds; round++) {
    // All of the same length: only their content distinguishes the files.
    const ofMain = await git.commit(job.repo_url, { greeting: `m${round}\n` });
    await git.commit(job.repo_url, { greeting: `o${round}\n` }, { branch: "other" });
    const pinned = { commit: before ?? ofMain, isOf: before ? round - 1 : round };
    const expected = new Map([
      [another(job, `main-${round}`), `m${round}`],
      [another(job, `other-${round}`, { branch: "other" }), `o${round}`],
      [another(job, `pinned-${round}`, { commit: pinned.commit }), `m${pinned.isOf}`],
    ]);
    // No job ends before all have begun.
    const held = site.keep(site.backends.ecr.hold(manifestsOf(job)));
    for (const each of expected.keys()) await deployment.publish(each);
    for (const { job_id } of expected.keys()) await untilState(orchestrator, job_id, "BUILDING");
    held.release();
    const results: JobResult[] = [];
    while (results.length < expected.size) results.push(await deployment.nextResult());
    for (const [each, content] of expected) {
      const result = results.find(({ job_id }) => job_id === each.job_id);
      expect(result).toMatchObject({ status: "SUCCESS", attempt: 1 });
      expect(await fileOf(each, "printed")).toBe(content);
      expect(await fileOf(each, "greeting")).toBe(content);
    }
    const builtBy = results.map(({ worker_id }) => worker_id).toSorted();
    expect(builtBy).toEqual([twoSlots.id, twoSlots.id, oneSlot.id].toSorted());
    before = ofMain;
  }
});
