/**
 * A commit's submodules, each a working copy of its own in its place. By hand, not by `git submodule`: names, paths and
 * URLs are the repository's to choose, and none of them gets near an option, a hook or a place outside of the checkout.
 */
import { lstat } from "node:fs/promises";
import { join } from "node:path";
import { isAllowedUrl } from "../../shared/repository-url.ts";
import { type GitAccess, GitRemote } from "./git-remote.ts";
import { StepFailure } from "./step-failure.ts";
import type { Gitlink, TreeListing } from "./tree-listing.ts";
import { WorkingCopy } from "./working-copy.ts";

/** A checked out commit that may have submodules. */
export interface Superproject {
  readonly copy: WorkingCopy;
  readonly commit: string;
  readonly listing: TreeListing;
  /** What a submodule's relative URL is relative to. */
  readonly url: string;
}

export interface SubmoduleContext {
  readonly access: GitAccess;
  /** The job's repository: a submodule that is the same one gets its token, and no other does. */
  readonly own: { readonly repositoryUrl: string; readonly token: string | undefined };
  /** Done with each of them once its files are there. */
  readonly onFilled: (filled: Superproject) => Promise<void>;
}

interface Declaration {
  readonly url?: string;
  readonly path?: string;
  readonly update?: string;
}

const DEEPEST = 10;

export async function checkOutSubmodules(
  parent: Superproject,
  context: SubmoduleContext,
  depth = 1,
): Promise<void> {
  const { gitlinks } = parent.listing;
  if (gitlinks.length === 0) return;
  if (depth > DEEPEST) throw refused(`its submodules are nested more than ${DEEPEST} deep`);
  const declared = await declarationsOf(parent);
  for (const gitlink of gitlinks) {
    const { url, update } = declared.find(({ path }) => path === gitlink.path) ?? {};
    // Git, too, leaves the folder of one that it knows no URL of empty.
    if (url === undefined || update === "none") continue;
    try {
      await checkOutOne(parent, gitlink, submoduleUrl(url, parent.url, context), context, depth);
    } catch (error) {
      throw inSubmodule(gitlink.path, error);
    }
  }
}

async function checkOutOne(
  parent: Superproject,
  { path, commit }: Gitlink,
  url: string,
  context: SubmoduleContext,
  depth: number,
): Promise<void> {
  await checkPlace(parent.copy.path, path);
  const { access, own } = context;
  const token = url === own.repositoryUrl ? own.token : undefined;
  access.log(`cloning submodule ${path}: ${url}, ${commit}`);
  const remote = new GitRemote({ repositoryUrl: url, branch: commit, token }, access);
  const copy = await WorkingCopy.create(join(parent.copy.path, path), remote, access.budget);
  await copy.fetchCommit(commit);
  const listing = await copy.list(commit);
  await copy.checkOut(commit, undefined);
  const filled = { copy, commit, listing, url };
  await context.onFilled(filled);
  await checkOutSubmodules(filled, context, depth + 1);
}

/** From the commit, not from the file: that could be a symlink. */
async function declarationsOf({ copy, commit }: Superproject): Promise<Declaration[]> {
  const declarations = new Map<string, Record<string, string>>();
  const args = [`--blob=${commit}:.gitmodules`, "--get-regexp", "^submodule\\..*\\.(path|url|update)$"];
  await copy.remote.git.local(["config", ...args], copy.path, (line) => {
    const [, name, key, value] = /^submodule\.(.*)\.(path|url|update) (.*)$/.exec(line) ?? [];
    if (name === undefined || key === undefined || value === undefined) return;
    declarations.set(name, { ...declarations.get(name), [key]: value });
  });
  return [...declarations.values()];
}

function submoduleUrl(declared: string, parentUrl: string, { access }: SubmoduleContext): string {
  const isRelative = /^\.\.?\//.test(declared);
  const url = isRelative ? URL.parse(declared, `${parentUrl}/`) : URL.parse(declared);
  if (!url || !/^https?:$/.test(url.protocol))
    throw refused(`${declared} is no http or https URL, and no other can be cloned`);
  if (url.username !== "" || url.password !== "" || url.search !== "" || url.hash !== "")
    throw refused("its URL must have no user, password, query or fragment");
  if (!isAllowedUrl(url.href, access.allowed))
    throw refused(`${url.origin} is not one of the hosts in BLACKTREE_GIT_ALLOWED_HOSTS`);
  return `${url.origin}${url.pathname.replace(/\/+$/, "")}`;
}

/** Git has made the folder. No part of the way there may lead elsewhere, or into a .git. */
async function checkPlace(checkout: string, path: string): Promise<void> {
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

function refused(message: string): StepFailure {
  return new StepFailure({ code: "UNSUPPORTED", step: "clone", message });
}

function inSubmodule(path: string, error: unknown): unknown {
  if (!(error instanceof StepFailure)) return error;
  const message = `submodule ${path}: ${error.message}`;
  return new StepFailure({ ...error.failure, message, cause: error });
}
