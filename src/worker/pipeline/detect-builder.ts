import { mkdir, mkdtemp, realpath, rm } from "node:fs/promises";
import { delimiter, join } from "node:path";
import { canonicalPlatforms } from "../../shared/platforms.ts";
import { isNewEnough } from "./buildx-version.ts";
import { type ChildEnvironment, childEnvironment, type HostEnvironment } from "./child-environment.ts";
import { DirectBuilder } from "./direct-builder.ts";
import type { ImageBuilder } from "./image-builder.ts";
import { LocalBuilder } from "./local-builder.ts";
import { runInGroup } from "./process-group.ts";

export interface DetectBuilderOptions {
  readonly hostEnvironment: HostEnvironment;
  /** For a short-lived folder. */
  readonly workDir: string;
  readonly signal: AbortSignal;
}

/** No docker on this host can build for us. The message names each that was looked at, and the remedy. */
export class NoUsableBuilder extends Error {
  override readonly name = "NoUsableBuilder";
}

/** What is read of `docker info`. */
interface DockerInfo {
  readonly ServerVersion?: string;
  readonly OSType?: string;
  readonly Architecture?: string;
  readonly ServerErrors?: readonly string[];
  readonly DriverStatus?: readonly (readonly [string, string])[] | null;
  readonly ClientInfo?: {
    readonly Plugins?:
      | readonly { readonly Name: string; readonly Path?: string; readonly Err?: string }[]
      | null;
  };
}

/** The client looked at, and either a builder or what it lacks. */
interface Candidate {
  readonly path: string;
  readonly builder?: ImageBuilder;
  readonly lacks?: string;
}

/** What building takes in any case. */
const ENGINES_OWN = { multiPlatform: false, provenance: false, secrets: true, registryCache: false };

const CONTAINERD_STORE = "io.containerd.snapshotter.v1";
const FIRST_CLIENT_WITHOUT_BUILDKIT = 23;
const LOOK_TIMEOUT_MS = 20_000;
const REMEDY =
  "Install the package docker-buildx-plugin (Debian: docker-buildx), start the engine, and set DOCKER_HOST if its socket is not the default one; engines with the containerd image store push fastest";

/**
 * Looks at every docker in PATH, since a newer client without buildx may stand before an older one that can build,
 * and takes the best way that any of them offers.
 */
export async function detectBuilder(options: DetectBuilderOptions): Promise<ImageBuilder> {
  await mkdir(options.workDir, { recursive: true });
  const scratch = await mkdtemp(join(options.workDir, "detect-"));
  try {
    const look = new DockerLook(options, scratch);
    const candidates: Candidate[] = [];
    for (const path of await dockersInPath(options.hostEnvironment.PATH ?? "")) {
      candidates.push(await look.at(path));
    }
    const builders = candidates.flatMap(({ builder }) => builder ?? []);
    const best = builders.find(({ kind }) => kind === "direct") ?? builders[0];
    if (best) return best;
    const found = candidates.map(({ path, lacks }) => `${path}: ${lacks}`).join("; ");
    throw new NoUsableBuilder(`no docker here can build images (${found || "none in PATH"}). ${REMEDY}.`);
  } finally {
    await rm(scratch, { recursive: true, force: true });
  }
}

async function dockersInPath(searchPath: string): Promise<string[]> {
  const found = new Map<string, string>();
  for (const folder of searchPath.split(delimiter).filter((name) => name !== "")) {
    const path = join(folder, "docker");
    const real = await realpath(path).catch(() => undefined);
    // /bin is often a link to /usr/bin: the same program twice.
    if (real !== undefined && !found.has(real)) found.set(real, path);
  }
  return [...found.values()];
}

class DockerLook {
  readonly #environment: ChildEnvironment;
  readonly #scratch: string;
  readonly #signal: AbortSignal;

  constructor({ hostEnvironment, signal }: DetectBuilderOptions, scratch: string) {
    this.#scratch = scratch;
    this.#signal = signal;
    // Plugins may be installed for the user alone; all else of the user's configuration is left aside, as in a run.
    const { HOME = scratch, DOCKER_CONFIG = join(HOME, ".docker") } = hostEnvironment;
    this.#environment = { ...childEnvironment(hostEnvironment, HOME), DOCKER_CONFIG };
  }

  async at(path: string): Promise<Candidate> {
    try {
      const clientVersion = await this.#output([path, "version", "--format={{.Client.Version}}"]);
      const info = JSON.parse(await this.#output([path, "info", "--format={{json .}}"])) as DockerInfo;
      if (!info.ServerVersion) return { path, lacks: info.ServerErrors?.join(" ") ?? "no engine answers it" };
      return await this.#builder(path, clientVersion, info);
    } catch (error) {
      this.#signal.throwIfAborted();
      return { path, lacks: error instanceof Error ? error.message : String(error) };
    }
  }

  async #builder(path: string, clientVersion: string, info: DockerInfo): Promise<Candidate> {
    const buildx = await this.#buildx(info);
    const platforms = canonicalPlatforms([`${info.OSType}/${info.Architecture}`]);
    const capabilities = { ...ENGINES_OWN, platforms };
    const client = `docker ${clientVersion} at ${path}, engine ${info.ServerVersion}`;
    if (buildx && usesContainerdStore(info)) {
      const description = `${client}, ${buildx.version}, containerd image store`;
      return {
        path,
        builder: new DirectBuilder(buildx.path, description, {
          ...capabilities,
          provenance: true,
          registryCache: true,
        }),
      };
    }
    if (buildx) {
      const programs = { dockerPath: path, buildxPath: buildx.path };
      return {
        path,
        builder: new LocalBuilder(
          programs,
          `${client}, ${buildx.version}, without the containerd image store`,
          capabilities,
        ),
      };
    }
    if (Number.parseInt(clientVersion, 10) < FIRST_CLIENT_WITHOUT_BUILDKIT) {
      const description = `${client}, its own BuildKit client`;
      return { path, builder: new LocalBuilder({ dockerPath: path }, description, capabilities) };
    }
    return { path, lacks: `docker ${clientVersion} has no working buildx plugin of 0.13 or newer` };
  }

  async #buildx({ ClientInfo }: DockerInfo): Promise<{ path: string; version: string } | undefined> {
    const plugin = ClientInfo?.Plugins?.find(({ Name, Err }) => Name === "buildx" && !Err);
    if (!plugin?.Path) return undefined;
    // The program itself: called through docker it would be looked for in each run's own configuration.
    const path = await realpath(plugin.Path);
    const words = await this.#output([path, "version"]);
    const version = words.split(" ").slice(0, 2).join(" ").replace(/^.*\//, "");
    return isNewEnough(version) ? { path, version } : undefined;
  }

  async #output(argv: [string, ...string[]]): Promise<string> {
    const signal = AbortSignal.any([this.#signal, AbortSignal.timeout(LOOK_TIMEOUT_MS)]);
    const end = await runInGroup({ argv, cwd: this.#scratch, environment: this.#environment, signal });
    const output = end.stdoutTail.join("\n").trim();
    // `docker version` and `docker info` print what they know of the client also when no engine answers.
    if (output !== "") return output;
    throw new Error(end.stderrTail.join(" ") || `${argv.join(" ")} ended with status ${end.exitCode}`);
  }
}

function usesContainerdStore({ DriverStatus }: DockerInfo): boolean {
  return DriverStatus?.some(([, value]) => value === CONTAINERD_STORE) ?? false;
}
