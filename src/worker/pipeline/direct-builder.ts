import { commonArguments } from "./build-arguments.ts";
import type { BuilderCapabilities } from "./builder-capabilities.ts";
import { type DockerBuild, dockerBuild } from "./docker-build.ts";
import type { BuildRequest, ImageBuilder, PushedImage } from "./image-builder.ts";
import { inPlace } from "./in-place-retry.ts";
import { RawProgress } from "./raw-progress.ts";
import { cacheArguments, type RegistryCache } from "./registry-cache.ts";
import { isOfCache, storingBuild } from "./storing-build.ts";

/**
 * buildx on an engine with the containerd image store: BuildKit sends the layers straight to the registry and
 * names the manifest by nothing but its digest. Neither the engine nor the registry keeps a tag of the attempt.
 *
 * buildx refuses `push-by-digest` for the docker driver, and pushes a second time through the engine when it reads
 * `push=true` (docker/buildx#3023). BuildKit itself takes `push` without a value for true, and an image without a
 * name gets `<prefix>@<digest>`, which is how it is then pushed.
 */
export class DirectBuilder implements ImageBuilder {
  readonly kind = "direct";

  constructor(
    readonly buildxPath: string,
    readonly description: string,
    readonly capabilities: BuilderCapabilities,
  ) {}

  buildAndPush(request: BuildRequest): Promise<PushedImage> {
    const { retry: policy, signal, log } = request;
    // What is tried again after a failed push comes from BuildKit's cache up to there.
    return inPlace({ policy, signal, log, attempt: () => this.#buildOnce(request) });
  }

  async removeLeftovers(): Promise<void> {
    // With `store=false` the engine keeps no image.
  }

  async removeImages(): Promise<void> {
    // Nor does it after a crash.
  }

  async #buildOnce(request: BuildRequest): Promise<PushedImage> {
    const build = { request, argv: [this.buildxPath, "build", ...this.#arguments(request)] as const };
    if (request.registryCache) return this.#withCache(build, request.registryCache);
    await dockerBuild({ ...build, progress: new RawProgress(request) });
    return { digest: await builtDigest(request.workspace.buildMetadata), tagged: false };
  }

  async #withCache(build: Omit<DockerBuild, "progress">, cache: RegistryCache): Promise<PushedImage> {
    try {
      return await storingBuild(build, cache);
    } catch (error) {
      if (cache.from.length === 0 || !isOfCache(error)) throw error;
      build.request.log(`the registry's cache is broken, so it is left aside: ${error.message}`);
      // Stored anew, so that it is whole again.
      return this.#buildOnce({ ...build.request, registryCache: { ...cache, from: [] } });
    }
  }

  #arguments(request: BuildRequest): string[] {
    return [
      ...commonArguments(request),
      ...cacheArguments(request.registryCache),
      `--provenance=${request.job.provenance}`,
      `--metadata-file=${request.workspace.buildMetadata}`,
      `--output=type=image,dangling-name-prefix=${request.imageName},push=,store=false`,
    ];
  }
}

async function builtDigest(metadataPath: string): Promise<string> {
  const metadata = (await Bun.file(metadataPath).json()) as { "containerimage.digest"?: string };
  const digest = metadata["containerimage.digest"];
  if (!digest) throw new Error("buildx did not say which image it has built");
  return digest;
}
