/** A BuildKit that is not the engine's: in a container that buildx starts, or one that the operator runs. */
import { createHash } from "node:crypto";
import { mkdir, realpath } from "node:fs/promises";
import { join } from "node:path";
import { proxyVariables } from "../../../shared/proxies.ts";
import {
  type ChildEnvironment,
  childEnvironment,
  type HostEnvironment,
} from "../../process/child-environment.ts";
import { runInGroup } from "../../process/process-group.ts";
import type { BuildNetwork, ImageBuilder } from "../builder.ts";
import { NoUsableBuilder } from "../builder.ts";
import {
  type DockerVariables,
  type InstanceRecord,
  NO_ENGINE,
  readInstanceRecord,
  recordedInstance,
  withContainerVariables,
} from "../buildx-instance.ts";
import { readInspection } from "./buildx-inspect.ts";
import { DIRECT_CAPABILITIES, DirectBuilder } from "./direct.ts";
import { type Buildx, DockerProbe } from "./docker-probe.ts";
import type { BuilderLocation } from "./location.ts";
import { requirePolicyOrder, requireSourcePolicy } from "./source-policy-probe.ts";

export interface StandaloneBuilderOptions {
  readonly location: Exclude<BuilderLocation, { kind: "engine" }>;
  readonly driverOptions: readonly string[];
  readonly network?: BuildNetwork;
  readonly hostEnvironment: HostEnvironment;
  readonly workDir: string;
  /** A folder that is removed once the builder is known. */
  readonly scratch: string;
  readonly signal: AbortSignal;
}

/** Includes pulling the container's image. */
const START_TIMEOUT_MS = 300_000;
const REMEDY_WITHOUT_BUILDX =
  "buildx 0.13 or newer not found: install docker-buildx-plugin (Debian: docker-buildx), or add buildx to PATH";

/** @throws NoUsableBuilder when buildx is missing, or BuildKit does not answer it. */
export async function standaloneBuilder(options: StandaloneBuilderOptions): Promise<ImageBuilder> {
  const engine = options.location.kind === "remote" ? NO_ENGINE : {};
  const hostEnvironment = { ...options.hostEnvironment, ...engine };
  const probe = await DockerProbe.create({ ...options, hostEnvironment });
  const buildx = await probe.anyBuildx();
  if (!buildx) throw new NoUsableBuilder(REMEDY_WITHOUT_BUILDX);
  try {
    return await new StandaloneBuildKit(options, buildx, engine).builder();
  } catch (error) {
    options.signal.throwIfAborted();
    const reason = error instanceof Error ? error.message : String(error);
    throw new NoUsableBuilder(`${nameOf(options)} does not answer ${buildx.version}: ${reason}`, {
      cause: error,
    });
  }
}

function nameOf({ location }: StandaloneBuilderOptions): string {
  return location.kind === "remote" ? `BuildKit at ${location.address}` : "BuildKit in a container";
}

const PLACES = { container: "BuildKit in a container", remote: "BuildKit at an address" } as const;

class StandaloneBuildKit {
  readonly #options: StandaloneBuilderOptions;
  readonly #buildx: Buildx;
  readonly #engine: DockerVariables;
  readonly #dockerConfig: string;
  readonly #environment: ChildEnvironment;
  /** For BuildKit's own requests: pulls, pushes, ADD. A remote one has those of its service. */
  readonly #proxies: Readonly<Record<string, string>>;

  constructor(options: StandaloneBuilderOptions, buildx: Buildx, engine: DockerVariables) {
    this.#options = options;
    this.#buildx = buildx;
    this.#engine = engine;
    this.#dockerConfig = join(options.scratch, "docker-config");
    this.#proxies = proxyVariables(options.hostEnvironment);
    this.#environment = {
      ...childEnvironment(options.hostEnvironment, options.scratch),
      ...engine,
      DOCKER_CONFIG: this.#dockerConfig,
    };
  }

  async builder(): Promise<ImageBuilder> {
    await mkdir(this.#dockerConfig);
    const record = await this.#record();
    const { version, platforms } = readInspection(await this.#run("inspect", "--bootstrap", record.name));
    const { kind } = this.#options.location;
    const { network, scratch, signal } = this.#options;
    if (network === "none") {
      requirePolicyOrder(version);
      const environment = { ...this.#environment, BUILDX_BUILDER: record.name };
      await requireSourcePolicy({ buildxPath: this.#buildx.path, environment, scratch, signal });
    }
    return new DirectBuilder({
      buildx: this.#buildx,
      instance: recordedInstance(record, this.#engine),
      description: `${this.#buildx.version}, ${PLACES[kind]}, ${version}`,
      location: nameOf(this.#options),
      capabilities: { ...DIRECT_CAPABILITIES, platforms },
    });
  }

  /** Creates buildx's record of the BuildKit, without starting it. */
  async #record(): Promise<InstanceRecord> {
    const { location, driverOptions } = this.#options;
    const name = await this.#name();
    const options = driverOptions.map((option) => `--driver-opt=${option}`);
    const driver =
      location.kind === "remote"
        ? ["--driver=remote", ...options, location.address]
        : ["--driver=docker-container", ...options];
    await this.#run("create", `--name=${name}`, ...driver);
    const record = await readInstanceRecord(this.#dockerConfig, name);
    if (location.kind === "remote") return record;
    const withProxies = withContainerVariables(record, this.#proxies);
    await recordedInstance(withProxies, {}).configure(this.#dockerConfig);
    return withProxies;
  }

  /**
   * The container and its volume have this name too. It is the same after a restart, so that the cache is used again,
   * and another one with other options, which an existing container would not adopt.
   */
  async #name(): Promise<string> {
    const { location, driverOptions, workDir } = this.#options;
    const proxies = Object.keys(this.#proxies).length === 0 ? [] : [this.#proxies];
    const identity = JSON.stringify([await realpath(workDir), location, driverOptions, ...proxies]);
    return `blacktree-${createHash("sha256").update(identity).digest("hex").slice(0, 16)}`;
  }

  async #run(...args: string[]): Promise<readonly string[]> {
    const signal = AbortSignal.any([this.#options.signal, AbortSignal.timeout(START_TIMEOUT_MS)]);
    const { exitCode, stdoutTail, stderrTail } = await runInGroup({
      argv: [this.#buildx.path, ...args],
      cwd: this.#options.scratch,
      environment: this.#environment,
      signal,
    });
    if (exitCode === 0) return stdoutTail;
    throw new Error(stderrTail.findLast((line) => line.startsWith("ERROR: ")) ?? stderrTail.join(" "));
  }
}
