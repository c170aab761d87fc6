import { retryInPlace } from "../../job/retry.ts";
import { type GroupEnd, runInGroup } from "../../process/process-group.ts";
import { buildCommandArguments, buildxArguments } from "../arguments.ts";
import { dockerBuild } from "../build.ts";
import type { BakeFeatures } from "../build-args.ts";
import type { BuildRequest, EngineAccess, ImageBuilder, PushedImage } from "../builder.ts";
import { engineInstance } from "../buildx-instance.ts";
import type { BuilderCapabilities } from "../capabilities.ts";
import { finalError, pushFailure } from "../failure.ts";
import { PlainProgress } from "../progress/plain.ts";
import { RawProgress } from "../progress/rawjson.ts";
import { pruneCache } from "../prune-cache.ts";
import type { Buildx } from "./docker-probe.ts";
import { buildKitIdentity, engineIdentity } from "./identity.ts";

export interface LocalPrograms {
  readonly dockerPath: string;
  /** Clients from 23 on build with it; older ones have BuildKit built in. */
  readonly buildx?: Pick<Buildx, "path" | "bake">;
}

/** The engine itself tries each layer five times, for 50 s: a push that took longer than this is not repeated. */
const MAX_PUSH_TRY_MS = 20_000;

const PUSHED = /^\S+: digest: (sha256:[0-9a-f]{64}) size: \d+$/;

/** What BuildKit supports when it builds into the engine's own image store. */
export const LOCAL_CAPABILITIES = {
  multiPlatform: false,
  provenance: false,
  secrets: true,
  registryCache: false,
} satisfies Partial<BuilderCapabilities>;

/** The engine builds with BuildKit into its own store, and then pushes the image under the attempt's tag. */
export class LocalBuilder implements ImageBuilder {
  readonly kind = "local";
  readonly #programs: LocalPrograms;

  constructor(
    programs: LocalPrograms,
    readonly description: string,
    readonly capabilities: BuilderCapabilities,
  ) {
    this.#programs = programs;
  }

  get bake(): BakeFeatures | undefined {
    return this.#programs.buildx?.bake;
  }

  get location(): string {
    return this.#programs.dockerPath;
  }

  async buildAndPush(request: BuildRequest): Promise<PushedImage> {
    const { retry: policy, signal, log, askDelay } = request;
    const retried = { policy, signal, log, askDelay };
    await retryInPlace({ ...retried, attempt: () => this.#build(request) });
    request.onPushing();
    const attempt = () => this.#push(request);
    const digest = await retryInPlace({ ...retried, maxTryMs: MAX_PUSH_TRY_MS, attempt });
    return { digest, tagged: true };
  }

  async cleanUp(request: BuildRequest, signal: AbortSignal): Promise<void> {
    const { exitCode, stderrTail } = await this.#docker(
      request,
      ["image", "rm", "--force", reference(request)],
      {
        signal,
      },
    );
    const message = stderrTail.join("\n");
    if (exitCode !== 0 && !message.includes("No such image")) {
      request.log(`failed to remove the local image ${reference(request)}: ${message}`);
    }
  }

  async removeImages(attemptTags: readonly string[], at: EngineAccess): Promise<void> {
    const images: string[] = [];
    const onLine = (name: string) => {
      if (attemptTags.some((tag) => name.endsWith(`:${tag}`))) images.push(name);
    };
    const { dockerPath } = this.#programs;
    await runInGroup({
      argv: [dockerPath, "image", "ls", "--format={{.Repository}}:{{.Tag}}"],
      ...at,
      onLine,
    });
    if (images.length > 0)
      await runInGroup({ argv: [dockerPath, "image", "rm", "--force", ...images], ...at });
  }

  async identity(at: EngineAccess): Promise<string> {
    const { buildx, dockerPath } = this.#programs;
    const engine = await engineIdentity(dockerPath, at);
    return buildx ? `${engine}\n${await buildKitIdentity(buildx.path, engineInstance, at)}` : engine;
  }

  prune(keepBytes: number, at: EngineAccess): Promise<void> {
    const { buildx, dockerPath } = this.#programs;
    const program = buildx ? ([buildx.path, "prune"] as const) : ([dockerPath, "builder", "prune"] as const);
    return pruneCache(program, engineInstance, keepBytes, at);
  }

  async #build(request: BuildRequest): Promise<void> {
    const { buildx, dockerPath } = this.#programs;
    const tag = reference(request);
    await dockerBuild({
      request,
      argv: buildx
        ? [
            buildx.path,
            ...(await buildxArguments(request, { provenance: "false", output: "type=docker", tag })),
          ]
        : [dockerPath, "build", `--tag=${tag}`, ...buildCommandArguments(request)],
      environment: { DOCKER_BUILDKIT: "1" },
      progress: buildx ? new RawProgress(request) : new PlainProgress(request),
    });
  }

  async #push(request: BuildRequest): Promise<string> {
    const { exitCode, stderrTail, stdoutTail } = await this.#docker(request, ["push", reference(request)], {
      signal: request.signal,
      onLine: request.log,
    });
    if (exitCode !== 0) throw pushFailure(finalError(stderrTail));
    const digest = stdoutTail.map((line) => PUSHED.exec(line)?.[1]).findLast((found) => found !== undefined);
    if (digest === undefined) throw new Error("docker push did not report the digest of the pushed image");
    return digest;
  }

  #docker(
    { workspace, environment, controlGroup }: BuildRequest,
    args: readonly string[],
    options: { signal: AbortSignal; onLine?: (line: string) => void },
  ): Promise<GroupEnd> {
    return runInGroup({
      argv: [this.#programs.dockerPath, ...args],
      cwd: workspace.path,
      environment: { ...environment, DOCKER_CONFIG: workspace.dockerConfig },
      controlGroup,
      ...options,
    });
  }
}

function reference({ imageName, attemptTag }: BuildRequest): string {
  return `${imageName}:${attemptTag}`;
}
