/**
 * Gets the files of the commit to build, in two steps: `resolve` asks the server with the job's own token, and learns
 * the commit; `checkOut` writes its files. A run that finds nothing to build does without the second one.
 *
 * Where there is a mirror (mirrors.ts) both only do what has changed since. A mirror is never a reason to fail: with
 * one that is of no use, everything is got anew.
 */
import { randomUUID } from "node:crypto";
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
import { DefaultBranchQuery } from "./default-branch.ts";
import { fetchLfsFiles } from "./lfs.ts";
import { type GitAccess, GitRemote } from "./remote.ts";
import { checkOutSubmodules, type Superproject } from "./submodules.ts";
import { type Tip, WorkingCopy } from "./working-copy.ts";

export interface CloneRequest {
  readonly job: Pick<PipelineJob, "awsAccount" | "branch" | "commit" | "gitToken">;
  readonly repositoryUrl: string;
  readonly allowed: GitSettings;
  readonly workspace: Pick<Workspace, "path" | "checkout" | "aside" | "history">;
  readonly environment: ChildEnvironment;
  readonly checkoutCache: CheckoutCache;
  readonly limits: CloneLimits;
  /** Somebody will ask for the default branch. */
  readonly needsDefaultBranch: boolean;
  readonly retry: RetryPolicy;
  readonly log: (line: string) => void;
  readonly signal: AbortSignal;
}

/** A commit that the server has offered to this job. */
export interface Source {
  readonly commit: string;
  /** Of the checkout: the same for a later run that goes on with it, and for no other. */
  readonly checkoutId: string;
  /** Fills the checkout folder, unless it was filled. */
  checkOut(): Promise<void>;
  /** As the server names it now; undefined when that is not to be learned. */
  defaultBranch(): Promise<string | undefined>;
  /** Leaves a whole checkout to the next run, when nothing uses it any more. */
  cacheCheckout(): Promise<void>;
}

/** @throws StepFailure */
export async function resolve(request: CloneRequest): Promise<Source> {
  const clone = new Clone(request, new CloneBudget(request.limits, request.signal));
  try {
    await clone.resolve();
    return clone;
  } catch (error) {
    await clone.end();
    throw error;
  }
}

/** `kept` is as an earlier run has left it, save for what was fetched into it since. */
type CheckoutState = "empty" | "kept" | "under way" | "whole";

class Clone implements Source {
  commit = "";
  readonly #request: CloneRequest;
  readonly #access: GitAccess;
  readonly #remote: GitRemote;
  readonly #owner: CheckoutOwner;
  readonly #defaultBranch: DefaultBranchQuery | undefined;
  /** What the checkout is made from, or what is made of it. */
  #cachedCheckout = newCheckout();
  #state: CheckoutState = "empty";
  #copy: WorkingCopy;
  #tip: Tip | undefined;

  constructor(request: CloneRequest, budget: CloneBudget) {
    const { job, repositoryUrl, allowed, environment, retry, log } = request;
    this.#request = request;
    this.#owner = { awsAccount: job.awsAccount, repositoryUrl };
    this.#access = { allowed, environment, retry, budget, log };
    const repository = { repositoryUrl, branch: job.branch, token: job.gitToken };
    this.#remote = new GitRemote(repository, this.#access);
    this.#copy = new WorkingCopy(request.workspace.checkout, this.#remote, budget);
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
      const question = { commit: this.commit, branch: job.branch, repositoryUrl, folder: workspace.history };
      await checkAncestor(this.#remote, question);
    }
  }

  get checkoutId(): string {
    return this.#cachedCheckout.id;
  }

