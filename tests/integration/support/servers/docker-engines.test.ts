import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { mkdir, readdir } from "node:fs/promises";
import { dirname, join } from "node:path";
import { removeAbandoned } from "../../../support/machine/abandoned.ts";
import { inFullCheck } from "../../../support/machine/full-check.ts";
import { type FinishedProcess, run, startProcess } from "../../../support/machine/processes.ts";
import { sampleGreeting, sampleRepository } from "../../../support/machine/sample-repository.ts";
import { makeTempDir, type TempDir } from "../../../support/machine/temp-dir.ts";
import { writeFiles } from "../../../support/machine/write-files.ts";
import {
  containerOutput,
  type DockerEngine,
  type DockerEngineName,
  importBaseImage,
  missingDockerEngine,
  type OwnDockerEngine,
  startDockerEngine,
} from "../../../support/servers/docker-engines.ts";
import { hasInstalledBuildx } from "../../../support/servers/docker-programs.ts";
import { type Registry, startRegistry } from "../../../support/servers/registry.ts";
import { type RegistryProxy, startRegistryProxy } from "../../../support/servers/registry-proxy.ts";

const engineNames: DockerEngineName[] = ["20.10", "26.1"];
const missing = new Map(
  await Promise.all(engineNames.map(async (name) => [name, await missingDockerEngine(name)] as const)),
);

let registry: Registry;
let proxy: RegistryProxy;
let dir: TempDir;

beforeAll(async () => {
  dir = await makeTempDir("builds");
  registry = await startRegistry();
  proxy = await startRegistryProxy(registry);
});
afterAll(async () => {
  await proxy.stop();
  await registry.stop();
  await dir.remove();
});

async function source(variant?: "failing" | "slow"): Promise<string> {
  const path = join(dir.path, crypto.randomUUID());
  await mkdir(path);
  await writeFiles(path, await sampleRepository({ variant }));
  return path;
}

function build(engine: DockerEngine, tag: string, path: string): Promise<FinishedProcess> {
  const plain = engine.engine === "20.10" ? [] : ["--provenance=false"];
  return engine.docker(["build", "--no-cache", ...plain, "--tag", tag, path], {
    env: { DOCKER_BUILDKIT: "1" },
    mayFail: true,
  });
}

function login(engine: DockerEngine, host: string): Promise<FinishedProcess> {
  const { username, password } = registry;
  return engine.docker(["login", "--username", username, "--password-stdin", host], { stdin: password });
}

for (const name of engineNames) {
  // The reason for a skip is in the name, which every reporter shows.
  const reason = missing.get(name);
  const declare = reason === undefined ? inFullCheck(name !== "26.1").describe : describe.skip;
  declare(`Docker ${name}${reason ? ` (${reason})` : ""}`, () => {
    let engine: OwnDockerEngine;

    beforeAll(async () => {
      engine = await startDockerEngine({ engine: name });
    });
    afterAll(() => engine.stop());

    test("has the expected version, with the engine's own client", async () => {
      expect(engine.storage).toBe(name === "20.10" ? "overlay2" : "containerd");
      const { stdout } = await run(
        ["docker", "version", "--format", "{{.Client.Version}} {{.Server.Version}}"],
        {
          env: { ...engine.env(), DOCKER_CONFIG: join(dir.path, "own-config") },
        },
      );
      expect(stdout.trim()).toBe(`${engine.version} ${engine.version}`);
    });

    test("has buildx or not, with any configuration folder", async () => {
      const version = (args: string[], env: Record<string, string>) =>
        run(["docker", ...args, "buildx", "version"], { env: { ...engine.env(), ...env }, mayFail: true });
      const answers = await Promise.all([
        version([], { DOCKER_CONFIG: join(dir.path, `${name}-one`) }),
        version(["--config", join(dir.path, `${name}-two`)], {}),
      ]);
      // Every client finds plugins in the machine's system folders.
      const hasBuildx = name !== "20.10" || (await hasInstalledBuildx());
      expect(answers.map(({ exitCode }) => exitCode === 0)).toEqual([hasBuildx, hasBuildx]);
    });

    test("builds, pushes only with a login, pulls and runs", async () => {
      const tag = `${proxy.host}/app:${name}`;
      expect((await build(engine, tag, await source())).exitCode).toBe(0);
      await engine.docker(["logout", proxy.host]);
      expect((await engine.docker(["push", tag], { mayFail: true })).exitCode).not.toBe(0);
      await login(engine, proxy.host);
      const { stdout } = await engine.docker(["push", tag]);
      const pushed = /digest: (sha256:[0-9a-f]{64}) size: \d+/.exec(stdout)?.[1];
      expect((await registry.getManifest("app", name))?.digest).toBe(pushed ?? "none");

      await engine.docker(["rmi", tag]);
      await engine.docker(["pull", tag]);
      expect((await containerOutput(engine, tag)).trim()).toBe(sampleGreeting);
    });

    inFullCheck().test("reports a failing step", async () => {
      const { exitCode, stderr } = await build(engine, "failing", await source("failing"));
      expect(exitCode).not.toBe(0);
      expect(stderr).toMatch(/exit code: 3/);
    });

    inFullCheck().test("builds from an imported image", async () => {
      const base = await importBaseImage(engine);
      const path = await source();
      await Bun.write(join(path, "Dockerfile"), `FROM ${base}\nRUN echo made upon it > /made\n`);
      expect((await build(engine, "upon-base", path)).exitCode).toBe(0);
      const output = await containerOutput(engine, "upon-base", ["/bin/busybox", "cat", "/made"]);
      expect(output.trim()).toBe("made upon it");
    });

    inFullCheck().test("reports a missing repository, and a tag that cannot be moved", async () => {
      await login(engine, proxy.host);
      proxy.faults.repositories = new Set(["fixed"]);
      proxy.faults.immutableRepositories = proxy.faults.repositories;
      const push = async (tag: string) => {
        expect((await build(engine, `${proxy.host}/${tag}`, await source())).exitCode).toBe(0);
        return engine.docker(["push", `${proxy.host}/${tag}`], { mayFail: true });
      };
      expect((await push("none:1")).exitCode).toBe(1);
      expect((await push(`fixed:${name}`)).exitCode).toBe(0);
      const moved = await push(`fixed:${name}`);
      expect(moved.exitCode).toBe(1);
      // With the containerd store, only the status of the registry's answer is shown.
      expect(moved.stderr).toContain(
        engine.storage === "containerd" ? "400 Bad Request" : "the tag is immutable",
      );
      proxy.faults.repositories = undefined;
      proxy.faults.immutableRepositories = undefined;
    });

    inFullCheck().test("keeps its images when it is killed in a build, and leaves no process", async () => {
      const tag = `kept:${name}`;
      await build(engine, tag, await source());
      const building = startProcess(
        [engine.cli, "build", "--no-cache", "--progress=plain", await source("slow")],
        {
          env: { ...engine.env(), DOCKER_BUILDKIT: "1" },
        },
      );
      await building.waitForLine("this step sleeps");
      await engine.kill();
      expect(await building.exited).not.toBe(0);
      await engine.start();
      expect((await engine.docker(["image", "inspect", tag])).exitCode).toBe(0);
    });
  });
}

