/** Jobs that may reuse an image: the records name it, and the registry must still have it. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { LeaseLost } from "../../../../src/worker/job/cancellation.ts";
import type { PipelineJob } from "../../../../src/worker/job/job.ts";
import { type PipelineBench, startPipelineBench } from "./pipeline-bench.ts";

let bench: PipelineBench;

beforeAll(async () => {
  bench = await startPipelineBench({ engine: "26.1" });
});
afterAll(() => bench?.stop());

/** A version that was built, and the record of its image. */
async function built(changes: Partial<PipelineJob> = {}) {
  const { name } = await bench.createSample();
  const job: Partial<PipelineJob> = { repoUrl: name, ecrRepo: bench.unique("images"), ...changes };
  const { status, inputs = "", imageDigest: digest = "" } = await bench.start(job).end;
  expect(status).toBe("SUCCESS");
  return { job, known: { inputs, digest } };
}

const uploads = (repository: string) =>
  bench.proxy.requests.filter(({ path }) => path.startsWith(`/v2/${repository}/blobs/uploads/`)).length;

test("image reuse: the same commit and inputs are only tagged, without a build, an upload or another tag", async () => {
  const { job, known } = await built();
  const repository = `${job.ecrRepo}`;
  const uploadsBefore = uploads(repository);
  const tagsBefore = await bench.registry.listTags(repository);
  const other = { inputs: "e".repeat(64), digest: `sha256:${"e".repeat(64)}` };
  const run = bench.start({ ...job, deploymentVersion: "v2", knownImages: [other, known] });
  expect(await run.end).toMatchObject({ status: "SUCCESS", imageDigest: known.digest, inputs: known.inputs });
  expect(run.states.toSorted()).toEqual(["AUTHENTICATING", "CLONING"]);
  expect(run.lines.at(-1)).toBe(`tagged it as ${bench.proxy.host}/${repository}:v2`);
  expect((await bench.registry.getManifest(repository, "v2"))?.digest).toBe(known.digest);
  expect(uploads(repository)).toBe(uploadsBefore);
  expect((await bench.registry.listTags(repository)).toSorted()).toEqual([...tagsBefore, "v2"].toSorted());
});

test("image reuse: an index is tagged as a whole, and found again under its version", async () => {
  const { job, known } = await built({ provenance: true });
  const repository = `${job.ecrRepo}`;
  const uploadsBefore = uploads(repository);
  const first = await bench.registry.getManifest(repository, known.digest);
  expect(first?.json.manifests).toHaveLength(2);
  for (const versionImages of [[], [known]]) {
    const run = bench.start({ ...job, deploymentVersion: "v2", knownImages: [known], versionImages });
    expect(await run.end).toMatchObject({ status: "SUCCESS", imageDigest: known.digest });
    expect(run.states).not.toContain("BUILDING");
    expect(await bench.registry.getManifest(repository, "v2")).toEqual(first);
  }
  expect(bench.proxy.tagPuts(repository, "v2")).toHaveLength(1);
  expect(uploads(repository)).toBe(uploadsBefore);

  const other = { ...job, deploymentVersion: "v2", provenance: false, knownImages: [known] };
  const rebuilt = bench.start(other);
  expect(await rebuilt.end).toMatchObject({ status: "SUCCESS" });
  expect(rebuilt.states).toContain("BUILDING");
  expect((await bench.registry.getManifest(repository, "v2"))?.json.manifests).toBeUndefined();
});

test("image reuse: the tag is put only with a confirmed lease", async () => {
  const { job, known } = await built();
  const confirmLease = () => Promise.reject(new LeaseLost("the job"));
  const run = bench.start({ ...job, deploymentVersion: "v2", knownImages: [known] }, { confirmLease });
  expect(await run.end).toMatchObject({ status: "FAILED" });
  expect(await bench.registry.getManifest(`${job.ecrRepo}`, "v2")).toBeUndefined();
});

test("image reuse: other inputs are built", async () => {
  const { job, known } = await built();
  const other = { ...job, deploymentVersion: "v2", buildArgs: { API_LEVEL: "2" }, knownImages: [known] };
  const run = bench.start(other);
  expect(await run.end).toMatchObject({ status: "SUCCESS" });
  expect(run.states).toContain("BUILDING");
});

test("image reuse: a job is built when the registry no longer has the recorded image", async () => {
  const { job, known } = await built();
  const gone = { ...known, digest: `sha256:${"0".repeat(64)}` };
  const run = bench.start({ ...job, deploymentVersion: "v2", knownImages: [gone] });
  expect(await run.end).toMatchObject({ status: "SUCCESS" });
  expect(run.states).toContain("BUILDING");
  expect(run.lines.join("\n")).toContain(`cannot reuse ${gone.digest}: the registry no longer has it`);
});