  async checkOut(): Promise<void> {
    if (this.#state === "whole") return;
    try {
      const isCached = this.#state === "kept";
      const isUnchanged = isCached && this.#tip !== undefined && !this.#copy.hasExtraObjects;
      // Git's own part was offered by the server just now; all else has servers of its own to ask.
      if (!(isUnchanged && this.#cachedCheckout.isGitOnly)) {
        this.#state = "under way";
        await this.#fillBeyondGit(await (isCached ? this.#updateCachedCheckout() : this.#checkOutNewClone()));
      }
      this.#state = "whole";
    } finally {
      this.#access.budget.end();
    }
  }

  async defaultBranch(): Promise<string | undefined> {
    const answer = (await this.#defaultBranch?.answer) ?? { unknown: "it was not asked for" };
    if ("name" in answer) return answer.name;
    this.#request.log(`which branch is the default one is not known: ${answer.unknown}`);
    return undefined;
  }

  async end(): Promise<void> {
    this.#access.budget.end();
    await this.#defaultBranch?.end();
  }

  async cacheCheckout(): Promise<void> {
    await this.end();
    const isUntouched = this.#state === "kept" && !this.#copy.hasExtraObjects;
    if (this.#state !== "whole" && !isUntouched) return;
    await this.#request.checkoutCache.store(
      this.#owner,
      this.#request.workspace.checkout,
      this.#cachedCheckout,
    );
  }

  /** Undefined without a mirror. */
  async #tipOfCachedCheckout(): Promise<Tip | undefined> {
    const { checkoutCache, job, workspace } = this.#request;
    const cachedCheckout = await checkoutCache.acquire(this.#owner, job.branch, workspace.checkout);
    if (!cachedCheckout) return undefined;
    this.#cachedCheckout = cachedCheckout;
    this.#state = "kept";
    try {
      return await this.#copy.fetchTip(job.branch);
    } catch (error) {
      if (mayBeCausedByCache(error)) await this.#discardCachedCheckout(error);
      else {
        // Nothing was fetched into it, so it is as good as it was.
        await checkoutCache.store(this.#owner, workspace.checkout, cachedCheckout);
        throw error;
      }
      return undefined;
    }
  }

  async #updateCachedCheckout(): Promise<Superproject> {
    try {
      if (!this.#tip && (await this.#copy.head()) !== this.commit) await this.#copy.fetchCommit(this.commit);
      const { aside } = this.#request.workspace;
      return await this.#fillCopy(
        this.#cachedCheckout.isGitOnly ? NO_CACHED_PARTS : await moveAsideCachedParts(this.#copy, aside),
      );
    } catch (error) {
      if (!mayBeCausedByCache(error)) throw error;
      await this.#discardCachedCheckout(error);
      const tip = await this.#copy.cloneTip(this.#request.job.branch);
      // It may have moved on meanwhile.
      this.#tip = tip.commit === this.commit ? tip : undefined;
      return await this.#checkOutNewClone();
    }
  }

  async #checkOutNewClone(): Promise<Superproject> {
    if (!this.#tip) await this.#copy.fetchCommit(this.commit);
    return this.#fillCopy(NO_CACHED_PARTS);
  }

  async #fillCopy(cached: CachedParts): Promise<Superproject> {
    const { commit } = this;
    const listing = await this.#copy.list(commit);
    await this.#copy.checkOut(commit, this.#tip);
    return { copy: this.#copy, commit, listing, url: this.#request.repositoryUrl, cached };
  }

  /** Submodules, and the files of Git LFS in all of them. */
  async #fillBeyondGit(whole: Superproject): Promise<void> {
    const { job, repositoryUrl, workspace } = this.#request;
    const own = { repositoryUrl, token: job.gitToken };
    const context = { access: this.#access, own, aside: workspace.aside };
    let sizeBytes = 0;
    let isGitOnly = whole.listing.gitlinks.length === 0;
    const onFilled = async (filled: Superproject) => {
      const lfsBytes = await fetchLfsFiles(filled, context);
      if (lfsBytes > 0) isGitOnly = false;
      sizeBytes += filled.listing.sizeBytes + lfsBytes + (await packedBytes(filled.copy.gitFolder));
    };
    await onFilled(whole);
    await checkOutSubmodules(whole, { ...context, onFilled });
    this.#cachedCheckout = { ...this.#cachedCheckout, sizeBytes, isGitOnly };
  }

  async #discardCachedCheckout(error: unknown): Promise<void> {
    this.#access.budget.signal.throwIfAborted();
    const { log, workspace } = this.#request;
    log(`cloning anew, since what an earlier run has left is of no use: ${error}`);
    this.#cachedCheckout = newCheckout();
    this.#state = "empty";
    this.#copy = new WorkingCopy(workspace.checkout, this.#remote, this.#access.budget);
  }
}

function newCheckout(): CachedCheckout {
  return { id: randomUUID(), sizeBytes: 0, isGitOnly: true };
}

/** Of what the server has said of itself, no mirror is the reason. */
function mayBeCausedByCache(error: unknown): boolean {
  return !(error instanceof StepFailure) || error.failure.retryable;
}
