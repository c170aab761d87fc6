import { chmod, mkdir, rm, symlink } from "node:fs/promises";
import { join } from "node:path";
import {
  type FinishedProcess,
  type RunOptions,
  run,
  startProcess,
  type TestProcess,
} from "../machine/processes.ts";
import { type DiskSize, mountSmallDisk } from "../machine/small-disk.ts";
import { makeTempDir } from "../machine/temp-dir.ts";
import { waitFor } from "../machine/wait-for.ts";
import { makeBridge } from "./docker-bridge.ts";
import { killProcessesOf, removeEngineFolder } from "./docker-cleanup.ts";
import { makeBinDir } from "./docker-client.ts";
import { type DockerEngineName, type DockerPrograms, findDockerPrograms } from "./docker-programs.ts";

export type { DockerEngineName } from "./docker-programs.ts";

/** All that a program needs to use an engine that another program has started. */
export interface DockerEngineAccess {
  readonly engine: DockerEngineName;
  readonly version: string;
  readonly storage: DockerStorage;
  /** The engine's folder, the root of all its files. */
  readonly dir: string;
}

export interface DockerEngine {
  readonly engine: DockerEngineName;
  /** As the daemon reports it, such as "26.1.5+dfsg1". */
  readonly version: string;
  readonly host: string;
  /** The client that belongs to the engine. */
  readonly cli: string;
  /** First in PATH, it makes `docker` that client, with buildx where the engine has it. */
  readonly binDir: string;
  readonly storage: DockerStorage;
  /** The folder of images and build cache. */
  readonly dataRoot: string;
  /** PATH and DOCKER_HOST: all that a program under test needs to use this engine. */
  env(): { PATH: string; DOCKER_HOST: string };
  /** Runs the client, with an empty configuration unless `env` names another. */
  docker(args: readonly string[], options?: RunOptions): Promise<FinishedProcess>;
  /** Sends a request to the daemon's HTTP API; throws unless the status is 2xx. */
  request(method: string, path: string): Promise<Response>;
  /** Stops a dedicated engine and removes everything of it from the machine; returns a borrowed one. */
  stop(): Promise<void>;
}

/** An engine for one test file alone, which may be killed or frozen. */
export interface OwnDockerEngine extends DockerEngine {
  readonly access: DockerEngineAccess;
  /** Kills the daemon without a cleanup; its containers end too. */
  kill(): Promise<void>;
  /** A new daemon on the same images, socket and folders. */
  start(): Promise<void>;
  pause(): void;
  resume(): void;
}

export type DockerStorage = "containerd" | "overlay2";

export interface DockerEngineOptions {
  engine: DockerEngineName;
  /** "containerd" by default where the engine has it. */
  storage?: DockerStorage;
  /** Its data root is a separate file system of this size. */
  dataDisk?: DiskSize;
  /** Variables of its daemon, also read by the daemon's BuildKit. */
  daemonEnv?: Readonly<Record<string, string>>;
  /** Registries that it reaches by plain HTTP, besides those on loopback: hosts or networks. */
  insecureRegistries?: readonly string[];
}

/** Why tests of this engine cannot run here; undefined when they can. */
export async function missingDockerEngine(engine: DockerEngineName): Promise<string | undefined> {
  const found = await findDockerPrograms(engine);
  return found.available ? undefined : found.reason;
}

export const dockerEngineLabel = "docker";

async function writeDaemonConfig(
  dir: string,
  storage: DockerStorage,
  bridge: string,
  insecureRegistries: readonly string[],
): Promise<string> {
  const path = join(dir, "daemon.json");
  const config = {
    hosts: [`unix://${socketOf(dir)}`],
    "data-root": dataRootOf(dir),
    "exec-root": join(dir, "exec"),
    pidfile: join(dir, "dockerd.pid"),
    bridge,
    // Containers of tests need no network, and tests must not change the machine's firewall.
    iptables: false,
    ip6tables: false,
    "ip-masq": false,
    "shutdown-timeout": 3,
    "insecure-registries": insecureRegistries,
    ...(storage === "containerd"
      ? { features: { "containerd-snapshotter": true } }
      : { "storage-driver": "overlay2" }),
  };
  await Bun.write(path, JSON.stringify(config));
  return path;
}

function startDaemon(
  programs: DockerPrograms,
  configPath: string,
  daemonEnv: DockerEngineOptions["daemonEnv"],
): TestProcess {
  return startProcess([programs.dockerd, "--config-file", configPath], {
    env: {
      PATH: [...programs.searchPath, process.env.PATH].join(":"),
      LD_LIBRARY_PATH: programs.libraryPath,
      DOCKER_HOST: undefined,
      // dockerd reads a proxy from the environment, and would use it to connect to a registry on this machine.
      HTTP_PROXY: undefined,
      HTTPS_PROXY: undefined,
      ...daemonEnv,
    },
  });
}

async function daemonVersion(daemon: TestProcess, socket: string): Promise<string> {
  const version = await waitFor(
    async () => {
      if (daemon.exitCode !== null) return "ended";
      const response = await fetch("http://localhost/version", { unix: socket });
      const answer = (await response.json()) as { Version?: string };
      return answer.Version;
    },
    { timeoutMs: 60_000, what: "dockerd to answer" },
  );
  if (version !== "ended") return version;
  throw new Error(`dockerd ended at its start:\n${daemon.lines.slice(-10).join("\n")}`);
}

