/** Which layers are uploaded: none that the registry already has, whatever the engine has cached. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { missingDockerEngine } from "../../../support/servers/docker-engines.ts";
import { type PipelineBench, type StartedRun, startPipelineBench } from "../pipeline/pipeline-bench.ts";

const reason = await missingDockerEngine("26.1");

describe.skipIf(reason !== undefined)(`layer uploads${reason ? ` (${reason})` : ""}`, () => {
  let bench: PipelineBench;

  beforeAll(async () => {
    bench = await startPipelineBench({ engine: "26.1" });
  });
  afterAll(() => bench?.stop());

  async function layersOf({ job }: StartedRun): Promise<string[]> {
    const stored = await bench.registry.getManifest(job.ecrRepo, job.deploymentVersion);
    return stored?.json.layers?.map(({ digest }) => digest) ?? [];
  }

  /** The digests of all blobs that are uploaded to this repository during `work`. */
  async function uploadsDuring(repository: string, work: () => Promise<unknown>): Promise<string[]> {
    const before = bench.proxy.requests.length;
    await work();
    return bench.proxy.requests
      .slice(before)
      .filter(({ method, path }) => method === "PUT" && path.startsWith(`/v2/${repository}/blobs/uploads/`))
      .map(({ path }) => new URL(path, bench.proxy.url).searchParams.get("digest") ?? "");
  }

  async function pushed(job: Parameters<PipelineBench["start"]>[0]): Promise<StartedRun> {
    const run = bench.start(job);
    expect(await run.end).toMatchObject({ status: "SUCCESS" });
    return run;
  }

  test("the first push uploads each layer once, and another version of the same image uploads none", async () => {
    const { name } = await bench.createSample();
    const ecrRepo = bench.unique("images");
    const job = { repoUrl: name, ecrRepo };
    let first: StartedRun | undefined;
    const sent = await uploadsDuring(ecrRepo, async () => {
      first = await pushed(job);
    });
    const layers = first ? await layersOf(first) : [];
    expect(layers.length).toBeGreaterThan(1);
    expect(sent).toEqual(expect.arrayContaining(layers));
    expect(new Set(sent).size).toBe(sent.length);
    // The image's configuration contains the version, so it is uploaded.
    const sentAgain = await uploadsDuring(ecrRepo, () => pushed(job));
    expect(sentAgain.filter((digest) => layers.includes(digest))).toEqual([]);
  });

  test("an engine that has lost its cache uploads no layer of a base image that the registry has", async () => {
    const { name: baseName } = await bench.createSample();
    const ecrRepo = bench.unique("images");
    const base = await pushed({ repoUrl: baseName, ecrRepo });
    const baseLayers = await layersOf(base);
    await bench.engine.docker(["builder", "prune", "--all", "--force"]);

    const name = bench.unique("acme/app");
    await bench.git.createRepository(name, {
      word: name,
      Dockerfile: `FROM ${bench.proxy.host}/${ecrRepo}:${base.job.deploymentVersion}\nCOPY word /word\n`,
    });
    let run: StartedRun | undefined;
    const sent = await uploadsDuring(ecrRepo, async () => {
      run = await pushed({ repoUrl: name, ecrRepo });
    });
    const layers = run ? await layersOf(run) : [];
    expect(layers).toHaveLength(baseLayers.length + 1);
    expect(layers).toEqual(expect.arrayContaining(baseLayers));
    // The layer that the image adds, and the image's configuration.
    expect(sent).toHaveLength(2);
    expect(sent).toContain(layers.at(-1) ?? "");
  });
});
