/** The interface between a worker and the runs of its pipeline. */
import type { GitSettings } from "../../shared/repository-url.ts";
import type { BuildCgroup } from "../build-cgroup/build-cgroup.ts";
import type { BuildNetwork, ImageBuilder } from "../buildkit/builder.ts";
import type { CacheSharing } from "../buildkit/cache-scope.ts";
import type { BuildStep } from "../buildkit/progress/progress.ts";
import type { RunDisks } from "../disk/run-disks.ts";
import type { CloneLimits } from "../git/budget.ts";
import type { CheckoutCache } from "../git/checkout-cache.ts";
import type { CredentialSettings } from "../git/credentials.ts";
import type { RetryPolicy } from "../job/retry.ts";
import type { HostEnvironment } from "../process/child-environment.ts";
import type { RegistryAuthenticator } from "../registry/access.ts";
import type { BaseLoginSource } from "../registry/base-logins.ts";
import type { BackgroundWork } from "./background-work.ts";

export type RunStateName = "CLONING" | "AUTHENTICATING" | "BUILDING" | "PUSHING";

export interface RunReporter {
  state(state: RunStateName): void;
  /** Already redacted. */
  log(line: string): void;
  /** Its texts are already redacted. */
  step(step: BuildStep): void;
}

/** What all runs of a worker share. */
export interface PipelineParts {
  readonly workDir: string;
  readonly incarnation: string;
  readonly git: GitSettings;
  readonly cloneLimits?: CloneLimits;
  readonly gitCredentials?: CredentialSettings;
  /** Without it, every run clones from the remote repository. */
  readonly checkoutCache?: CheckoutCache;
  readonly builder: ImageBuilder;
  /** Checks the builder and git after a failure; why nothing can be built now, if so. */
  readonly builderProblem?: () => Promise<string | undefined>;
  readonly authenticator: RegistryAuthenticator;
  /** Besides the job's own logins. Of two for one registry, the first counts. */
  readonly baseLogins?: readonly BaseLoginSource[];
  readonly buildNetwork: BuildNetwork;
  readonly buildCgroup?: BuildCgroup;
  readonly cacheSharing: CacheSharing;
  /** Template of the repository for build cache, in the registry that images are pushed to: cache-repository.ts. */
  readonly cacheRepository?: string;
  readonly backgroundWork: BackgroundWork;
  /** Keys of the HMAC label: the first signs, all verify. Without one, only the orchestrator's records count. */
  readonly reuseKeys?: readonly Buffer[];
  /** Records whether a disk was full during the run. */
  readonly disks?: { beginRun(): RunDisks };
  /** The worker's environment. Child processes get the variables that child-environment.ts names. */
  readonly hostEnvironment: HostEnvironment;
  /** Timeout of the request that puts the version's tag, in ms. */
  readonly tagTimeoutMs?: number;
  /** Time limit of clean-up, in ms. It also applies after the run was aborted. */
  readonly cleanUpTimeoutMs?: number;
  readonly retry?: RetryPolicy;
}
