import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { mkdir, symlink } from "node:fs/promises";
import { join } from "node:path";
import {
  type DetectBuilderOptions,
  detectBuilder,
} from "../../../../../src/worker/buildkit/builders/detect.ts";
import { buildxProgram } from "../../../../support/servers/docker-programs.ts";
import { type PipelineBench, startPipelineBench } from "../../pipeline/pipeline-bench.ts";
import { type BuildSiteOptions, missingForSite } from "../build-site.ts";

setDefaultTimeout(120_000);

const sites = {
  remote: { engine: "26.1", buildKit: "remote" },
  container: { engine: "26.1", buildKit: "container" },
} satisfies Record<string, BuildSiteOptions>;
const missing = await missingForSite(sites.remote);
const reason = missing ? ` (${missing})` : "";

let bench: PipelineBench;

const detect = (options: Partial<DetectBuilderOptions> = {}) =>
  detectBuilder({
    hostEnvironment: bench.hostEnvironment,
    workDir: bench.workDir,
    location: bench.site.location,
    driverOptions: bench.site.driverOptions,
    signal: new AbortController().signal,
    ...options,
  });

describe.skipIf(missing !== undefined)(`a BuildKit at an address${reason}`, () => {
  beforeAll(async () => {
    bench = await startPipelineBench(sites.remote);
  });
  afterAll(() => bench?.stop());

  test("is used without a call to the engine that DOCKER_HOST names", async () => {
    let connectionCount = 0;
    const engine = Bun.listen({
      hostname: "127.0.0.1",
      port: 0,
      // Accepts connections and never answers.
      socket: { open: () => void connectionCount++, data: () => undefined },
    });
    try {
      const hostEnvironment = { ...bench.hostEnvironment, DOCKER_HOST: `tcp://127.0.0.1:${engine.port}` };
      const builder = await detect({ hostEnvironment });
      const { name } = await bench.createSample();
      const run = bench.start({ repoUrl: name }, { parts: { builder, hostEnvironment } });
      expect(await run.end).toMatchObject({ status: "SUCCESS" });
      expect(connectionCount).toBe(0);
    } finally {
      engine.stop(true);
    }
  });

  test("needs no docker, only buildx", async () => {
    const PATH = join(bench.workDir, "only-buildx");
    await mkdir(PATH);
    await symlink(await buildxProgram(), join(PATH, "docker-buildx"));
    const { description, location } = await detect({ hostEnvironment: { PATH } });
    expect(description).toMatch(/^buildx [\w.+-]+, BuildKit at an address, v0\./);
    expect(location).toMatch(/^BuildKit at unix:\/\/\S+$/);
  });

  test("accepts only the options of its driver", async () => {
    await expect(detect({ driverOptions: ["colour=blue"] })).rejects.toThrow("invalid driver option colour");
  });
});

describe.skipIf(missing !== undefined)(`a BuildKit in a container${reason}`, () => {
  beforeAll(async () => {
    bench = await startPipelineBench(sites.container);
  });
  afterAll(() => bench?.stop());

  const containers = async (...flags: string[]) => {
    const { stdout } = await bench.engine.docker([
      "ps",
      "--no-trunc",
      "--format={{.ID}} {{.Names}}",
      ...flags,
    ]);
    return stdout.trim().split("\n").toSorted();
  };

  test("is shared by all workers on one work folder, one after the other or at once", async () => {
    const before = await containers();
    expect(before).toHaveLength(1);
    expect(before[0]).toMatch(/ buildx_buildkit_blacktree-[0-9a-f]{16}0$/);
    await Promise.all([detect(), detect()]);
    expect(await containers("--all")).toEqual(before);
  });

  test("is a different one with other options, or for another work folder", async () => {
    const before = await containers();
    await detect({ driverOptions: [...bench.site.driverOptions, "memory=1g"] });
    await detect({ workDir: join(bench.workDir, "other") });
    const now = await containers();
    expect(now).toHaveLength(before.length + 2);
    expect(now).toEqual(expect.arrayContaining(before));
  });

  test("is started again, with its cache, after its container was removed", async () => {
    const { name } = await bench.createSample();
    expect(await bench.start({ repoUrl: name }).end).toMatchObject({ status: "SUCCESS" });
    const ids = (await containers()).map((line) => line.split(" ")[0] ?? "");
    await bench.engine.docker(["rm", "--force", ...ids]);
    const again = bench.start({ repoUrl: name });
    expect(await again.end).toMatchObject({ status: "SUCCESS" });
    expect(again.lines).toContain("3 steps, 3 cached");
  });
});
