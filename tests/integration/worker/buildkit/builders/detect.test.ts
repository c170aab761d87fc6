import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { chmod, mkdir, readdir, symlink } from "node:fs/promises";
import { join } from "node:path";
import { NoUsableBuilder } from "../../../../../src/worker/buildkit/builder.ts";
import {
  type DetectBuilderOptions,
  detectBuilder,
} from "../../../../../src/worker/buildkit/builders/detect.ts";
import { requireSourcePolicy } from "../../../../../src/worker/buildkit/builders/source-policy-probe.ts";
import { makeTempDir, type TempDir } from "../../../../support/machine/temp-dir.ts";
import { type DockerEngine, missingDockerEngine } from "../../../../support/servers/docker-engines.ts";
import { buildxProgram, findDockerPrograms } from "../../../../support/servers/docker-programs.ts";
import { borrowDockerEngine } from "../../../../support/servers/pool.ts";

const signal = new AbortController().signal;
let dir: TempDir;

beforeAll(async () => {
  dir = await makeTempDir("detect");
  await mkdir(join(dir.path, "work"));
});
afterAll(() => dir.remove());

const detect = (
  hostEnvironment: Record<string, string | undefined>,
  requirements: Pick<DetectBuilderOptions, "inCgroup" | "network"> = {},
) =>
  detectBuilder({
    hostEnvironment,
    ...requirements,
    workDir: join(dir.path, "work"),
    scratchParent: join(dir.path, "work"),
    location: { kind: "engine" },
    driverOptions: [],
    signal,
  });

/** A client that prints the given version, info, and components of its engine. */
async function fakeDocker(
  name: string,
  version: string,
  info: unknown,
  components = ["Engine"],
): Promise<string> {
  const path = join(dir.path, name, "docker");
  const script = `#!/bin/sh
case "$1" in
  --version) echo "Docker version ${version}, build 1" ;;
  version) echo "${components.join("\n")}" ;;
  *) /bin/cat <<'END'
${JSON.stringify(info)}
END
esac
`;
  await Bun.write(path, script);
  await chmod(path, 0o755);
  return join(dir.path, name);
}

test("without docker in PATH, the error says so", async () => {
  await expect(detect({ PATH: "/nowhere" })).rejects.toThrow(NoUsableBuilder);
  await expect(detect({ PATH: "/nowhere" })).rejects.toThrow("none in PATH");
});

test("each probed docker is named, with its problem and the remedy", async () => {
  const old = await fakeDocker("silent", "20.10.24", {
    ServerErrors: ["Cannot connect to the Docker daemon"],
  });
  const bare = await fakeDocker("bare", "28.2.2", { ServerVersion: "28.2.2", ClientInfo: { Plugins: [] } });
  const message = await detect({ PATH: `${old}:${bare}:/usr/bin-not` }).then(
    () => "",
    (error: Error) => error.message,
  );
  expect(message).toContain(`${old}/docker: Cannot connect to the Docker daemon`);
  expect(message).toContain(`${bare}/docker: docker 28.2.2 has no working buildx plugin`);
  expect(message).toContain("docker-buildx");
  expect(await readdir(join(dir.path, "work"))).toEqual([]);
});

test("Podman, by its docker command and by its API, is named with the remedy", async () => {
  const remedy = "Use Docker Engine, or run BuildKit and set BLACKTREE_BUILDER to its address";
  const podman = join(dir.path, "podman", "docker");
  await Bun.write(podman, "#!/bin/sh\necho podman version 4.3.1\n");
  await chmod(podman, 0o755);
  const command = detect({ PATH: join(dir.path, "podman") });
  await expect(command).rejects.toThrow(`${podman}: it is Podman's docker command. ${remedy}`);
  const client = await fakeDocker("to-podman", "26.1.5", { ServerVersion: "4.3.1" }, [
    "Podman Engine",
    "Conmon",
  ]);
  const api = detect({ PATH: client });
  await expect(api).rejects.toThrow(
    `${client}/docker: the engine is Podman 4.3.1, which has no BuildKit. ${remedy}`,
  );
});

/** A home of the worker's account, and what the probe has written there. */
async function accountHome(name: string) {
  const home = join(dir.path, name);
  await mkdir(home);
  return { home, written: () => readdir(home, { recursive: true }) };
}

for (const name of ["20.10", "26.1"] as const) {
  const reason = await missingDockerEngine(name);
  describe.skipIf(reason !== undefined)(`with Docker ${name}${reason ? ` (${reason})` : ""}`, () => {
    let engine: DockerEngine;

    beforeAll(async () => {
      engine = await borrowDockerEngine(name);
    });
    afterAll(() => engine?.stop());

    test("a client without buildx that is first in PATH does not hide one that can build", async () => {
      const bare = await fakeDocker("first", "28.2.2", { ServerVersion: "1", ClientInfo: { Plugins: [] } });
      const { PATH, DOCKER_HOST } = engine.env();
      const builder = await detect({ PATH: `${bare}:${PATH}`, DOCKER_HOST });
      expect(builder.kind).toBe(name === "20.10" ? "local" : "direct");
      expect(builder.description).toContain(engine.version);
    });

    if (name === "26.1")
      test("no client is probed behind one that pushes directly", async () => {
        const behind = join(dir.path, "behind");
        await Bun.write(join(behind, "docker"), `#!/bin/sh\necho called > ${behind}/called\nexit 1\n`);
        await chmod(join(behind, "docker"), 0o755);
        const { PATH, DOCKER_HOST } = engine.env();
        const builder = await detect({ PATH: `${engine.binDir}:${behind}:${PATH}`, DOCKER_HOST });
        expect(builder.kind).toBe("direct");
        expect(await readdir(behind)).toEqual(["docker"]);
      });

    test("nothing is written to the home of the worker's account", async () => {
      const { home, written } = await accountHome(`home-${name}`);
      const builder = await detect({ ...engine.env(), HOME: home });
      expect(builder.description).toContain(engine.version);
      expect(await written()).toEqual([]);
    });

    test("when builds have to run in a control group, an engine that ignores control groups is not used", async () => {
      const found = detect(engine.env(), { inCgroup: true });
      if (name === "20.10") {
        await expect(found).rejects.toThrow(NoUsableBuilder);
        await expect(found).rejects.toThrow(`engine ${engine.version} ignores control groups`);
      } else {
        expect((await found).kind).toBe("direct");
      }
    });
  });
}

