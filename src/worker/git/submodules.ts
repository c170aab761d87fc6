/**
 * Checks out a commit's submodules, each as a separate working copy. Without `git submodule`: the repository chooses
 * names, paths and URLs, and they must not act as options, reach a hook, or lead out of the checkout.
 */
import { createHash, randomUUID } from "node:crypto";
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
import { fileIn, type GitName, shownName } from "./names.ts";
import { type GitAccess, GitRemote } from "./remote.ts";
import type { Gitlink, TreeListing } from "./tree-listing.ts";
import { WorkingCopy } from "./working-copy.ts";

/** A checked out commit that may have submodules. */
export interface Superproject {
  readonly copy: WorkingCopy;
  readonly listing: TreeListing;
  /** The base of relative submodule URLs. */
  readonly url: string;
  /** Its parts in the cached checkout. */
  readonly cached: CachedParts;
}

export interface SubmoduleContext {
  readonly access: GitAccess;
  /** A folder of the run outside the checkout, for cached parts. */
  readonly aside: string;
  /** Called for each submodule once its files are written. */
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
  const declared = await declaredSubmodules(parent.copy);
  for (const gitlink of gitlinks) {
    const declaration = declared.get(gitlink.path);
    // Like git, leave the folder of a submodule that is not declared empty.
    if (declaration === undefined || declaration.update === "none") continue;
    try {
      if (declaration.url === undefined) throw refused(".gitmodules declares its path, but no url");
      const submodule = new Submodule(parent, gitlink, declaration.url, context);
      const filled = await submodule.fill();
      await context.onFilled(filled);
      await checkOutSubmodules(filled, context, depth + 1);
      await submodule.moveToPath();
    } catch (error) {
      throw inSubmodule(gitlink.path, error);
    }
  }
}

/**
 * Filled in a folder of the run and then moved to its path: the current folder of a process must be UTF-8, a path in a
 * repository need not be.
 */
class Submodule {
  readonly #gitlink: Gitlink;
  readonly #cached: CachedSubmodule | undefined;
  readonly #checkout: string;
  readonly #path: string;
  readonly #indexFile: string;
  readonly #url: string;
  readonly #context: SubmoduleContext;
  readonly #remote: GitRemote;

  constructor(parent: Superproject, gitlink: Gitlink, declaredUrl: string, context: SubmoduleContext) {
    const { access } = context;
    this.#gitlink = gitlink;
    this.#context = context;
    this.#checkout = parent.copy.path;
    this.#path = join(context.aside, randomUUID());
    this.#indexFile = `${parent.copy.indexFile}-${shortHash(gitlink.path)}`;
    this.#url = submoduleUrl(declaredUrl, parent.url, access);
    const cached = parent.cached.submodules.get(gitlink.path);
    this.#cached = cached?.declaredUrl === declaredUrl ? cached : undefined;
    this.#remote = new GitRemote({ repositoryUrl: this.#url, branch: gitlink.commit }, access);
  }

  /** Writes the submodule's own files; nested submodules follow separately. */
  async fill(): Promise<Superproject> {
    await checkPath(this.#checkout, this.#gitlink.path);
    return (this.#cached && (await this.#updateCached(this.#cached))) ?? (await this.#clone());
  }

  async moveToPath(): Promise<void> {
    await rename(this.#path, fileIn(this.#checkout, this.#gitlink.path));
  }

  async #clone(): Promise<Superproject> {
    const { path, commit } = this.#gitlink;
    const { access, aside } = this.#context;
    access.log(`cloning submodule ${shownName(path)}: ${this.#url}, ${commit}`);
    await mkdir(aside, { recursive: true, mode: 0o700 });
    const copy = new WorkingCopy(this.#path, this.#remote, access.budget, this.#indexFile);
    await copy.cloneCommit(commit);
    return this.#checkOut(copy, NO_CACHED_PARTS);
  }

  /** Undefined when the cached submodule is unusable or the fetch fails: a new clone then reports the reason. */
  async #updateCached(cached: CachedSubmodule): Promise<Superproject | undefined> {
    const { path, commit } = this.#gitlink;
    const { access, aside } = this.#context;
    try {
      await rename(cached.path, this.#path);
      const copy = new WorkingCopy(this.#path, this.#remote, access.budget, this.#indexFile);
      access.log(`updating submodule ${shownName(path)}: ${this.#url}, ${commit}`);
      await copy.restoreIndex();
      if (await copy.fetchNew(commit))
        return await this.#checkOut(copy, await moveAsideCachedParts(copy, aside));
      access.log(`failed to update cached submodule ${shownName(path)}, cloning from scratch`);
    } catch (error) {
      access.budget.signal.throwIfAborted();
      // A new clone would fail in the same way.
      if (error instanceof StepFailure && !error.failure.retryable) throw error;
      access.log(`cached submodule ${shownName(path)} unusable, cloning from scratch: ${error}`);
    }
    await removeTree(this.#path);
    return undefined;
  }

  async #checkOut(copy: WorkingCopy, cached: CachedParts): Promise<Superproject> {
    const { commit } = this.#gitlink;
    const listing = await copy.list(commit);
    await copy.checkOut(commit, undefined);
    return { copy, listing, url: this.#url, cached };
  }
}

function shortHash(path: GitName): string {
  return createHash("sha256").update(path).digest("hex").slice(0, 16);
}

/** Git has created the folder. No part of its path may be a symlink, or a .git. */
async function checkPath(checkout: string, path: GitName): Promise<void> {
  const parts = path.split("/");
  if (parts.some((part) => part === "" || part === "." || part === ".." || /^\.git$/i.test(part)))
    throw refused("its path is not allowed for a submodule");
  for (let end = 1; end <= parts.length; end++) {
    const folder = fileIn(checkout, parts.slice(0, end).join("/") as GitName);
    const entry = await lstat(folder).catch(() => undefined);
    if (!entry?.isDirectory()) throw refused("its path is not a folder of the repository");
  }
}

function inSubmodule(path: GitName, error: unknown): unknown {
  if (!(error instanceof StepFailure)) return error;
  const message = `submodule ${shownName(path)}: ${error.message}`;
  const { failure, throttled } = error;
  return new StepFailure({ ...failure, message, throttled, cause: error });
}
