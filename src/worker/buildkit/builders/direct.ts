import { retryInPlace } from "../../job/retry.ts";
import { buildxArguments } from "../arguments.ts";
import { BAKE_TARGET } from "../bake-file.ts";
import { type DockerBuild, dockerBuild } from "../build.ts";
import type { BakeFeatures } from "../build-args.ts";
import { buildWithCacheExport } from "../build-with-cache-export.ts";
import type { BuildRequest, EngineAccess, ImageBuilder, PushedImage, RegistryCache } from "../builder.ts";
import type { BuildxInstance } from "../buildx-instance.ts";
import type { BuilderCapabilities } from "../capabilities.ts";
import { isBrokenCache } from "../failure.ts";
import { RawProgress } from "../progress/rawjson.ts";
import { pruneCache } from "../prune-cache.ts";
import { COMPRESSION, cacheOptions } from "../registry-cache.ts";
import type { Buildx } from "./docker-probe.ts";
import { buildKitIdentity } from "./identity.ts";

/** What buildx supports on a BuildKit that pushes by itself, wherever that runs. */
export const DIRECT_CAPABILITIES = {
  multiPlatform: true,
  provenance: true,
  secrets: true,
  registryCache: true,
} satisfies Partial<BuilderCapabilities>;

export interface DirectBuilderParts {
  readonly buildx: Pick<Buildx, "path" | "bake">;
  readonly instance: BuildxInstance;
  readonly description: string;
  readonly location: string;
  readonly capabilities: BuilderCapabilities;
}

/**
 * buildx on a BuildKit that sends the layers straight to the registry and pushes the manifest by digest only.
 * Neither the engine nor the registry keeps a tag of the attempt.
 *
 * buildx refuses `push-by-digest` for the docker driver, and pushes a second time through the engine when it reads
 * `push=true` (docker/buildx#3023). BuildKit itself reads `push` without a value as true. It names an image without
 * a name `<prefix>@<digest>`, and pushes and reports it under that name.
 */
export class DirectBuilder implements ImageBuilder {
  readonly kind = "direct";
  readonly description: string;
  readonly location: string;
  readonly capabilities: BuilderCapabilities;
  readonly bake: BakeFeatures;
  readonly #buildxPath: string;
  readonly #instance: BuildxInstance;

  constructor({ buildx, instance, description, location, capabilities }: DirectBuilderParts) {
    this.bake = buildx.bake;
    this.#buildxPath = buildx.path;
    this.#instance = instance;
    this.description = description;
    this.location = location;
    this.capabilities = capabilities;
  }

  buildAndPush(request: BuildRequest): Promise<PushedImage> {
    const { retry: policy, signal, log, askDelay } = request;
    // After a failed push, the repeated build takes its steps from BuildKit's cache.
    return retryInPlace({ policy, signal, log, askDelay, attempt: () => this.#buildOnce(request) });
  }

  async cleanUp(): Promise<void> {
    // With `store=false` the engine keeps no image.
  }

  async removeImages(): Promise<void> {
    // The engine keeps no image after a crash either.
  }

  identity(at: EngineAccess): Promise<string> {
    return buildKitIdentity(this.#buildxPath, this.#instance, at);
  }

  prune(keepBytes: number, at: EngineAccess): Promise<void> {
    return pruneCache([this.#buildxPath, "prune"], this.#instance, keepBytes, at);
  }

  async #buildOnce(request: BuildRequest): Promise<PushedImage> {
    const build = {
      request,
      argv: [this.#buildxPath, ...(await argumentsFor(request))] as const,
      environment: await this.#instance.configure(request.workspace.dockerConfig),
    };
    if (request.registryCache) return this.#withCache(build, request.registryCache);
    await dockerBuild({ ...build, progress: new RawProgress(request) });
    return { digest: await builtDigest(request.workspace.buildMetadata), tagged: false };
  }

  async #withCache(build: Omit<DockerBuild, "progress">, cache: RegistryCache): Promise<PushedImage> {
    try {
      return await buildWithCacheExport(build, cache);
    } catch (error) {
      if (cache.from.length === 0 || !isBrokenCache(error)) throw error;
      build.request.log(`the registry's cache is broken, building without it: ${error.message}`);
      // The build exports the cache again, which makes it complete.
      return this.#buildOnce({ ...build.request, registryCache: { ...cache, from: [] } });
    }
  }
}

function argumentsFor(request: BuildRequest): Promise<string[]> {
  const { registryCache, job, workspace, imageName } = request;
  return buildxArguments(request, {
    ...(registryCache && cacheOptions(registryCache)),
    // mode=max would show the build arguments to every client that may pull the image.
    provenance: job.provenance ? "mode=min" : "false",
    metadataFile: workspace.buildMetadata,
    output: `type=image,dangling-name-prefix=${imageName},push=,store=false,${COMPRESSION}`,
  });
}

const DIGEST = "containerimage.digest";

interface Metadata {
  readonly [DIGEST]?: string;
  /** As bake writes it. */
  readonly [BAKE_TARGET]?: { readonly [DIGEST]?: string };
}

async function builtDigest(metadataPath: string): Promise<string> {
  const metadata = (await Bun.file(metadataPath).json()) as Metadata;
  const digest = (metadata[BAKE_TARGET] ?? metadata)[DIGEST];
  if (!digest) throw new Error("buildx did not report the digest of the built image");
  return digest;
}
