/** What a worker gives each run, and what a run tells the worker. */
import type { GitSettings } from "../../shared/repository-url.ts";
import type { BuildCgroup } from "../build-cgroup/build-cgroup.ts";
import type { BuildNetwork, ImageBuilder } from "../buildkit/builder.ts";
import type { CacheSharing } from "../buildkit/cache-scope.ts";
import type { BuildStep } from "../buildkit/progress/progress.ts";
import type { RunDisks } from "../disk/run-disks.ts";
import type { CloneLimits } from "../git/budget.ts";
import type { CheckoutCache } from "../git/checkout-cache.ts";
import type { RetryPolicy } from "../job/retry.ts";
import type { HostEnvironment } from "../process/child-environment.ts";
import type { RegistryAuthenticator } from "../registry/access.ts";
import type { Afterwork } from "./background-work.ts";

export type RunStateName = "CLONING" | "AUTHENTICATING" | "BUILDING" | "PUSHING";

export interface RunReporter {
  state(state: RunStateName): void;
  /** Redacted before it gets here. */
  log(line: string): void;
  /** Likewise. */
  step(step: BuildStep): void;
}

/** What a worker has once, for all its runs. */
export interface PipelineParts {
  readonly workDir: string;
  readonly incarnation: string;
  readonly git: GitSettings;
  readonly cloneLimits?: CloneLimits;
  /** None if not given. */
  readonly checkoutCache?: CheckoutCache;
  readonly builder: ImageBuilder;
  readonly authenticator: RegistryAuthenticator;
  readonly buildNetwork: BuildNetwork;
  readonly buildCgroup?: BuildCgroup;
  readonly cacheSharing: CacheSharing;
  /** A repository of the registry that images go to. */
  readonly cacheRepository?: string;
  readonly afterwork: Afterwork;
  /** Tells whether a disk was full during the run. */
  readonly disks?: { beginRun(): RunDisks };
  /** The worker's own environment, of which child processes get what child-environment.ts names. */
  readonly hostEnvironment: HostEnvironment;
  /** Bound on the request that puts the version's tag, in ms. */
  readonly tagTimeoutMs?: number;
  /** How long clean-up may take, in ms, also after the run was aborted. */
  readonly cleanUpTimeoutMs?: number;
  readonly retry?: RetryPolicy;
}