const noTwoEngines = (await missingDockerEngine("20.10")) ?? (await missingDockerEngine("26.1"));
test.skipIf(noTwoEngines !== undefined)(
  "when builds have no network, an engine that would let ADD fetch URLs is not used",
  async () => {
    const [old, current] = await Promise.all([borrowDockerEngine("20.10"), borrowDockerEngine("26.1")]);
    try {
      const network = { network: "none" } as const;
      await expect(detect(old.env(), network)).rejects.toThrow("BLACKTREE_BUILD_NETWORK=none needs buildx");
      const newClient = { ...current.env(), DOCKER_HOST: old.env().DOCKER_HOST };
      expect((await detect(newClient)).kind).toBe("local");
      await expect(detect(newClient, network)).rejects.toThrow(NoUsableBuilder);
      await expect(detect(newClient, network)).rejects.toThrow(`engine ${old.version} is too old`);
      // Its BuildKit ignores the policy that buildx sends.
      const environment = { ...newClient, HOME: dir.path };
      const probe = requireSourcePolicy({
        buildxPath: await buildxProgram(),
        environment,
        scratch: dir.path,
        signal,
      });
      await expect(probe).rejects.toThrow("BuildKit does not deny the sources of builds");
      expect((await detect(current.env(), network)).kind).toBe("direct");
    } finally {
      await Promise.all([old.stop(), current.stop()]);
    }
  },
);

test("buildx on an engine without the containerd image store builds locally", async () => {
  const reason = await missingDockerEngine("26.1");
  if (reason !== undefined) return;
  const engine = await borrowDockerEngine("26.1", "overlay2");
  try {
    const builder = await detect({ ...engine.env() });
    expect(builder.kind).toBe("local");
    expect(builder.description).toContain("buildx");
  } finally {
    await engine.stop();
  }
});

test("a buildx plugin that only the worker's account has is used", async () => {
  const found = await findDockerPrograms("26.1");
  if (!found.available) return;
  const engine = await borrowDockerEngine("26.1");
  try {
    const { home } = await accountHome("plugin-home");
    const plugins = join(home, ".docker/cli-plugins");
    await mkdir(plugins, { recursive: true });
    await symlink(await buildxProgram(), join(plugins, "docker-buildx"));
    const PATH = join(dir.path, "plain-client");
    await mkdir(PATH);
    await symlink(found.programs.docker, join(PATH, "docker"));
    const builder = await detect({ PATH, HOME: home, DOCKER_HOST: engine.env().DOCKER_HOST });
    expect(builder.description).toContain("buildx");
    expect(await readdir(join(home, ".docker"))).toEqual(["cli-plugins"]);
  } finally {
    await engine.stop();
  }
});

const noBuildx = await missingDockerEngine("26.1");
describe.skipIf(noBuildx !== undefined)(`a standalone BuildKit${noBuildx ? ` (${noBuildx})` : ""}`, () => {
  const absent = { location: { kind: "remote", address: "unix:///nowhere/buildkitd.sock" } } as const;
  const without = { workDir: "", driverOptions: [], signal };

  test("needs buildx, and the error says so when it is missing", async () => {
    const options = {
      ...without,
      ...absent,
      workDir: join(dir.path, "work"),
      scratchParent: join(dir.path, "work"),
    };
    const found = detectBuilder({ ...options, hostEnvironment: { PATH: "/nowhere" } });
    await expect(found).rejects.toThrow(NoUsableBuilder);
    await expect(found).rejects.toThrow("docker-buildx");
  });

  test("that does not answer is named in the error", async () => {
    const PATH = join(dir.path, "standalone");
    await mkdir(PATH);
    await symlink(await buildxProgram(), join(PATH, "buildx"));
    const options = {
      ...without,
      ...absent,
      workDir: join(dir.path, "work"),
      scratchParent: join(dir.path, "work"),
    };
    const found = detectBuilder({ ...options, hostEnvironment: { PATH } });
    await expect(found).rejects.toThrow(NoUsableBuilder);
    await expect(found).rejects.toThrow(
      /BuildKit at unix:\/\/\/nowhere\/buildkitd\.sock does not answer buildx /,
    );
    expect(await readdir(join(dir.path, "work"))).toEqual([]);
  });

  test("with invalid options is an error, and the engine's BuildKit is not used instead", async () => {
    const engine = await borrowDockerEngine("26.1");
    try {
      const found = detectBuilder({
        hostEnvironment: engine.env(),
        workDir: join(dir.path, "work"),
        scratchParent: join(dir.path, "work"),
        location: { kind: "container" },
        driverOptions: ["colour=blue"],
        signal,
      });
      await expect(found).rejects.toThrow("invalid driver option colour");
    } finally {
      await engine.stop();
    }
  });
});
