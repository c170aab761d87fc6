/** Labels of an image prove nothing: a frontend, or a client of the registry, can write any of them. */
import { afterAll, afterEach, beforeAll, expect, test } from "bun:test";
import type { BuildRequest } from "../../../../src/worker/buildkit/builder.ts";
import type { PipelineJob } from "../../../../src/worker/job/job.ts";
import type { RunEnd } from "../../../../src/worker/pipeline/run-end.ts";
import { inFullCheck } from "../../../support/machine/full-check.ts";
import { sampleRepository } from "../../../support/machine/sample-repository.ts";
import { findFrontendWithoutLabels } from "../../../support/servers/buildkit-programs.ts";
import { pushRelabelled } from "../../../support/servers/relabelled-image.ts";
import {
  type PipelineBench,
  type RunOptions,
  type StartedRun,
  startPipelineBench,
} from "./pipeline-bench.ts";

const WITH_KEY: RunOptions = { parts: { reuseKeys: [Buffer.alloc(32, 1)] } };

let bench: PipelineBench;

beforeAll(async () => {
  bench = await startPipelineBench({ engine: "26.1" });
});
afterEach(() => {
  bench.proxy.faults.immutableRepositories = undefined;
  bench.proxy.faults.refusesSameManifest = undefined;
});
afterAll(() => bench?.stop());

const labelsOf = async ({ job }: StartedRun) =>
  (await bench.registry.getImageConfig(job.ecrRepo, job.deploymentVersion)).config?.Labels ?? {};

const taggedDigest = async ({ job }: StartedRun) =>
  (await bench.registry.getManifest(job.ecrRepo, job.deploymentVersion))?.digest;

const recordOf = ({ inputs = "", imageDigest: digest = "" }: RunEnd) => ({ inputs, digest });

const makeImmutable = ({ job }: StartedRun) => {
  bench.proxy.faults.immutableRepositories = new Set([job.ecrRepo]);
};

async function built(changes: Partial<PipelineJob>, options?: RunOptions) {
  const run = bench.start(changes, options);
  const end = await run.end;
  expect(end).toMatchObject({ status: "SUCCESS" });
  return { run, end };
}

/** A version, and another image with exactly its labels under its tag. */
async function copied(options?: RunOptions) {
  const { name } = await bench.createSample();
  const { run, end } = await built({ repoUrl: name }, options);
  const labels = await labelsOf(run);
  const { ecrRepo: repository, deploymentVersion: tag } = run.job;
  const copy = await pushRelabelled(bench.registry, { repository, reference: tag, labels, tag });
  expect(copy).not.toBe(end.imageDigest ?? "");
  expect(await labelsOf(run)).toEqual(labels);
  return { run, end, copy };
}

/** A build whose frontend sets these labels, whatever labels it was asked for. */
function withFrontend(labels: BuildRequest["labels"], { parts }: RunOptions): RunOptions {
  const builder = Object.create(bench.builder, {
    buildAndPush: { value: (request: BuildRequest) => bench.builder.buildAndPush({ ...request, labels }) },
  });
  return { parts: { ...parts, builder } };
}

test("forged labels: without a record, and without a key, an image with the job's labels is built and replaced", async () => {
  const { run, end, copy } = await copied();
  const again = bench.start({ ...run.job, attempt: 2 });
  expect(await again.end).toMatchObject({ status: "SUCCESS", imageDigest: end.imageDigest });
  expect(again.states).toContain("BUILDING");
  expect(again.lines.join("\n")).toContain("to prove that Blacktree built it: building");
  expect(await taggedDigest(again)).not.toBe(copy);
});

test("forged labels: a copy of all labels, with their HMAC, does not count while the records know the version's image", async () => {
  const { run, end, copy } = await copied(WITH_KEY);
  const again = bench.start({ ...run.job, attempt: 2, versionImages: [recordOf(end)] }, WITH_KEY);
  expect(await again.end).toMatchObject({ status: "SUCCESS", imageDigest: end.imageDigest });
  expect(again.states).toContain("BUILDING");
  expect(await taggedDigest(again)).not.toBe(copy);

  const { run: fixed, end: first } = await copied(WITH_KEY);
  makeImmutable(fixed);
  const refused = bench.start({ ...fixed.job, attempt: 2, versionImages: [recordOf(first)] }, WITH_KEY);
  expect(await refused.end).toMatchObject({ status: "FAILED", failure: { code: "TAG_IMMUTABLE" } });
});

test("forged labels: an HMAC of one version does not prove another one", async () => {
  const { run, end } = await copied(WITH_KEY);
  const { ecrRepo: repository, deploymentVersion: reference } = run.job;
  const [labels, tag] = [await labelsOf(run), bench.unique("next")];
  const forged = { ...labels, "io.blacktree.version": tag };
  const copy = await pushRelabelled(bench.registry, { repository, reference, labels: forged, tag });
  const records = { knownImages: [], versionImages: [] };
  const next = await built({ ...run.job, ...records, deploymentVersion: tag }, WITH_KEY);
  expect(next.run.states).toContain("BUILDING");
  expect(next.end.imageDigest).not.toBe(copy);
  expect(next.end.imageDigest).not.toBe(end.imageDigest);
});

