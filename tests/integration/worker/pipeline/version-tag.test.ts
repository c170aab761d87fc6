/** The version's tag is the commit point: when it is put, when it is not, and when no build is needed for it. */
import { afterAll, afterEach, beforeAll, describe, expect, test } from "bun:test";
import { LeaseLost, RunCancelled } from "../../../../src/worker/job/cancellation.ts";
import { missingDockerEngine } from "../../../support/servers/docker-engines.ts";
import { type PipelineBench, type StartedRun, startPipelineBench } from "./pipeline-bench.ts";

const reason = await missingDockerEngine("26.1");

describe.skipIf(reason !== undefined)(`the version's tag${reason ? ` (${reason})` : ""}`, () => {
  let bench: PipelineBench;

  beforeAll(async () => {
    bench = await startPipelineBench({ engine: "26.1" });
  });
  afterEach(() => {
    bench.proxy.faults.immutableRepositories = undefined;
    bench.proxy.faults.refusesSameManifest = undefined;
  });
  afterAll(() => bench?.stop());

  const taggedDigest = async ({ job }: StartedRun) =>
    (await bench.registry.getManifest(job.ecrRepo, job.deploymentVersion))?.digest;
  const puts = ({ job }: StartedRun) => bench.proxy.tagPuts(job.ecrRepo, job.deploymentVersion);

  test("the same version from the same commit and inputs is not built again", async () => {
    const { name } = await bench.createSample();
    const inputs = { repoUrl: name, buildArgs: { ONE: "1", TWO: "2" }, labels: { a: "1", b: "2" } };
    const first = bench.start(inputs);
    const made = await first.end;
    expect(made).toMatchObject({ status: "SUCCESS" });
    const again = bench.start({
      ...first.job,
      jobId: bench.unique("another-job"),
      versionImages: [{ inputs: `${made.inputs}`, digest: `${made.imageDigest}` }],
      buildArgs: { TWO: "2", ONE: "1" },
      labels: { b: "2", a: "1" },
    });
    expect(await again.end).toMatchObject({
      status: "SUCCESS",
      imageDigest: made.imageDigest,
      imageUrl: made.imageUrl,
      commit: made.commit,
    });
    expect(again.states).not.toContain("BUILDING");
    expect(again.lines.join("\n")).toContain("nothing to build");
    expect(puts(again)).toHaveLength(1);
  });

  test("another commit, and other inputs, are built and the tag is moved", async () => {
    const { name } = await bench.createSample();
    const first = bench.start({ repoUrl: name });
    const { imageDigest } = await first.end;
    const otherInputs = bench.start({ ...first.job, attempt: 2, buildArgs: { ONE: "1" } });
    const second = await otherInputs.end;
    expect(second.status).toBe("SUCCESS");
    expect(otherInputs.states).toContain("BUILDING");
    expect(second.imageDigest).not.toBe(imageDigest);
    await bench.git.commit(name, { greeting: "another one\n" });
    const otherCommit = bench.start({ ...first.job, attempt: 3 });
    const third = await otherCommit.end;
    expect(third.status).toBe("SUCCESS");
    expect(await taggedDigest(otherCommit)).toBe(third.imageDigest ?? "");
    expect(new Set([imageDigest, second.imageDigest, third.imageDigest]).size).toBe(3);
  });

  test("a tag that proves to be immutable fails the run, and is not moved", async () => {
    const { name } = await bench.createSample();
    const first = bench.start({ repoUrl: name });
    const { imageDigest } = await first.end;
    bench.proxy.faults.immutableRepositories = new Set([first.job.ecrRepo]);
    await bench.git.commit(name, { greeting: "another one\n" });
    const second = bench.start({ ...first.job, attempt: 2 });
    expect(await second.end).toMatchObject({
      status: "FAILED",
      failure: { code: "TAG_IMMUTABLE", step: "tag", retryable: false },
    });
    expect(await taggedDigest(first)).toBe(imageDigest ?? "");
  });

  test("the tag is not put before the lease is confirmed", async () => {
    const { name } = await bench.createSample();
    const asked = Promise.withResolvers<void>();
    const answer = Promise.withResolvers<number>();
    const confirmLease = () => {
      asked.resolve();
      return answer.promise;
    };
    const run = bench.start({ repoUrl: name }, { confirmLease });
    await asked.promise;
    expect(puts(run)).toHaveLength(0);
    answer.resolve(60_000);
    expect(await run.end).toMatchObject({ status: "SUCCESS" });
    expect(puts(run)).toHaveLength(1);
  });

  test("a lease that another attempt has taken over ends the run without a tag", async () => {
    const { name } = await bench.createSample();
    const confirmLease = () => Promise.reject(new LeaseLost());
    const run = bench.start({ repoUrl: name }, { confirmLease });
    expect(await run.end).toMatchObject({
      status: "FAILED",
      failure: { code: "WORKER_LOST", step: "tag" },
    });
    expect(puts(run)).toHaveLength(0);
    expect(await bench.leftFolders()).toEqual([]);
  });

  test("a lease too short for the tag's request is confirmed again first", async () => {
    const { name } = await bench.createSample();
    const leasesMs = [50, 150, 60_000];
    let asked = 0;
    const confirmLease = async () => leasesMs[asked++] ?? 0;
    const run = bench.start({ repoUrl: name }, { confirmLease });
    expect(await run.end).toMatchObject({ status: "SUCCESS" });
    expect(asked).toBe(3);
    expect(puts(run)).toHaveLength(1);
  });

  test("a tag's request times out before the lease ends", async () => {
    const { name } = await bench.createSample();
    const version = bench.unique("v");
    const hold = bench.proxy.hold({ method: "PUT", path: new RegExp(`/manifests/${version}$`) });
    let asked = 0;
    // A busy machine sends the request within the first lease; the run waits for nearly all of it.
    const confirmLease = async () => (asked++ === 0 ? 3_000 : 60_000);
    const run = bench.start(
      { repoUrl: name, deploymentVersion: version },
      { confirmLease, parts: { tagTimeoutMs: 60_000 } },
    );
    await hold.arrived;
    await run.waitForLine(/trying again/);
    hold.release();
    expect(await run.end).toMatchObject({ status: "SUCCESS" });
    expect(asked).toBe(2);
  });

  test("a cancel during the wait for the lease ends the run without a tag", async () => {
    const { name } = await bench.createSample();
    const asked = Promise.withResolvers<void>();
    const confirmLease = () => {
      asked.resolve();
      return new Promise<number>(() => {});
    };
    const run = bench.start({ repoUrl: name }, { confirmLease });
    await asked.promise;
    run.abort(new RunCancelled("enough"));
    expect(await run.end).toMatchObject({ status: "CANCELLED", failure: { code: "CANCELLED", step: "tag" } });
    expect(await taggedDigest(run)).toBeUndefined();
  });

  test("a cancel that arrives while the tag is put has no effect", async () => {
    const { name } = await bench.createSample();
    const version = bench.unique("v");
    const hold = bench.proxy.hold({ method: "PUT", path: new RegExp(`/manifests/${version}$`) });
    const run = bench.start({ repoUrl: name, deploymentVersion: version });
    await hold.arrived;
    run.abort(new RunCancelled("enough"));
    hold.release();
    expect(await run.end).toMatchObject({ status: "SUCCESS" });
    expect(await taggedDigest(run)).toBeDefined();
  });

  test("a tag that was put although its answer was lost is the run's success", async () => {
    const { name } = await bench.createSample();
    const version = bench.unique("v");
    const answer = bench.proxy.holdAnswers({ method: "PUT", path: new RegExp(`/manifests/${version}$`) });
    // Enough for the request on a busy machine; the run waits this long for the answer, which never arrives.
    const run = bench.start({ repoUrl: name, deploymentVersion: version }, { parts: { tagTimeoutMs: 4000 } });
    expect(await run.end).toMatchObject({ status: "SUCCESS", imageDigest: await taggedDigest(run) });
    answer.release();
    expect(puts(run)).toHaveLength(1);
  });

  test("a tag whose request is refused for a while is tried again, each time with a confirmed lease", async () => {
    const { name } = await bench.createSample();
    const version = bench.unique("v");
    bench.proxy.failNext({
      method: "PUT",
      path: new RegExp(`/manifests/${version}$`),
      count: 2,
      status: 500,
    });
    let asked = 0;
    const confirmLease = async () => {
      asked++;
      return 60_000;
    };
    const run = bench.start({ repoUrl: name, deploymentVersion: version }, { confirmLease });
    expect(await run.end).toMatchObject({ status: "SUCCESS" });
    expect(asked).toBe(3);
    expect(puts(run)).toHaveLength(3);
  });
});
