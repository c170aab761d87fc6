/** How a worker builds images. builders/detect.ts chooses the builder. */
import type { Throttling } from "../job/failure.ts";
import type { PipelineJob } from "../job/job.ts";
import type { RetryPolicy } from "../job/retry.ts";
import type { Workspace } from "../job/workspace.ts";
import type { ChildEnvironment } from "../process/child-environment.ts";
import type { ArgumentTransport, BakeFeatures } from "./build-args.ts";
import type { CacheScope } from "./cache-scope.ts";
import type { BuilderCapabilities } from "./capabilities.ts";
import type { BuildPaths } from "./paths.ts";
import type { ProgressListener } from "./progress/progress.ts";

/** Network of RUN steps. `none` leaves them only their own loopback; base images are still pulled. */
export const BUILD_NETWORKS = ["default", "none"] as const;

export type BuildNetwork = (typeof BUILD_NETWORKS)[number];

export interface RegistryCache {
  /** References to import from; one that does not exist is ignored. */
  readonly from: readonly string[];
  readonly to: string;
  /** Aborts the export, which continues after the image is pushed and the run has ended. */
  readonly exportSignal: AbortSignal;
}

export interface BuildRequest extends ProgressListener {
  /** For messages of Blacktree itself. */
  readonly log: (message: string) => void;
  readonly job: Pick<PipelineJob, "target" | "buildArgs" | "provenance" | "platforms" | "secrets">;
  readonly paths: BuildPaths;
  /** The job's labels and those that Blacktree adds. */
  readonly labels: Readonly<Record<string, string>>;
  /** `<registry>/<repository>`. */
  readonly imageName: string;
  /** For builders that cannot push without a tag. Never the job's version: no builder puts that tag. */
  readonly attemptTag: string;
  readonly network: BuildNetwork;
  readonly argumentTransport: ArgumentTransport;
  /** Each RUN step runs in a separate group below this one. Part of the step's cache key, like its network. */
  readonly cgroupParent?: string;
  readonly cacheScope: CacheScope;
  /** Only for builders with this capability. */
  readonly registryCache?: RegistryCache;
  readonly workspace: Workspace;
  readonly environment: ChildEnvironment;
  /** Of the programs on this machine; RUN steps are in `cgroupParent`. */
  readonly controlGroup?: string;
  readonly retry: RetryPolicy;
  /** How long the registry asks to wait, of which BuildKit reports nothing. Never rejects. */
  readonly askDelay: () => Promise<Throttling>;
  readonly signal: AbortSignal;
}

export interface PushedImage {
  /** Digest of the manifest as the registry stores it. */
  readonly digest: string;
  /** The image was pushed under the attempt's tag. */
  readonly tagged: boolean;
  /** The registry cache's export, which continues after the push and needs the run's folder. Rejects when it fails. */
  readonly cacheExport?: Promise<void>;
}

export interface ImageBuilder {
  /** `direct`: BuildKit itself pushes, by digest. `local`: the engine stores the image, tags and pushes it. */
  readonly kind: "direct" | "local";
  /** For logs of jobs too, such as "docker 26.1.5, buildx 0.13.1, containerd image store". Without paths of the host. */
  readonly description: string;
  /** For the worker's log: the docker client, or the address of BuildKit. */
  readonly location: string;
  /** Undefined for a builder without buildx. */
  readonly bake?: BakeFeatures;
  /** A job that needs more never reaches this builder. */
  readonly capabilities: BuilderCapabilities;
  buildAndPush(request: BuildRequest): Promise<PushedImage>;
  /** Removes what buildAndPush left in the engine, also after it failed or was aborted. */
  cleanUp(request: BuildRequest, signal: AbortSignal): Promise<void>;
  /** Removes images that attempts of a crashed worker have left, by their tags. */
  removeImages(attemptTags: readonly string[], at: EngineAccess): Promise<void>;
  /**
   * Identifies the engine or BuildKit that runs: changes when another version or configuration of it is started.
   * @throws Error when it does not answer, or a program of the builder is missing.
   */
  identity(at: EngineAccess): Promise<string>;
  /** Removes build cache, least recently used first, until at most `keepBytes` are left. */
  prune(keepBytes: number, at: EngineAccess): Promise<void>;
}

export interface EngineAccess {
  readonly cwd: string;
  readonly environment: ChildEnvironment;
  readonly signal: AbortSignal;
}

/** No builder works on this host. The message names what was tried, and the remedy. */
export class NoUsableBuilder extends Error {
  override readonly name = "NoUsableBuilder";
}
