/**
 * Labels of an image prove nothing: a frontend, or a client of the registry, can write any of them. No job ends with the
 * digest of an image that Blacktree has not built for it.
 */
import { expect, test } from "bun:test";
import type { JobResult } from "../../../src/shared/job.ts";
import { REUSE_KEY } from "../../support/blacktree/deployment.ts";
import { faultSite, type SampleJob, sampleJob } from "../../support/blacktree/fault-site.ts";
import { inFullCheck } from "../../support/machine/full-check.ts";
import { pushRelabelled } from "../../support/servers/relabelled-image.ts";

const site = faultSite();
let jobs = 0;

interface Ended {
  readonly digest: string;
  readonly isBuilt: boolean;
}

async function start() {
  const deployment = await site.deploy();
  const orchestrator = await deployment.startOrchestrator();
  const worker = await deployment.startWorker(orchestrator);
  return { orchestrator, worker };
}

/** Every job has a new id, so that no job is answered with the result of an earlier one. */
async function succeed(job: SampleJob, changes: object = {}): Promise<Ended> {
  const message = { ...job, ...changes, job_id: `forged-${jobs++}` };
  await site.deployment.publish(message);
  const result: JobResult = await site.deployment.nextResult();
  expect(result).toMatchObject({ job_id: message.job_id, status: "SUCCESS" });
  const tagged = await site.backends.registry.getManifest(job.ecr_repo, message.deployment_version);
  expect(tagged?.digest).toBe(`${result.image_digest}`);
  return { digest: `${result.image_digest}`, isBuilt: result.timings_ms.build > 0 };
}

async function labelsOf({ ecr_repo }: SampleJob, version: string): Promise<Record<string, string>> {
  const { config } = await site.backends.registry.getImageConfig(ecr_repo, version);
  return config?.Labels ?? {};
}

/** Puts a tag on an image that Blacktree has not built. */
function forge({ ecr_repo, deployment_version }: SampleJob, tag: string, labels: Record<string, string>) {
  const image = { repository: ecr_repo, reference: deployment_version, labels, tag };
  return pushRelabelled(site.backends.registry, image);
}

test("forged labels: an image under a version's tag, pushed in advance, is not the result of that version's job", async () => {
  await start();
  const job = await sampleJob(site.backends, {});
  await succeed(job);
  const labels = await labelsOf(job, job.deployment_version);
  const reserved = Object.entries(labels).filter(([name]) => name.startsWith("io.blacktree."));
  const inputs = Object.fromEntries(reserved.filter(([name]) => !/\.(version|hmac)$/.test(name)));

  const forged = [
    await forge(job, "v-inputs", inputs),
    await forge(job, "v-copied", labels),
    await forge(job, "v-renamed", { ...labels, "io.blacktree.version": "v-renamed" }),
  ];
  for (const deployment_version of ["v-inputs", "v-copied", "v-renamed"]) {
    const { digest, isBuilt } = await succeed(job, { deployment_version });
    expect(forged).not.toContain(digest);
    expect(isBuilt).toBe(true);
  }
  const reused = await succeed(job, { deployment_version: "v-reuse", reuse: "same-commit" });
  expect(reused.isBuilt).toBe(false);
  expect(forged).not.toContain(reused.digest);
});

inFullCheck().test(
  "forged labels: a copy of a version's labels, put under that version, is replaced while the records know the image",
  async () => {
    await start();
    const job = await sampleJob(site.backends, {});
    const version = job.deployment_version;
    const first = await succeed(job);
    const forged = await forge(job, version, await labelsOf(job, version));
    const again = await succeed(job);
    expect(again).toEqual({ digest: first.digest, isBuilt: true });
    expect(again.digest).not.toBe(forged);
    expect(await succeed(job)).toEqual({ digest: first.digest, isBuilt: false });
  },
);

test("forged labels: an image of another tenant, whose secrets may differ, serves no job", async () => {
  await start();
  const job = await sampleJob(site.backends, {});
  await succeed(job, { tenant: "one" });
  for (const changes of [
    { tenant: "two" },
    { tenant: "three", deployment_version: "v-reuse", reuse: "same-commit" },
  ]) {
    expect((await succeed(job, changes)).isBuilt).toBe(true);
    expect((await succeed(job, changes)).isBuilt).toBe(false);
  }
});

inFullCheck().test(
  "HMAC label: the same job, on an immutable tag, succeeds after a loss of Redis's data and another start",
  async () => {
    const { backends } = site;
    const { orchestrator, worker } = await start();
    const job = await sampleJob(backends, {});
    const ecr_repo = `${job.ecr_repo}-fixed`;
    backends.aws.addRepository(job.aws_account, { name: ecr_repo, imageTagMutability: "IMMUTABLE" });
    const first = { ...job, ecr_repo };
    const reusing = { ...first, deployment_version: "v-reuse", reuse: "same-commit" };
    const { digest } = await succeed(first);
    expect(await succeed(reusing)).toEqual({ digest, isBuilt: false });

    // The records are enough without a key.
    await worker.process.stop();
    const keyless = await site.deployment.startWorker(orchestrator, { BLACKTREE_REUSE_KEY: "" });
    expect(keyless.process.lines.join("\n")).toContain("BLACKTREE_REUSE_KEY is not set");
    expect(await succeed(first)).toEqual({ digest, isBuilt: false });

    // The key is enough without the records.
    await keyless.process.stop();
    const rotated = { BLACKTREE_REUSE_KEY: `${"7c".repeat(32)},${REUSE_KEY}` };
    await site.deployment.startWorker(orchestrator, rotated);
    await site.deployment.flushRedis();
    for (const again of [first, reusing]) {
      expect(await succeed(again)).toEqual({ digest, isBuilt: false });
    }
  },
);
