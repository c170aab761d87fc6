import { arch } from "node:os";
import { join } from "node:path";
import { distribution, extractDebianPackages } from "../machine/apt.ts";
import { cachedFolder, testCacheFolder } from "../machine/cached-folder.ts";
import { run } from "../machine/processes.ts";

/** The two generations that Blacktree supports: without and with direct pushes by BuildKit. */
export type DockerEngineName = "20.10" | "26.1";

export interface DockerPrograms {
  dockerd: string;
  docker: string;
  /** The folders of containerd, its shim and runc for dockerd, before all others in its PATH. */
  searchPath: readonly string[];
  libraryPath?: string;
  /** The buildx plugin, when it is outside the system folders that the client searches. */
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
  // Later releases of Debian do not install libdevmapper.
  "20.10": { suite: "bookworm", packages: ["docker.io", "containerd", "runc", "libdevmapper1.02.1"] },
  // Not runc: that of trixie needs a newer libc than bookworm's.
  "26.1": { suite: "trixie", packages: ["docker.io", "docker-cli", "containerd", "docker-buildx"] },
};

// Distributions install these from their packages; a client in /usr/local/bin has another origin.
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
  // Ubuntu's engines are newer than 26.1 and behave like it in everything that Blacktree relies on.
  const isModern = Number.parseInt(version, 10) >= 26 && (await hasInstalledBuildx());
  return isModern ? programs : undefined;
}

async function extractedTree(engine: DockerEngineName): Promise<string> {
  const { codename } = await distribution();
  const tree = join(testCacheFolder(), `docker-${engine}-${codename}-${arch()}`);
  const { packages, suite } = releases[engine];
  return cachedFolder(tree, "usr/sbin/dockerd", (unfinished) =>
    extractDebianPackages(packages, suite, unfinished),
  );
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
    return { available: false, reason: `Docker ${engine} is not available on this machine: ${reason}` };
  }
}

const found = new Map<DockerEngineName, Promise<DockerAvailability>>();

/** The installed engine if it is of this generation, else one unpacked from Debian's packages into the user's cache. */
export function findDockerPrograms(engine: DockerEngineName): Promise<DockerAvailability> {
  const search = found.get(engine) ?? find(engine);
  found.set(engine, search);
  return search;
}

/** buildx itself, which also works without a docker. */
export async function buildxProgram(): Promise<string> {
  const engine = await findDockerPrograms("26.1");
  const path = (engine.available && engine.programs.buildxPlugin) || (await installedBuildx());
  if (!path) throw new Error("buildx is not installed on this machine");
  return path;
}
