/**
 * Checks out the commit to build, in two steps: `resolve` asks the server for the commit, with the job's own token;
 * `checkOut` writes its files. A run with nothing to build skips the second step.
 *
 * With a cached checkout (checkout-cache.ts) both steps only fetch and write the changes. A cached checkout never fails
 * a job: when it is unusable, the repository is cloned from scratch.
 */
import { randomUUID } from "node:crypto";
import { readdir, rm } from "node:fs/promises";
import { basename, join } from "node:path";
import type { GitSettings } from "../../shared/repository-url.ts";
import { StepFailure } from "../job/failure.ts";
import type { PipelineJob } from "../job/job.ts";
import type { RetryPolicy } from "../job/retry.ts";
import type { Workspace } from "../job/workspace.ts";
import type { ChildEnvironment } from "../process/child-environment.ts";
import { checkAncestor } from "./ancestor-check.ts";
import { CloneBudget, type CloneLimits, packedBytes } from "./budget.ts";
import { type CachedParts, moveAsideCachedParts, NO_CACHED_PARTS } from "./cached-parts.ts";
import type { CachedCheckout, CheckoutCache, CheckoutOwner } from "./checkout-cache.ts";
import { type CredentialSettings, JobCredentials } from "./credentials.ts";
import { DefaultBranchQuery } from "./default-branch.ts";
import { ObjectFormatMismatch } from "./failure.ts";
import type { History } from "./history.ts";
import { fetchLfsFiles } from "./lfs.ts";
import { LocalGitFailure } from "./local-failure.ts";
import { type GitAccess, GitRemote } from "./remote.ts";
import { reportable, withoutFolders } from "./reportable.ts";
import { checkOutSubmodules, type Superproject } from "./submodules.ts";
import { type Tip, WorkingCopy } from "./working-copy.ts";

export interface CloneRequest {
  readonly job: Pick<PipelineJob, "tenant" | "branch" | "commit" | "gitToken" | "deadlineMs"> & {
    readonly history: History;
  };
  readonly repositoryUrl: string;
  readonly allowed: GitSettings;
  readonly credentials: CredentialSettings;
  readonly workspace: Pick<Workspace, "path" | "checkout" | "aside" | "indexes" | "history">;
  readonly environment: ChildEnvironment;
  readonly controlGroup?: string;
  readonly checkoutCache: CheckoutCache;
  readonly limits: CloneLimits;
  /** The run will ask for the default branch. */
  readonly needsDefaultBranch: boolean;
  readonly retry: RetryPolicy;
  readonly log: (line: string) => void;
  readonly signal: AbortSignal;
}

/** A commit to which the server has given this job access. */
export interface Source {
  readonly commit: string;
  /** Identifies the checkout. A later run that updates this checkout has the same id, any other run another one. */
  readonly checkoutId: string;
  /** Writes the files to the checkout folder, once. */
  checkOut(): Promise<void>;
  /** The default branch on the server now; undefined when it cannot be determined. */
  defaultBranch(): Promise<string | undefined>;
  /** Stores a complete checkout for the next run. Called when nothing uses it any more. */
  cacheCheckout(): Promise<void>;
}

/** @throws StepFailure */
export async function resolve(request: CloneRequest): Promise<Source> {
  const { limits, signal, job, workspace } = request;
  const log = (line: string) => request.log(withoutFolders(line, workspace));
  const clone = new Clone({ ...request, log }, new CloneBudget(limits, signal, job.deadlineMs));
  try {
    await clone.resolve();
    return clone;
  } catch (error) {
    await clone.end();
    throw reportable(error, workspace);
  }
}

/** `cached` is the checkout of an earlier run, in which only objects were fetched since. */
type CheckoutState = "empty" | "cached" | "incomplete" | "complete";

class Clone implements Source {
  commit = "";
  readonly #request: CloneRequest;
  readonly #access: GitAccess;
  readonly #remote: GitRemote;
  readonly #owner: CheckoutOwner;
  readonly #defaultBranch: DefaultBranchQuery | undefined;
  /** The cached checkout that this run has started from, or that its checkout will become. */
  #cachedCheckout: CachedCheckout;
  #state: CheckoutState = "empty";
  #copy: WorkingCopy;
  #tip: Tip | undefined;