describe.skipIf(missing.get("26.1") !== undefined)("buildx with the containerd store", () => {
  let engine: DockerEngine;

  beforeAll(async () => {
    engine = await startDockerEngine({ engine: "26.1" });
    await login(engine, proxy.host);
  });
  afterAll(() => engine.stop());

  async function buildx(output: string): Promise<FinishedProcess & { digest: string | undefined }> {
    const metadata = join(dir.path, `${crypto.randomUUID()}.json`);
    const result = await engine.docker(
      [
        "buildx",
        "build",
        "--provenance=false",
        "--metadata-file",
        metadata,
        "--output",
        output,
        await source(),
      ],
      { mayFail: true },
    );
    if (result.exitCode !== 0) return { ...result, digest: undefined };
    const answer = (await Bun.file(metadata).json()) as { "containerimage.digest": string };
    return { ...result, digest: answer["containerimage.digest"] };
  }

  test("pushes under a tag itself, and leaves no image in the engine", async () => {
    // An empty value means "true" to BuildKit, and nothing to buildx, which would otherwise have dockerd push again.
    const { digest } = await buildx(`type=image,name=${proxy.host}/direct:attempt,push=,store=false`);
    expect((await registry.getManifest("direct", "attempt"))?.digest).toBe(digest ?? "none");
    expect(proxy.tagPuts("direct", "attempt").length).toBe(1);
    expect((await engine.docker(["images", "--all", "--quiet"])).stdout).toBe("");
  });

  test("cannot push by digest through dockerd", async () => {
    const { exitCode, stderr } = await buildx(
      `type=image,name=${proxy.host}/direct,push-by-digest=true,push=true`,
    );
    expect(exitCode).toBe(1);
    expect(stderr).toContain("push-by-digest is currently not implemented for docker driver");
  });
});

describe.skipIf(missing.get("20.10") !== undefined)("an engine's files and processes on the machine", () => {
  const links = async () => (await readdir("/sys/class/net")).filter((link) => link.startsWith("bt"));

  test("are removed by stop", async () => {
    const engine = await startDockerEngine({ engine: "20.10" });
    const folder = dirname(engine.host.replace("unix://", ""));
    expect(existsSync(folder)).toBe(true);
    const bridge = await Bun.file(join(folder, "bridge")).text();
    expect(await links()).toContain(bridge);
    await engine.stop();
    expect(existsSync(folder)).toBe(false);
    expect(await links()).not.toContain(bridge);
  });

  test("are removed by the next run when their run was killed", async () => {
    const module = require.resolve("../../../support/servers/docker-engines.ts");
    const starter = startProcess([
      process.execPath,
      "-e",
      `const { startDockerEngine } = await import(${JSON.stringify(module)});
       const engine = await startDockerEngine({ engine: "20.10" });
       process.stdout.write("host " + engine.host + "\\n");
       setInterval(() => undefined, 1_000);`,
    ]);
    const host = (await starter.waitForLine(/^host /, { timeoutMs: 60_000 })).slice("host unix://".length);
    await starter.kill();
    await removeAbandoned();
    expect(existsSync(dirname(host))).toBe(false);
  });
});
