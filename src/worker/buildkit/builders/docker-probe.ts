/** Asks the docker programs of this host for their versions and for the state of the engine. */
import { mkdir, realpath, writeFile } from "node:fs/promises";
import { delimiter, join } from "node:path";
import {
  type ChildEnvironment,
  childEnvironment,
  dockerConfigIn,
  type HostEnvironment,
} from "../../process/child-environment.ts";
import { runInGroup } from "../../process/process-group.ts";
import type { BakeFeatures } from "../build-args.ts";
import { type InspectedBuildKit, readInspection } from "./buildx-inspect.ts";
import { requireSourcePolicy } from "./source-policy-probe.ts";

/** The fields of `docker info` that are read. */
export interface DockerInfo {
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

export interface Buildx {
  readonly path: string;
  /** Such as "buildx 0.13.1". */
  readonly version: string;
  readonly bake: BakeFeatures;
}

export interface DockerProbeOptions {
  readonly hostEnvironment: HostEnvironment;
  /** A folder that is removed after the probe. */
  readonly scratch: string;
  readonly signal: AbortSignal;
}

const PROBE_TIMEOUT_MS = 20_000;
/** Names of buildx where it is installed outside docker's plugin folders. */
const STANDALONE_NAMES = ["docker-buildx", "buildx"];
/** buildx 0.13 is the first that prints its progress in a format for programs. */
const MIN_BUILDX_MINOR = 13;
const BAKES_HOSTS_MINOR = 25;

export class DockerProbe {
  readonly #hostEnvironment: HostEnvironment;
  readonly #environment: ChildEnvironment;
  readonly #scratch: string;
  readonly #signal: AbortSignal;

  private constructor({ hostEnvironment, scratch, signal }: DockerProbeOptions) {
    this.#hostEnvironment = hostEnvironment;
    this.#scratch = scratch;
    this.#signal = signal;
    this.#environment = childEnvironment(hostEnvironment, scratch);
  }

  static async create(options: DockerProbeOptions): Promise<DockerProbe> {
    const config = dockerConfigIn(options.scratch);
    await mkdir(config, { recursive: true });
    const cliPluginsExtraDirs = accountPlugins(options.hostEnvironment);
    await writeFile(join(config, "config.json"), JSON.stringify({ cliPluginsExtraDirs }));
    return new DockerProbe(options);
  }

  /** Every docker in PATH, in the order of PATH. */
  clients(): Promise<string[]> {
    return this.#programs("docker");
  }

  /** The command may be Podman's: some distributions install it as `docker`. */
  async client(docker: string): Promise<{ readonly name: string; readonly version: string }> {
    const output = await this.#output([docker, "--version"]);
    const [, name = "", version = output] = /^(\w+) version ([^\s,]+)/i.exec(output) ?? [];
    return { name: name.toLowerCase(), version };
  }

  /** Such as "Engine" and "containerd", or "Podman Engine". */
  async engineComponents(docker: string): Promise<readonly string[]> {
    const format = "--format={{range .Server.Components}}{{println .Name}}{{end}}";
    return (await this.#output([docker, "version", format])).split("\n");
  }

  async info(docker: string): Promise<DockerInfo> {
    return JSON.parse(await this.#output([docker, "info", "--format={{json .}}"])) as DockerInfo;
  }

  /** The buildx plugin of the client that printed this info. */
  async plugin({ ClientInfo }: DockerInfo): Promise<Buildx | undefined> {
    const plugin = ClientInfo?.Plugins?.find(({ Name, Err }) => Name === "buildx" && !Err);
    // The plugin is called directly: docker would look for it in each run's own configuration.
    return plugin?.Path === undefined ? undefined : this.#buildx(await realpath(plugin.Path));
  }

  /** For a BuildKit that needs no engine: the plugin of any client, or a standalone buildx. */
  async anyBuildx(): Promise<Buildx | undefined> {
    const candidates = [
      ...(await this.clients()).map((docker) => async () => this.plugin(await this.info(docker))),
      ...(await Promise.all(STANDALONE_NAMES.map((name) => this.#programs(name))))
        .flat()
        .map((path) => () => this.#buildx(path)),
    ];
    for (const candidate of candidates) {
      const buildx = await candidate().catch(() => this.#signal.throwIfAborted());
      if (buildx) return buildx;
    }
    return undefined;
  }

  /** The engine's BuildKit, as buildx reports it. */
  async engineBuildKit({ path }: Buildx): Promise<InspectedBuildKit> {
    return readInspection((await this.#output([path, "inspect", "default"])).split("\n"));
  }

  /** @throws Error when the engine's BuildKit cannot deny sources. */
  requireSourcePolicy({ path: buildxPath }: Buildx): Promise<void> {
    const [environment, scratch, signal] = [this.#environment, this.#scratch, this.#signal];
    return requireSourcePolicy({ buildxPath, environment, scratch, signal });
  }

  async #buildx(path: string): Promise<Buildx | undefined> {
    const output = await this.#output([path, "version"]);
    const version = output.split(" ").slice(0, 2).join(" ").replace(/^.*\//, "");
    if (!isAtLeast(version, MIN_BUILDX_MINOR)) return undefined;
    return { path, version, bake: { extraHosts: isAtLeast(version, BAKES_HOSTS_MINOR) } };
  }

  async #programs(name: string): Promise<string[]> {
    const found = new Map<string, string>();
    const folders = (this.#hostEnvironment.PATH ?? "").split(delimiter).filter((folder) => folder !== "");
    for (const folder of folders) {
      const path = join(folder, name);
      const real = await realpath(path).catch(() => undefined);
      // /bin is often a link to /usr/bin: the same program would be listed twice.
      if (real !== undefined && !found.has(real)) found.set(real, path);
    }
    return [...found.values()];
  }

  async #output(argv: [string, ...string[]]): Promise<string> {
    const signal = AbortSignal.any([this.#signal, AbortSignal.timeout(PROBE_TIMEOUT_MS)]);
    const end = await runInGroup({ argv, cwd: this.#scratch, environment: this.#environment, signal });
    const output = end.stdoutTail.join("\n").trim();
    // `docker version` and `docker info` also print the client's part when no engine answers.
    if (output !== "") return output;
    throw new Error(end.stderrTail.join(" ") || `${argv.join(" ")} exited with status ${end.exitCode}`);
  }
}

/** Plugins may be installed for the worker's account only. The rest of its configuration is ignored, as in a run. */
function accountPlugins({ HOME, DOCKER_CONFIG }: HostEnvironment): readonly string[] {
  const config = DOCKER_CONFIG ?? (HOME === undefined ? undefined : dockerConfigIn(HOME));
  return config === undefined ? [] : [join(config, "cli-plugins")];
}

/** `version` is from `buildx version`, such as "v0.13.1". A buildx built from a checkout has no version number. */
export function isAtLeast(version: string, wantedMinor: number): boolean {
  const [, major, minor] = /(\d+)\.(\d+)/.exec(version) ?? [];
  if (major === undefined || (major === "0" && minor === "0")) return true;
  return Number(major) > 0 || Number(minor) >= wantedMinor;
}
