/** Resolves the commit to build and writes its files, unless it turns out that nothing has to be built. */
import { InvalidRepositoryUrl, resolveRepositoryUrl } from "../../shared/repository-url.ts";
import { cacheRepositoryOf } from "../buildkit/registry-cache.ts";
import { DEFAULT_CLONE_LIMITS } from "../git/budget.ts";
import { resolve, type Source } from "../git/checkout.ts";
import { CheckoutCache } from "../git/checkout-cache.ts";
import { DEFAULT_CREDENTIAL_SETTINGS } from "../git/credentials.ts";
import { StepFailure } from "../job/failure.ts";
import type { Workspace } from "../job/workspace.ts";
import type { ChildEnvironment } from "../process/child-environment.ts";
import { isRemembered } from "./image-reuse.ts";
import type { RunContext } from "./run-context.ts";
import type { Destination } from "./sign-in.ts";
import { isMadeAlready } from "./version-tag.ts";
import type { WantedImage } from "./wanted-image.ts";

const NO_CHECKOUT_CACHE = new CheckoutCache({ workDir: "", limitBytes: 0, bootId: "" });

export interface CloneInputs {
  readonly repositoryUrl: string;
  readonly workspace: Workspace;
  readonly environment: ChildEnvironment;
  readonly controlGroup: string | undefined;
  /** Signing in, which goes on at the same time. */
  readonly signingIn: Promise<Destination>;
}

/** @throws StepFailure with code INVALID_JOB */
export function repositoryUrlOf({ job, parts }: RunContext): string {
  try {
    return resolveRepositoryUrl(job.repoUrl, parts.git);
  } catch (error) {
    if (!(error instanceof InvalidRepositoryUrl)) throw error;
    throw new StepFailure({ code: "INVALID_JOB", step: "clone", message: error.message, cause: error });
  }
}

/** The returned source is checked out unless a finished image may be used; `Source.checkOut` does it then if needed. */
export function cloneRepository(run: RunContext, inputs: CloneInputs, signal: AbortSignal): Promise<Source> {
  const { job, parts } = run;
  const { repositoryUrl, workspace, environment, controlGroup, signingIn } = inputs;
  return run.times.during("clone", async () => {
    const history = { depth: job.gitDepth, tags: job.gitTags };
    const source = await resolve({
      job: { ...job, history },
      repositoryUrl,
      allowed: parts.git,
      credentials: parts.gitCredentials ?? DEFAULT_CREDENTIAL_SETTINGS,
      workspace,
      environment,
      controlGroup,
      checkoutCache: parts.checkoutCache ?? NO_CHECKOUT_CACHE,
      limits: parts.cloneLimits ?? DEFAULT_CLONE_LIMITS,
      needsDefaultBranch: cacheRepositoryOf(parts) !== undefined,
      retry: run.retry,
      log: run.log,
      signal,
    });
    run.cleanUp.keepCheckout(source);
    run.resolved(source.commit);
    const wanted = run.wantedImage(repositoryUrl, source.commit);
    if (!(await mayNeedNoFiles(run, wanted, signingIn))) await source.checkOut();
    return source;
  });
}

/** Does not wait for the registry: signing in may take longer than resolving the commit. */
async function mayNeedNoFiles(
  { job }: RunContext,
  wanted: WantedImage,
  signingIn: Promise<Destination>,
): Promise<boolean> {
  if (isRemembered(job, wanted)) return true;
  const destination = await Promise.race([signingIn, undefined]);
  if (destination?.existing === undefined) return false;
  return isMadeAlready(destination.existing, wanted, destination.access, job);
}
