import { mkdir, rename, rm } from "node:fs/promises";
import { arch, homedir } from "node:os";
import { join } from "node:path";
import { distribution, extractDebianPackages } from "../machine/apt.ts";
import { run } from "../machine/processes.ts";

/** The two generations that Blacktree has to get along with: with and without direct pushes by BuildKit. */
export type DockerEngineName = "20.10" | "26.1";

export interface DockerPrograms {
  dockerd: string;
  docker: string;
  /** Where dockerd has to find containerd, its shim and runc; before everything else in its PATH. */
  searchPath: readonly string[];
  libraryPath?: string;
  /** The buildx plugin, when it is not in a system folder where the client finds it by itself. */
  buildxPlugin?: string;
}

export type DockerAvailability =
  | { available: true; programs: DockerPrograms }
  | { available: false; reason: string };

interface Release {
  suite: string;
  packages: readonly string[];
}

const releases: Record<DockerEngineName, Release> = {
  // libdevmapper is what later releases of Debian do not have installed.
  "20.10": { suite: "bookworm", packages: ["docker.io", "containerd", "runc", "libdevmapper1.02.1"] },
  // Not runc: that of trixie needs a newer libc than bookworm's.
  "26.1": { suite: "trixie", packages: ["docker.io", "docker-cli", "containerd", "docker-buildx"] },
};

// Distributions install these by their packages; a client in /usr/local/bin is somebody else's.
const installedDockerd = "/usr/sbin/dockerd";
const installedDocker = "/usr/bin/docker";

const systemPluginFolders = [
  "/usr/local/lib/docker/cli-plugins",
  "/usr/local/libexec/docker/cli-plugins",
  "/usr/lib/docker/cli-plugins",
  "/usr/libexec/docker/cli-plugins",
];

async function installedVersion(): Promise<string | undefined> {
  for (const dockerd of [installedDockerd, "/usr/bin/dockerd"]) {
    if (!(await Bun.file(dockerd).exists())) continue;
    const { stdout } = await run([dockerd, "--version"]);
    return /version v?(\d+\.\d+)/.exec(stdout)?.[1];
  }
  return undefined;
}

async function installedBuildx(): Promise<string | undefined> {
  for (const folder of systemPluginFolders) {
    const path = join(folder, "docker-buildx");
    if (await Bun.file(path).exists()) return path;
  }
  return undefined;
}

export async function hasInstalledBuildx(): Promise<boolean> {
  return (await installedBuildx()) !== undefined;
}

async function installedPrograms(engine: DockerEngineName): Promise<DockerPrograms | undefined> {
  const version = await installedVersion();
  if (version === undefined) return undefined;
  const dockerd = (await Bun.file(installedDockerd).exists()) ? installedDockerd : "/usr/bin/dockerd";
  const programs = { dockerd, docker: installedDocker, searchPath: ["/usr/sbin", "/usr/bin"] };
  if (engine === "20.10") return version === "20.10" ? programs : undefined;
  // Ubuntu's engines are newer than 26.1 and behave like it in all that Blacktree relies on.
  const isModern = Number.parseInt(version, 10) >= 26 && (await hasInstalledBuildx());
  return isModern ? programs : undefined;
}

/** Shared by all checkouts: what is expensive to get, and the same for everybody. */
export function testCacheFolder(): string {
  const base = process.env.XDG_CACHE_HOME ?? join(homedir(), ".cache");
  return join(base, "blacktree-tests");
}

async function extractedTree(engine: DockerEngineName): Promise<string> {
  const { codename } = await distribution();
  const tree = join(testCacheFolder(), `docker-${engine}-${codename}-${arch()}`);
  if (await Bun.file(join(tree, "usr/sbin/dockerd")).exists()) return tree;
  // Several test runs may come here at once. Each fills a folder of its own; the first rename wins.
  const unfinished = `${tree}.${process.pid}.unfinished`;
  await mkdir(unfinished, { recursive: true });
  try {
    await extractDebianPackages(releases[engine].packages, releases[engine].suite, unfinished);
    await rename(unfinished, tree).catch(async (error) => {
      if (!(await Bun.file(join(tree, "usr/sbin/dockerd")).exists())) throw error;
    });
  } finally {
    await rm(unfinished, { recursive: true, force: true });
  }
  return tree;
}

async function extractedPrograms(engine: DockerEngineName): Promise<DockerPrograms> {
  const tree = await extractedTree(engine);
  const libraries = await Array.fromAsync(
    new Bun.Glob("lib/*-linux-gnu/").scan({ cwd: tree, onlyFiles: false }),
  );
  return {
    dockerd: join(tree, "usr/sbin/dockerd"),
    docker: join(tree, "usr/bin/docker"),
    searchPath: [join(tree, "usr/sbin"), join(tree, "usr/bin"), "/usr/sbin", "/usr/bin", "/sbin", "/bin"],
    libraryPath: libraries[0] && join(tree, libraries[0]),
    buildxPlugin: engine === "26.1" ? join(tree, "usr/libexec/docker/cli-plugins/docker-buildx") : undefined,
  };
}

async function find(engine: DockerEngineName): Promise<DockerAvailability> {
  if (process.getuid?.() !== 0) return { available: false, reason: "dockerd can only be started by root" };
  try {
    const programs = (await installedPrograms(engine)) ?? (await extractedPrograms(engine));
    return { available: true, programs };
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    return { available: false, reason: `Docker ${engine} cannot be had on this machine: ${reason}` };
  }
}

const found = new Map<DockerEngineName, Promise<DockerAvailability>>();

/** The installed engine when it is of this generation, else one unpacked from Debian's packages into the user's cache. */
export function findDockerPrograms(engine: DockerEngineName): Promise<DockerAvailability> {
  const search = found.get(engine) ?? find(engine);
  found.set(engine, search);
  return search;
}

/** buildx itself, which also works without a docker. */
export async function buildxProgram(): Promise<string> {
  const engine = await findDockerPrograms("26.1");
  const path = (engine.available && engine.programs.buildxPlugin) || (await installedBuildx());
  if (!path) throw new Error("there is no buildx on this machine");
  return path;
}
