/** Chooses the best builder that the Docker engine and its clients on this host offer. */
import { canonicalPlatforms } from "../../../shared/platforms.ts";
import type { BuildNetwork, ImageBuilder } from "../builder.ts";
import { NoUsableBuilder } from "../builder.ts";
import { engineInstance } from "../buildx-instance.ts";
import { DIRECT_CAPABILITIES, DirectBuilder } from "./direct.ts";
import type { Buildx, DockerInfo, DockerProbe } from "./docker-probe.ts";
import { LOCAL_CAPABILITIES, LocalBuilder } from "./local.ts";
import { POLICY_REMEDY } from "./source-policy-probe.ts";

/** A client that was probed, with either a builder or the problem that prevents one. */
interface Candidate {
  readonly path: string;
  readonly builder?: ImageBuilder;
  readonly problem?: string;
}

interface Requirements {
  readonly inCgroup?: boolean;
  readonly network?: BuildNetwork;
  readonly signal: AbortSignal;
}

const CONTAINERD_STORE = "io.containerd.snapshotter.v1";
const FIRST_CLIENT_WITHOUT_BUILDKIT = 23;
/** Older engines ignore `--cgroup-parent` silently. */
const FIRST_ENGINE_WITH_CGROUPS = 23;
/** Older engines ignore source policies, or mix up the order of their rules (moby/buildkit#4014). */
const FIRST_ENGINE_WITH_POLICIES = 25;
const PODMAN_REMEDY =
  "Use Docker Engine, or run BuildKit and set BLACKTREE_BUILDER to its address, such as unix:///run/buildkit/buildkitd.sock";
const REMEDY =
  "Install the package docker-buildx-plugin (Debian: docker-buildx), start the engine, and set DOCKER_HOST if its socket is not the default one; engines with the containerd image store push fastest";

/**
 * Probes each docker in PATH until one can push directly, since a newer client without buildx may precede an older one
 * that can build.
 * @throws NoUsableBuilder naming each client that was probed.
 */
export async function engineBuilder(probe: DockerProbe, requirements: Requirements): Promise<ImageBuilder> {
  const candidates: Candidate[] = [];
  for (const path of await probe.clients()) {
    const probed = await candidate(probe, path, requirements);
    // No later client has a better one, and each costs half a second.
    if (probed.builder?.kind === "direct") return probed.builder;
    candidates.push(probed);
  }
  const [best] = candidates.flatMap(({ builder }) => builder ?? []);
  if (best) return best;
  const found = candidates.map(({ path, problem }) => `${path}: ${problem}`).join("; ");
  throw new NoUsableBuilder(
    `no docker on this host can build images (${found || "none in PATH"}). ${REMEDY}.`,
  );
}

async function candidate(
  probe: DockerProbe,
  path: string,
  { inCgroup, network, signal }: Requirements,
): Promise<Candidate> {
  try {
    const { name, version: clientVersion } = await probe.client(path);
    if (name === "podman") return { path, problem: `it is Podman's docker command. ${PODMAN_REMEDY}` };
    const info = await probe.info(path);
    if (!info.ServerVersion)
      return { path, problem: info.ServerErrors?.join(" ") ?? "the engine does not answer" };
    if ((await probe.engineComponents(path)).includes("Podman Engine"))
      return {
        path,
        problem: `the engine is Podman ${info.ServerVersion}, which has no BuildKit. ${PODMAN_REMEDY}`,
      };
    if (inCgroup && Number.parseInt(info.ServerVersion, 10) < FIRST_ENGINE_WITH_CGROUPS) {
      return {
        path,
        problem: `engine ${info.ServerVersion} ignores control groups; use Docker 23 or newer`,
      };
    }
    const buildx = await probe.plugin(info);
    if (network === "none") {
      if (!buildx) return { path, problem: `docker ${clientVersion} has no buildx. ${POLICY_REMEDY}` };
      if (Number.parseInt(info.ServerVersion, 10) < FIRST_ENGINE_WITH_POLICIES)
        return { path, problem: `engine ${info.ServerVersion} is too old. ${POLICY_REMEDY}` };
      await probe.requireSourcePolicy(buildx);
    }
    return await builderOf(probe, { path, clientVersion, info, buildx });
  } catch (error) {
    signal.throwIfAborted();
    return { path, problem: error instanceof Error ? error.message : String(error) };
  }
}

interface FoundClient {
  readonly path: string;
  readonly clientVersion: string;
  readonly info: DockerInfo;
  readonly buildx: Buildx | undefined;
}

async function builderOf(
  probe: DockerProbe,
  { path, clientVersion, info, buildx }: FoundClient,
): Promise<Candidate> {
  const capabilities = {
    ...LOCAL_CAPABILITIES,
    platforms: canonicalPlatforms([`${info.OSType}/${info.Architecture}`]),
  };
  const client = `docker ${clientVersion}, engine ${info.ServerVersion}`;
  const buildKit = buildx && (await probe.engineBuildKit(buildx));
  if (buildKit && usesContainerdStore(info)) {
    const description = `${client}, ${buildx.version}, containerd image store`;
    const { platforms } = buildKit;
    return {
      path,
      builder: new DirectBuilder({
        buildx,
        instance: engineInstance,
        description,
        location: path,
        capabilities: { ...DIRECT_CAPABILITIES, platforms },
      }),
    };
  }
  if (buildx) {
    const programs = { dockerPath: path, buildx };
    const description = `${client}, ${buildx.version}, without the containerd image store`;
    return { path, builder: new LocalBuilder(programs, description, capabilities) };
  }
  if (Number.parseInt(clientVersion, 10) < FIRST_CLIENT_WITHOUT_BUILDKIT) {
    const description = `${client}, its own BuildKit client`;
    return { path, builder: new LocalBuilder({ dockerPath: path }, description, capabilities) };
  }
  return { path, problem: `docker ${clientVersion} has no working buildx plugin of 0.13 or newer` };
}

function usesContainerdStore({ DriverStatus }: DockerInfo): boolean {
  return DriverStatus?.some(([, value]) => value === CONTAINERD_STORE) ?? false;
}
