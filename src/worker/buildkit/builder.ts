/** How a worker builds images. builders/detect.ts chooses the builder once, at the start of the worker. */
import type { PipelineJob } from "../job/job.ts";
import type { RetryPolicy } from "../job/retry.ts";
import type { Workspace } from "../job/workspace.ts";
import type { ChildEnvironment } from "../process/child-environment.ts";
import type { CacheScope } from "./cache-scope.ts";
import type { BuilderCapabilities } from "./capabilities.ts";
import type { BuildPaths } from "./paths.ts";
import type { ProgressListener } from "./progress/progress.ts";

/** Of RUN steps. `none` leaves them nothing but their own loopback; base images are pulled all the same. */
export const BUILD_NETWORKS = ["default", "none"] as const;

export type BuildNetwork = (typeof BUILD_NETWORKS)[number];

export interface RegistryCache {
  /** References to read from; one that does not exist does no harm. */
  readonly from: readonly string[];
  readonly to: string;
  /** Ends the storing, which goes on when the image is pushed and the run has ended. */
  readonly exportSignal: AbortSignal;
}

export interface BuildRequest extends ProgressListener {
  readonly job: Pick<PipelineJob, "target" | "buildArgs" | "provenance" | "platforms" | "secrets">;
  readonly paths: BuildPaths;
  /** The user's and our own. */
  readonly labels: Readonly<Record<string, string>>;
  /** `<registry>/<repository>`. */
  readonly imageName: string;
  /** For builders that cannot push without a tag. Never the job's version: that tag is not a builder's to put. */
  readonly attemptTag: string;
  readonly network: BuildNetwork;
  /** Each RUN step runs in a group of its own below this one. A part of its key, like its network. */
  readonly cgroupParent?: string;
  readonly cacheScope: CacheScope;
  /** Only for builders that can. */
  readonly registryCache?: RegistryCache;
  readonly workspace: Workspace;
  readonly environment: ChildEnvironment;
  readonly retry: RetryPolicy;
  readonly signal: AbortSignal;
}

export interface PushedImage {
  /** Of the manifest as the registry has it. */
  readonly digest: string;
  /** The image was pushed under the attempt's tag. */
  readonly tagged: boolean;
  /** What goes on in the run's folder and needs it: storing the cache. Rejects when that fails. */
  readonly cacheExport?: Promise<void>;
}

export interface ImageBuilder {
  /** `direct`: BuildKit itself pushes, by digest. `local`: the engine stores the image, tags and pushes it. */
  readonly kind: "direct" | "local";
  /** For the log, such as "docker 26.1.5, buildx 0.13.1, containerd image store". */
  readonly description: string;
  /** A job that needs more does not get here. */
  readonly capabilities: BuilderCapabilities;
  buildAndPush(request: BuildRequest): Promise<PushedImage>;
  /** Takes away what buildAndPush left in the engine, also after it failed or was aborted. */
  cleanUp(request: BuildRequest, signal: AbortSignal): Promise<void>;
  /** Takes away images of attempts, named by their tags, that a worker that crashed could not. */
  removeImages(attemptTags: readonly string[], at: EngineAccess): Promise<void>;
  /** Takes away build cache, what was not used for longest first, until no more than this is left. */
  prune(keepBytes: number, at: EngineAccess): Promise<void>;
}

export interface EngineAccess {
  readonly cwd: string;
  readonly environment: ChildEnvironment;
  readonly signal: AbortSignal;
}

/** Nothing on this host can build for us. The message says what was looked at, and the remedy. */
export class NoUsableBuilder extends Error {
  override readonly name = "NoUsableBuilder";
}
