/** BuildKit's cache in the registry: a second worker uses it, and no build fails or waits because of it. */
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import { rm } from "node:fs/promises";
import { join } from "node:path";
import pino from "pino";
import { detectBuilder } from "../../../../src/worker/buildkit/builders/detect.ts";
import type { PipelineJob } from "../../../../src/worker/job/job.ts";
import { BackgroundWork } from "../../../../src/worker/pipeline/background-work.ts";
import type { PipelineParts } from "../../../../src/worker/pipeline/pipeline-parts.ts";
import { inFullCheck } from "../../../support/machine/full-check.ts";
import { sampleRepository } from "../../../support/machine/sample-repository.ts";
import { type DockerEngine, missingDockerEngine } from "../../../support/servers/docker-engines.ts";
import { borrowDockerEngine } from "../../../support/servers/pool.ts";
import { type PipelineBench, type StartedRun, startPipelineBench } from "../pipeline/pipeline-bench.ts";

const reason = await missingDockerEngine("26.1");

describe.skipIf(reason !== undefined)(`the registry's cache${reason ? ` (${reason})` : ""}`, () => {
  let bench: PipelineBench;
  let otherEngine: DockerEngine;
  /** A worker without any build cache: it has another engine. */
  let otherWorker: Partial<PipelineParts>;

  beforeAll(async () => {
    bench = await startPipelineBench({ engine: "26.1" });
    otherEngine = await borrowDockerEngine("26.1");
    const hostEnvironment = { ...process.env, ...otherEngine.env() };
    const { signal } = new AbortController();
    const builder = await detectBuilder({
      hostEnvironment,
      workDir: bench.workDir,
      scratchParent: bench.workDir,
      location: { kind: "engine" },
      driverOptions: [],
      signal,
    });
    otherWorker = { builder, hostEnvironment };
  });
  // All samples have the same first steps.
  beforeEach(async () => {
    for (const engine of [bench.engine, otherEngine]) await engine.request("POST", "/build/prune?all=1");
  });
  afterAll(() => Promise.all([bench?.stop(), otherEngine?.stop()]));

  interface CachingRun extends StartedRun {
    readonly cacheRepository: string;
    readonly backgroundWork: BackgroundWork;
    /** The lines of the worker's own log. */
    readonly logged: readonly string[];
  }

  function start(job: Partial<PipelineJob>, parts: Partial<PipelineParts> = {}): CachingRun {
    const logged: string[] = [];
    const backgroundWork = new BackgroundWork(
      pino({ level: "warn" }, { write: (line) => void logged.push(line) }),
    );
    const cacheRepository = parts.cacheRepository ?? bench.unique("cache");
    const run = bench.start(job, { parts: { ...parts, backgroundWork, cacheRepository } });
    return { ...run, cacheRepository, backgroundWork, logged };
  }

  const stepsCached = ({ steps }: StartedRun) => steps.flatMap(({ end }) => end?.isCached ?? []);

  async function stored(job: Partial<PipelineJob>): Promise<CachingRun> {
    const run = start(job);
    expect(await run.end).toMatchObject({ status: "SUCCESS" });
    await run.backgroundWork.ended();
    expect(run.logged).toEqual([]);
    return run;
  }

  test("a worker that never built the repository takes all its steps from the registry", async () => {
    const { name } = await bench.createSample();
    const first = await stored({ repoUrl: name });
    expect(stepsCached(first)).toEqual([false, false, false]);
    expect(await bench.registry.listTags(first.cacheRepository)).toHaveLength(1);
    const { cacheRepository } = first;
    const second = start({ repoUrl: name }, { ...otherWorker, cacheRepository });
    expect(await second.end).toMatchObject({ status: "SUCCESS" });
    expect(stepsCached(second)).toEqual([true, true, true]);
    await second.backgroundWork.ended();
    expect(await bench.leftFolders()).toEqual([]);
  });

  test("a new branch starts with the default branch's cache, and writes to its own tag", async () => {
    const { name } = await bench.createSample();
    const first = await stored({ repoUrl: name });
    const { cacheRepository } = first;
    await bench.git.commit(name, { "NEWS.md": "new\n" }, { branch: "other" });
    const second = start({ repoUrl: name, branch: "other" }, { ...otherWorker, cacheRepository });
    expect(await second.end).toMatchObject({ status: "SUCCESS" });
    expect(stepsCached(second)).toEqual([true, true, true]);
    await second.backgroundWork.ended();
    expect(await bench.registry.listTags(cacheRepository)).toHaveLength(2);
  });

  inFullCheck().test(
    "the default branch is the one that the repository's HEAD names, whatever its name",
    async () => {
      const name = bench.unique("acme/app");
      await bench.git.createRepository(name, await sampleRepository({ greeting: name }), { branch: "trunk" });
      const { cacheRepository } = await stored({ repoUrl: name, branch: "trunk" });
      await bench.git.commit(name, { "NEWS.md": "new\n" }, { branch: "other" });
      const second = start({ repoUrl: name, branch: "other" }, { ...otherWorker, cacheRepository });
      expect(await second.end).toMatchObject({ status: "SUCCESS" });
      expect(stepsCached(second)).toEqual([true, true, true]);
      await second.backgroundWork.ended();
    },
  );

  test("when HEAD names no branch, a branch reads only its own cache", async () => {
    const { name } = await bench.createSample();
    const { cacheRepository } = await stored({ repoUrl: name });
    await bench.git.commit(name, { "NEWS.md": "new\n" }, { branch: "other" });
    await bench.git.detachHead(name);
    const second = start({ repoUrl: name, branch: "other" }, { ...otherWorker, cacheRepository });
    expect(await second.end).toMatchObject({ status: "SUCCESS" });
    expect(stepsCached(second)).toEqual([false, false, false]);
    expect(second.lines.join("\n")).toContain("default branch unknown");
    await second.backgroundWork.ended();
  });

  test("the result does not wait for the export, and the run's folder is removed after it", async () => {
    const { name } = await bench.createSample();
    const cacheRepository = bench.unique("cache");
    const held = bench.proxy.hold({ method: "POST", path: new RegExp(`^/v2/${cacheRepository}/`) });
    const run = start({ repoUrl: name }, { cacheRepository });
    expect(await run.end).toMatchObject({ status: "SUCCESS" });
    await held.arrived;
    expect(await bench.leftFolders()).toHaveLength(1);
    expect(await bench.registry.listTags(cacheRepository)).toEqual([]);
    held.release();
    await run.backgroundWork.ended();
    expect(run.logged).toEqual([]);
    expect(await bench.registry.listTags(cacheRepository)).toHaveLength(1);
    expect(await bench.leftFolders()).toEqual([]);
  });

  test("a stopping worker aborts the export, and removes the run's folder", async () => {
    const { name } = await bench.createSample();
    const cacheRepository = bench.unique("cache");
    const held = bench.proxy.hold({ method: "POST", path: new RegExp(`^/v2/${cacheRepository}/`) });
    const run = start({ repoUrl: name }, { cacheRepository });
    expect(await run.end).toMatchObject({ status: "SUCCESS" });
    await held.arrived;
    await run.backgroundWork.stop();
    expect(await bench.leftFolders()).toEqual([]);
    expect(run.logged.join()).toContain("the worker stops");
    held.release();
  });

  test("a failing build exports no cache, and is cleaned up at once", async () => {
    const { name } = await bench.createSample({ variant: "failing" });
    const run = start({ repoUrl: name });
    expect(await run.end).toMatchObject({ status: "FAILED", failure: { code: "BUILD_FAILED" } });
    expect(await bench.leftFolders()).toEqual([]);
    expect(await bench.registry.listTags(run.cacheRepository)).toEqual([]);
  });

  for (const status of [403, 404, 500])
    inFullCheck(status !== 500).test(
      `a registry that answers ${status} to the export causes only a warning`,
      async () => {
        const { name } = await bench.createSample();
        const cacheRepository = bench.unique("cache");
        bench.proxy.failNext({ path: new RegExp(`^/v2/${cacheRepository}/`), count: 100_000, status });
        const run = start({ repoUrl: name }, { cacheRepository });
        expect(await run.end).toMatchObject({ status: "SUCCESS" });
        await run.backgroundWork.ended();
        bench.proxy.clearFailures();
        expect(run.lines.join("\n")).toMatch(/^#\d+ no cache there: /m);
        expect(run.logged.join()).toContain("build cache not stored");
        expect(await bench.leftFolders()).toEqual([]);
      },
    );

  inFullCheck().test("a build ignores a tag that contains no cache", async () => {
    const { name } = await bench.createSample();
    const image = await stored({ repoUrl: name });
    const { cacheRepository } = image;
    const [tag = ""] = await bench.registry.listTags(cacheRepository);
    const digest = await pushText(cacheRepository, "no cache at all");
    const layer = { mediaType: "application/octet-stream", digest, size: 15 };
    const mediaType = "application/vnd.oci.image.manifest.v1+json";
    const body = JSON.stringify({ schemaVersion: 2, mediaType, config: layer, layers: [layer] });
    await bench.registry.putManifest(cacheRepository, tag, { mediaType, body, digest: "", json: {} });
    const run = start({ repoUrl: name }, { ...otherWorker, cacheRepository });
    expect(await run.end).toMatchObject({ status: "SUCCESS" });
    await run.backgroundWork.ended();
  });

  test("a build ignores a cache whose layers are missing", async () => {
    const { name } = await bench.createSample();
    const { cacheRepository } = await stored({ repoUrl: name });
    const [tag = ""] = await bench.registry.listTags(cacheRepository);
    const manifest = await bench.registry.getManifest(cacheRepository, tag);
    const layers = manifest?.json.layers ?? [];
    expect(layers.length).toBeGreaterThan(0);
    const blobs = join(bench.registry.storageDir, "docker/registry/v2/blobs/sha256");
    for (const { digest } of layers) {
      const hex = digest.replace("sha256:", "");
      await rm(join(blobs, hex.slice(0, 2), hex), { recursive: true });
    }
    // The registry keeps a list of its blobs in memory.
    await bench.registry.kill();
    await bench.registry.start();
    const run = start({ repoUrl: name }, { ...otherWorker, cacheRepository });
    expect(await run.end).toMatchObject({ status: "SUCCESS" });
    expect(run.lines.join("\n")).toContain("the registry's cache is broken");
    await run.backgroundWork.ended();
    const restored = await bench.registry.getManifest(cacheRepository, tag);
    for (const { digest } of restored?.json.layers ?? []) {
      const path = `/v2/${cacheRepository}/blobs/${digest}`;
      expect((await bench.registry.fetch(path, { method: "HEAD" })).status).toBe(200);
    }
  });

  async function pushText(repository: string, text: string): Promise<string> {
    const digest = `sha256:${new Bun.CryptoHasher("sha256").update(text).digest("hex")}`;
    const begun = await bench.registry.fetch(`/v2/${repository}/blobs/uploads/`, { method: "POST" });
    const upload = new URL(begun.headers.get("location") ?? "", bench.registry.url);
    upload.searchParams.set("digest", digest);
    const put = await bench.registry.fetch(`${upload.pathname}${upload.search}`, {
      method: "PUT",
      body: text,
    });
    expect(put.status).toBe(201);
    return digest;
  }
});