const socketOf = (dir: string) => join(dir, "docker.sock");
const binDirOf = (dir: string) => join(dir, "bin");
/** Of the engine's client: its logins and builders. */
export const configDirOf = (dir: string) => join(dir, "client");
const dataRootOf = (dir: string) => join(dir, "data");

export function connectDockerEngine({
  engine,
  version,
  storage,
  dir,
}: DockerEngineAccess): Omit<DockerEngine, "stop"> {
  const socket = socketOf(dir);
  const binDir = binDirOf(dir);
  const host = `unix://${socket}`;
  const env = () => ({ PATH: `${binDir}:${process.env.PATH}`, DOCKER_HOST: host });
  return {
    engine,
    version,
    host,
    cli: join(binDir, "docker"),
    binDir,
    storage,
    dataRoot: dataRootOf(dir),
    env,
    docker: (args, runOptions = {}) =>
      run([join(binDir, "docker"), ...args], {
        ...runOptions,
        env: { DOCKER_CONFIG: configDirOf(dir), ...env(), ...runOptions.env },
      }),
    async request(method, path) {
      const response = await fetch(`http://localhost${path}`, { method, unix: socket });
      if (response.ok) return response;
      throw new Error(`dockerd answered ${response.status} to ${method} ${path}: ${await response.text()}`);
    },
  };
}

export async function startDockerEngine(options: DockerEngineOptions): Promise<OwnDockerEngine> {
  const { engine, storage = defaultStorage(engine), dataDisk, daemonEnv, insecureRegistries = [] } = options;
  const found = await findDockerPrograms(engine);
  if (!found.available) throw new Error(found.reason);
  const { programs } = found;

  const { path: dir } = await makeTempDir(dockerEngineLabel);
  let daemon: TestProcess;

  async function start(): Promise<string> {
    daemon = startDaemon(programs, join(dir, "daemon.json"), daemonEnv);
    return daemonVersion(daemon, socketOf(dir));
  }

  async function stop(): Promise<void> {
    await daemon?.stop(10_000);
    await removeEngineFolder(dir);
  }

  try {
    await makeBinDir(binDirOf(dir), programs, configDirOf(dir));
    await mkdir(dataRootOf(dir));
    if (dataDisk) await mountSmallDisk(join(dir, "data.image"), dataRootOf(dir), dataDisk);
    await writeDaemonConfig(dir, storage, await makeBridge(dir), insecureRegistries);
    const access: DockerEngineAccess = { engine, storage, dir, version: await start() };
    return {
      ...connectDockerEngine(access),
      access,
      async kill() {
        await daemon.kill();
        await killProcessesOf(dir);
        // A dockerd that finds these files waits for the previous containerd, even if that is a zombie by now.
        await rm(join(dir, "exec/containerd/containerd.pid"), { force: true });
        await rm(join(dir, "exec/containerd/containerd.sock"), { force: true });
      },
      start: async () => void (await start()),
      pause: () => daemon.pause(),
      resume: () => daemon.resume(),
      stop,
    };
  } catch (error) {
    await stop();
    throw error;
  }
}

/** "containerd" where the engine has it. */
export function defaultStorage(engine: DockerEngineName): DockerStorage {
  return engine === "20.10" ? "overlay2" : "containerd";
}

/** Creates an image to build `FROM` from the machine's static busybox, since no image can be pulled. */
export async function importBaseImage(engine: DockerEngine, name = "busybox-base:latest"): Promise<string> {
  const tree = await makeTempDir("base");
  try {
    const busybox = Bun.which("busybox");
    if (busybox === null) throw new Error("busybox is not installed; the package is busybox-static");
    await Bun.write(join(tree.path, "bin/busybox"), Bun.file(busybox));
    await chmod(join(tree.path, "bin/busybox"), 0o755);
    await symlink("busybox", join(tree.path, "bin/sh"));
    const archive = join(tree.path, "base.tar");
    await run(["tar", "-C", tree.path, "-cf", archive, "bin"]);
    await engine.docker(["import", archive, name]);
    return name;
  } finally {
    await tree.remove();
  }
}

/**
 * The standard output of a container of this image; it must exit with 0. Not by `docker run`, whose connection to the
 * output sometimes loses it when the machine is busy and the container is quick.
 */
export async function containerOutput(
  engine: Pick<DockerEngine, "docker">,
  image: string,
  command: readonly string[] = [],
  options: Pick<RunOptions, "env"> = {},
): Promise<string> {
  const created = await engine.docker(["create", "--network=none", image, ...command], options);
  const container = created.stdout.trim().split("\n").at(-1) ?? "";
  try {
    await engine.docker(["start", container]);
    const status = (await engine.docker(["wait", container])).stdout.trim();
    const { stdout, stderr } = await engine.docker(["logs", container]);
    if (status !== "0") throw new Error(`a container of ${image} exited with ${status}: ${stdout}${stderr}`);
    return stdout;
  } finally {
    await engine.docker(["rm", "--force", container]);
  }
}
