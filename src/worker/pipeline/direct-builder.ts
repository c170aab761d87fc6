import { buildEnvironment, commonArguments } from "./build-arguments.ts";
import { buildFailure } from "./build-failure.ts";
import type { BuilderCapabilities } from "./builder-capabilities.ts";
import type { BuildRequest, ImageBuilder, PushedImage } from "./image-builder.ts";
import { inPlace } from "./in-place-retry.ts";
import { runInGroup } from "./process-group.ts";

/** BuildKit's own progress lines; the output of RUN steps has a time before it. */
const PUSH_BEGINS = /^#\d+ pushing (layers|manifest)\b/;

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
    const { workspace, paths, signal } = request;
    const { exitCode, stderrTail } = await runInGroup({
      argv: [this.buildxPath, "build", ...this.#arguments(request), paths.context],
      cwd: workspace.path,
      environment: buildEnvironment(request),
      signal,
      onLine: (line) => {
        if (PUSH_BEGINS.test(line)) request.onPushing();
        request.log(line);
      },
    });
    if (exitCode !== 0) throw buildFailure(stderrTail, exitCode);
    return { digest: await builtDigest(workspace.buildMetadata), tagged: false };
  }

  #arguments(request: BuildRequest): string[] {
    return [
      ...commonArguments(request),
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