test("forged labels: a build that sets reserved labels of another job fails, and puts no tag", async () => {
  const [victim, attacker] = [await bench.createSample(), await bench.createSample()];
  const { run } = await built({ repoUrl: victim.name }, WITH_KEY);
  const labels = await labelsOf(run);
  const moved = bench.start(
    { ...run.job, repoUrl: attacker.name, attempt: 2 },
    withFrontend(labels, WITH_KEY),
  );
  const end = await moved.end;
  expect(end).toMatchObject({
    status: "FAILED",
    failure: { code: "BUILD_FAILED", step: "build", retryable: false },
  });
  expect(end.failure?.message).toContain("io.blacktree.repository");
  expect(end.failure?.message).toContain("# syntax=");
  const again = bench.start({ ...run.job, attempt: 3 }, WITH_KEY);
  expect(await again.end).toMatchObject({ status: "SUCCESS", imageDigest: await taggedDigest(run) });
  expect(again.states).not.toContain("BUILDING");
});

test("forged labels: an image without reserved labels is pushed, and only a record proves it", async () => {
  const { name } = await bench.createSample();
  const options = withFrontend({ own: "label" }, WITH_KEY);
  const { run, end } = await built({ repoUrl: name }, options);
  expect(await labelsOf(run)).toEqual({ own: "label" });
  const recorded = await built({ ...run.job, attempt: 2, versionImages: [recordOf(end)] }, options);
  expect(recorded.run.states).not.toContain("BUILDING");
  expect((await built({ ...run.job, attempt: 3 }, options)).run.states).toContain("BUILDING");
});

test("HMAC label: with an immutable tag, the same job succeeds without records, also after it reused an image", async () => {
  const { name } = await bench.createSample();
  const { run, end } = await built({ repoUrl: name }, WITH_KEY);
  const next = { ...run.job, deploymentVersion: bench.unique("v"), mayReuse: true };
  const reused = await built({ ...next, knownImages: [recordOf(end)] }, WITH_KEY);
  makeImmutable(run);
  for (const job of [run.job, next]) {
    const again = await built({ ...job, jobId: bench.unique("again") }, WITH_KEY);
    expect(again.end.imageDigest).toBe(end.imageDigest);
    expect(again.run.states).not.toContain("BUILDING");
  }
  expect(reused.end.imageDigest).toBe(end.imageDigest);
});

test("without a key: with an immutable tag and without records, the same job succeeds if its build is the same image", async () => {
  const { name } = await bench.createSample();
  const { run, end } = await built({ repoUrl: name });
  makeImmutable(run);
  bench.proxy.faults.refusesSameManifest = true;
  const again = await built({ ...run.job, attempt: 2 });
  expect(again.run.states).toContain("BUILDING");
  expect(again.end.imageDigest).toBe(end.imageDigest);
});

const { program, reason } = await findFrontendWithoutLabels();

inFullCheck().describe("forged labels, with a frontend program", () => {
  const name =
    "forged labels: a Dockerfile whose frontend leaves its own labels cannot take another job's image over";
  test.skipIf(program === undefined)(`${name}${reason ? ` (${reason})` : ""}`, async () => {
    const frontend = bench.unique("acme/frontend");
    await bench.git.createRepository(frontend, {
      "bin/frontend": await Bun.file(`${program}`).bytes(),
      Dockerfile: 'FROM scratch\nCOPY bin/frontend /frontend\nENTRYPOINT ["/frontend"]\n',
    });
    const { job } = (await built({ repoUrl: frontend })).run;
    const victim = await bench.createSample();
    const { run, end } = await built({ repoUrl: victim.name }, WITH_KEY);

    const labels = Object.entries(await labelsOf(run));
    const files = await sampleRepository({ greeting: "not the job's" });
    const Dockerfile = [
      `# syntax=${bench.proxy.host}/${job.ecrRepo}:${job.deploymentVersion}`,
      files.Dockerfile,
      ...labels.map(([label, value]) => `LABEL ${label}=${JSON.stringify(value)}`),
    ].join("\n");
    const attacker = bench.unique("acme/attacker");
    await bench.git.createRepository(attacker, { ...files, Dockerfile });
    const attack = bench.start({ ...run.job, attempt: 2, repoUrl: attacker }, WITH_KEY);
    expect(await attack.end).toMatchObject({ status: "FAILED", failure: { code: "BUILD_FAILED" } });
    expect(attack.lines.join("\n")).toContain("the build has set reserved labels to other values");
    expect(await taggedDigest(run)).toBe(end.imageDigest ?? "");
  });
});
