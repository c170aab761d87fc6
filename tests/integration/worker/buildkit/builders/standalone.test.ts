import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdir, symlink } from "node:fs/promises";
import { connect, createServer } from "node:net";
import { join } from "node:path";
import {
  type DetectBuilderOptions,
  detectBuilder,
} from "../../../../../src/worker/buildkit/builders/detect.ts";
import { childEnvironment } from "../../../../../src/worker/process/child-environment.ts";
import { buildxProgram } from "../../../../support/servers/docker-programs.ts";
import { type PipelineBench, startPipelineBench } from "../../pipeline/pipeline-bench.ts";
import { type BuildSiteOptions, missingForSite } from "../build-site.ts";

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
    scratchParent: bench.workDir,
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

  test("has an identity while it runs", async () => {
    const signal = new AbortController().signal;
    const environment = childEnvironment(bench.hostEnvironment, bench.workDir);
    const identity = async (address: string) => {
      const builder = await detect({ location: { kind: "remote", address } });
      return () => builder.identity({ cwd: bench.workDir, environment, signal });
    };
    const { location } = bench.site;
    if (location.kind !== "remote") throw new Error("the site has a remote BuildKit");
    const path = join(bench.workDir, "relay.sock");
    const target = location.address.replace("unix://", "");
    const relay = createServer((client) => {
      const server = connect(target);
      client.pipe(server).pipe(client);
      for (const socket of [client, server]) socket.on("error", () => socket.destroy());
    });
    await new Promise<void>((resolve) => relay.listen(path, resolve));
    const ask = await identity(`unix://${path}`);
    const first = await ask();
    expect(first).toContain("Platforms:");
    expect(await ask()).toBe(first);
    await new Promise((resolve) => relay.close(resolve));
    await expect(ask()).rejects.toThrow();
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
    const workDir = join(bench.workDir, "other");
    await mkdir(workDir);
    await detect({ workDir });
    const now = await containers();
    expect(now).toHaveLength(before.length + 2);
    expect(now).toEqual(expect.arrayContaining(before));
  });

  test("uses the worker's proxies, which are in no argument list", async () => {
    const before = await containers();
    const proxies = {
      HTTPS_PROXY: "http://user:hidden@proxy.test:3128",
      no_proxy: "localhost,registry.test",
    };
    await detect({ hostEnvironment: { ...bench.hostEnvironment, ...proxies } });
    const [added = ""] = (await containers()).filter((line) => !before.includes(line));
    const [id = ""] = added.split(" ");
    const format = "--format={{json .Config.Env}}";
    const { stdout } = await bench.engine.docker(["inspect", format, id]);
    const expected = Object.entries(proxies).map(([name, value]) => `${name}=${value}`);
    expect(JSON.parse(stdout)).toEqual(expect.arrayContaining(expected));
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
