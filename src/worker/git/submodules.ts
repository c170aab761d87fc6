/**
 * A commit's submodules, each a working copy of its own in its place. By hand, not by `git submodule`: names, paths and
 * URLs are the repository's to choose, and none of them gets near an option, a hook or a place outside of the checkout.
 */
import { lstat, mkdir, rename } from "node:fs/promises";
import { join } from "node:path";
import { StepFailure } from "../job/failure.ts";
import { removeTree } from "../job/workspace.ts";
import {
  type CachedParts,
  type CachedSubmodule,
  moveAsideCachedParts,
  NO_CACHED_PARTS,
} from "./cached-parts.ts";
import { declaredSubmodules, refused, submoduleUrl } from "./gitmodules.ts";
import { type GitAccess, GitRemote } from "./remote.ts";
import type { Gitlink, TreeListing } from "./tree-listing.ts";
import { WorkingCopy } from "./working-copy.ts";

/** A checked out commit that may have submodules. */
export interface Superproject {
  readonly copy: WorkingCopy;
  readonly commit: string;
  readonly listing: TreeListing;
  /** What a submodule's relative URL is relative to. */
  readonly url: string;
  /** Of its parts. */
  readonly cached: CachedParts;
}

export interface SubmoduleContext {
  readonly access: GitAccess;
  /** The job's repository: a submodule that is the same one gets its token, and no other does. */
  readonly own: { readonly repositoryUrl: string; readonly token: string | undefined };
  /** A folder of the run, outside of the checkout. */
  readonly aside: string;
  /** Done with each of them once its files are there. */
  readonly onFilled: (filled: Superproject) => Promise<void>;
}

const MAX_DEPTH = 10;

export async function checkOutSubmodules(
  parent: Superproject,
  context: SubmoduleContext,
  depth = 1,
): Promise<void> {
  const { gitlinks } = parent.listing;
  if (gitlinks.length === 0) return;
  if (depth > MAX_DEPTH) throw refused(`its submodules are nested more than ${MAX_DEPTH} deep`);
  const declared = await declaredSubmodules(parent.copy, parent.commit);
  for (const gitlink of gitlinks) {
    const { url, update } = declared.find(({ path }) => path === gitlink.path) ?? {};
    // Git, too, leaves the folder of one that it knows no URL of empty.
    if (url === undefined || update === "none") continue;
    try {
      const filled = await new Submodule(parent, gitlink, url, context).fill();
      await context.onFilled(filled);
      await checkOutSubmodules(filled, context, depth + 1);
    } catch (error) {
      throw inSubmodule(gitlink.path, error);
    }
  }
}

class Submodule {
  readonly #gitlink: Gitlink;
  readonly #cached: CachedSubmodule | undefined;
  readonly #checkout: string;
  readonly #place: string;
  readonly #url: string;
  readonly #context: SubmoduleContext;
  readonly #remote: GitRemote;

  constructor(parent: Superproject, gitlink: Gitlink, declaredUrl: string, context: SubmoduleContext) {
    const { access, own } = context;
    this.#gitlink = gitlink;
    this.#context = context;
    this.#checkout = parent.copy.path;
    this.#place = join(parent.copy.path, gitlink.path);
    this.#url = submoduleUrl(declaredUrl, parent.url, access);
    const cached = parent.cached.submodules.get(gitlink.path);
    this.#cached = cached?.declaredUrl === declaredUrl ? cached : undefined;
    const token = this.#url === own.repositoryUrl ? own.token : undefined;
    this.#remote = new GitRemote({ repositoryUrl: this.#url, branch: gitlink.commit, token }, access);
  }

  /** Of its files alone: what is nested in it is not its own. */
  async fill(): Promise<Superproject> {
    await checkPath(this.#checkout, this.#gitlink.path);
    return (this.#cached && (await this.#updateCached(this.#cached))) ?? (await this.#clone());
  }

  async #clone(): Promise<Superproject> {
    const { path, commit } = this.#gitlink;
    const { access } = this.#context;
    access.log(`cloning submodule ${path}: ${this.#url}, ${commit}`);
    const copy = await WorkingCopy.create(this.#place, this.#remote, access.budget);
    await copy.fetchCommit(commit);
    return this.#checkOut(copy, NO_CACHED_PARTS);
  }

  /** Undefined when it is of no use, or its server does not give this job the commit: a new clone says which. */
  async #updateCached(cached: CachedSubmodule): Promise<Superproject | undefined> {
    const { path, commit } = this.#gitlink;
    const { access, aside } = this.#context;
    try {
      await rename(cached.place, this.#place);
      const copy = new WorkingCopy(this.#place, this.#remote, access.budget);
      access.log(`updating submodule ${path}: ${this.#url}, ${commit}`);
      if (await copy.fetchNew(commit))
        return await this.#checkOut(copy, await moveAsideCachedParts(copy, aside));
      access.log(`cloning submodule ${path} anew, since what an earlier run has left did not help`);
    } catch (error) {
      access.budget.signal.throwIfAborted();
      access.log(`cloning submodule ${path} anew, since what an earlier run has left is of no use: ${error}`);
    }
    await removeTree(this.#place);
    await mkdir(this.#place);
    return undefined;
  }

  async #checkOut(copy: WorkingCopy, cached: CachedParts): Promise<Superproject> {
    const { commit } = this.#gitlink;
    const listing = await copy.list(commit);
    await copy.checkOut(commit, undefined);
    return { copy, commit, listing, url: this.#url, cached };
  }
}

/** Git has made the folder. No part of the way there may lead elsewhere, or into a .git. */
async function checkPath(checkout: string, path: string): Promise<void> {
  const parts = path.split("/");
  if (parts.some((part) => part === "" || part === "." || part === ".." || /^\.git$/i.test(part)))
    throw refused("its path is none that a submodule may have");
  let place = checkout;
  for (const part of parts) {
    place = join(place, part);
    const entry = await lstat(place).catch(() => undefined);
    if (!entry?.isDirectory()) throw refused("its path is no folder of the repository");
  }
}

function inSubmodule(path: string, error: unknown): unknown {
  if (!(error instanceof StepFailure)) return error;
  const message = `submodule ${path}: ${error.message}`;
  return new StepFailure({ ...error.failure, message, cause: error });
}