  constructor(request: CloneRequest, budget: CloneBudget) {
    const { job, repositoryUrl, allowed, environment, controlGroup, retry, log } = request;
    this.#request = request;
    this.#owner = { tenant: job.tenant, repositoryUrl };
    const credentials = new JobCredentials({
      repositoryUrl,
      token: job.gitToken,
      baseUrl: allowed.baseUrl,
      settings: request.credentials,
    });
    this.#access = { allowed, credentials, environment, controlGroup, retry, budget, log };
    const repository = { repositoryUrl, branch: job.branch };
    this.#remote = new GitRemote(repository, this.#access);
    this.#cachedCheckout = newCheckout(job.history);
    this.#copy = this.#newCopy();
    if (request.needsDefaultBranch)
      this.#defaultBranch = new DefaultBranchQuery(repository, this.#access, request.workspace.path);
  }

  async resolve(): Promise<void> {
    const { job, repositoryUrl, log, workspace } = this.#request;
    log(`cloning ${repositoryUrl}, ${job.branch}`);
    const tip = (await this.#tipOfCachedCheckout()) ?? (await this.#copy.cloneTip(job.branch));
    this.commit = job.commit?.toLowerCase() ?? tip.commit;
    if (this.commit === tip.commit) this.#tip = tip;
    else {
      log(`looking for ${this.commit} in the history of ${job.branch}`);
      const { branch } = job;
      const query = { commit: this.commit, branch, tip, repositoryUrl, folder: workspace.history };
      await checkAncestor(this.#remote, query);
    }
  }

  get checkoutId(): string {
    return this.#cachedCheckout.id;
  }

  async checkOut(): Promise<void> {
    if (this.#state === "complete") return;
    try {
      const isCached = this.#state === "cached";
      const isUnchanged = isCached && this.#tip !== undefined && !this.#copy.hasExtraObjects;
      // `resolve` has checked this job's access to the repository. Submodules and LFS files need their own checks.
      if (!(isUnchanged && this.#cachedCheckout.isGitOnly)) {
        this.#state = "incomplete";
        await this.#fetchParts(await (isCached ? this.#updateCachedCheckout() : this.#checkOutNewClone()));
      }
      this.#state = "complete";
    } catch (error) {
      throw reportable(error, this.#request.workspace);
    } finally {
      this.#access.budget.end();
    }
  }

  async defaultBranch(): Promise<string | undefined> {
    const answer = (await this.#defaultBranch?.answer) ?? { unknown: "it was not requested" };
    if ("name" in answer) return answer.name;
    this.#request.log(`default branch unknown: ${answer.unknown}`);
    return undefined;
  }

  async end(): Promise<void> {
    this.#access.budget.end();
    await this.#defaultBranch?.end();
  }

  async cacheCheckout(): Promise<void> {
    await this.end();
    const isUntouched = this.#state === "cached" && !this.#copy.hasExtraObjects;
    if (this.#state !== "complete" && !isUntouched) return;
    const { checkoutCache, workspace } = this.#request;
    try {
      await checkoutCache.store(this.#owner, workspace, this.#cachedCheckout);
    } catch (error) {
      throw reportable(error, workspace);
    }
  }

  /** Undefined without a usable cached checkout. */
  async #tipOfCachedCheckout(): Promise<Tip | undefined> {
    const { checkoutCache, job, workspace } = this.#request;
    const cachedCheckout = await checkoutCache.acquire(this.#owner, job, workspace);
    if (!cachedCheckout) return undefined;
    this.#cachedCheckout = cachedCheckout;
    this.#state = "cached";
    try {
      return await this.#copy.fetchTip(job.branch, cachedCheckout.history);
    } catch (error) {
      if (mayBeCausedByCache(error)) await this.#discardCachedCheckout(error);
      else {
        // Nothing was fetched, so the checkout is unchanged.
        await checkoutCache.store(this.#owner, workspace, cachedCheckout);
        throw error;
      }
      return undefined;
    }
  }

  async #updateCachedCheckout(): Promise<Superproject> {
    try {
      if (!this.#tip && (await this.#needsFetch())) await this.#copy.fetchCommit(this.commit);
      const { aside } = this.#request.workspace;
      await this.#copy.restoreIndex();
      return await this.#fillCopy(
        this.#cachedCheckout.isGitOnly ? NO_CACHED_PARTS : await moveAsideCachedParts(this.#copy, aside),
      );
    } catch (error) {
      if (!mayBeCausedByCache(error)) throw error;
      await this.#discardCachedCheckout(error);
      const tip = await this.#copy.cloneTip(this.#request.job.branch);
      // The branch may have moved since `resolve`.
      this.#tip = tip.commit === this.commit ? tip : undefined;
      return await this.#checkOutNewClone();
    }
  }

  #newCopy(): WorkingCopy {
    const { job, workspace } = this.#request;
    const indexFile = join(workspace.indexes, "index");
    return new WorkingCopy(workspace.checkout, this.#remote, this.#access.budget, indexFile, job.history);
  }

  /** Whether the commit, which is not the tip, or its history may be missing. */
  async #needsFetch(): Promise<boolean> {
    // The fetch of the tip may have cut off a longer history.
    const isOneCommit = this.#request.job.history.depth === 1 && this.#cachedCheckout.history.depth === 1;
    return !isOneCommit || (await this.#copy.head()) !== this.commit;
  }

  async #checkOutNewClone(): Promise<Superproject> {
    if (!this.#tip) await this.#copy.fetchCommit(this.commit);
    return this.#fillCopy(NO_CACHED_PARTS);
  }

  async #fillCopy(cached: CachedParts): Promise<Superproject> {
    const { commit } = this;
    const listing = await this.#copy.list(commit);
    await this.#copy.checkOut(commit, this.#tip);
    return { copy: this.#copy, listing, url: this.#request.repositoryUrl, cached };
  }

  /** Fetches submodules, and the Git LFS files of the repository and of all submodules. */
  async #fetchParts(superproject: Superproject): Promise<void> {
    const { job, workspace } = this.#request;
    const context = { access: this.#access, aside: workspace.aside };
    const indexes = new Set<string>();
    let sizeBytes = 0;
    let isGitOnly = superproject.listing.gitlinks.length === 0;
    const onFilled = async (filled: Superproject) => {
      indexes.add(basename(filled.copy.indexFile));
      const lfsBytes = await fetchLfsFiles(filled, context);
      if (lfsBytes !== undefined) isGitOnly = false;
      sizeBytes += filled.listing.sizeBytes + (lfsBytes ?? 0) + (await packedBytes(filled.copy.gitFolder));
    };
    await onFilled(superproject);
    await checkOutSubmodules(superproject, { ...context, onFilled });
    // Those of submodules that an earlier commit had.
    for (const name of await readdir(workspace.indexes))
      if (!indexes.has(name)) await rm(join(workspace.indexes, name));
    this.#cachedCheckout = { ...this.#cachedCheckout, sizeBytes, isGitOnly, history: job.history };
  }

  async #discardCachedCheckout(error: unknown): Promise<void> {
    this.#access.budget.signal.throwIfAborted();
    const { job, log } = this.#request;
    log(`cached checkout unusable, cloning from scratch: ${error}`);
    this.#cachedCheckout = newCheckout(job.history);
    this.#state = "empty";
    this.#copy = this.#newCopy();
  }
}

function newCheckout(history: History): CachedCheckout {
  return { id: randomUUID(), sizeBytes: 0, isGitOnly: true, history };
}

/**
 * A failure that is final for the job comes from the server, whatever checkout the job has started from. But the
 * repository at the URL may have been replaced by one with ids of another length.
 */
function mayBeCausedByCache(error: unknown): boolean {
  const isLocal = error instanceof ObjectFormatMismatch || error instanceof LocalGitFailure;
  return !(error instanceof StepFailure) || isLocal || error.failure.retryable;
}
