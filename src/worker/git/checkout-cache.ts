/**
 * A worker's cache of checkouts. The next run of the same tenant and repository starts from the checkout of an ended
 * run: it fetches only new objects and writes only changed files.
 *
 * A cached checkout is in `<work dir>/mirrors/<boot>-<format>/<tenant and repository>/`; its name contains all its metadata. It
 * is always complete: a run moves it to its own folder and back, each time with one atomic rename. So two runs never
 * share a checkout, a checkout in use is never evicted, and a killed run loses its checkout. After a crash of the
 * machine, recently written files may be damaged, so the path contains the boot id.
 */
import { createHash, randomUUID } from "node:crypto";
import { mkdir, readdir, readFile, rename } from "node:fs/promises";
import { join } from "node:path";
import { removeTree, type Workspace } from "../job/workspace.ts";
import { type History, isSameHistory, ONE_COMMIT } from "./history.ts";
import { candidatesOf } from "./reference.ts";

export interface CheckoutOwner {
  /** Tenants never share checkouts. */
  readonly tenant: string;
  readonly repositoryUrl: string;
}

export interface CachedCheckout {
  /** Does not change when runs use and move the checkout. */
  readonly id: string;
  readonly sizeBytes: number;
  /** It has no submodules and no Git LFS files. */
  readonly isGitOnly: boolean;
  readonly history: History;
}

export type CheckoutFolders = Pick<Workspace, "checkout" | "indexes">;

export interface CheckoutCacheOptions {
  readonly workDir: string;
  /** Total size of all cached checkouts; 0 disables the cache. */
  readonly limitBytes: number;
  readonly bootId: string;
}

interface Entry extends CachedCheckout {
  readonly path: string;
  readonly usedAtMs: number;
}

/**
 * Checkouts of another format cannot be used. In those before 2, the modes of files depended on the worker's umask; in
 * those before 3, some Git LFS files were missing, and .git/index had the times of the files.
 */
const FORMAT = 3;
/** In the .git of a cached checkout: the indexes, which are outside of the checkout while a run uses it. */
const INDEXES = "worker-indexes";
const REMOVING = "removing-";
/** In the name of a checkout with submodules or Git LFS files. */
const MORE = "more";
/** In the name of a checkout with more history than one commit: the depth, and a `t` for tags. */
const HISTORY = "history";
const NAME = new RegExp(`^(\\d+)-(\\d+)-(?:(${MORE})-)?(?:${HISTORY}(\\d+)(t?)-)?(.+)$`);

export class CheckoutCache {
  readonly #root: string;
  readonly #folder: string;
  readonly #limitBytes: number;

  constructor({ workDir, limitBytes, bootId }: CheckoutCacheOptions) {
    this.#root = join(workDir, "mirrors");
    this.#folder = join(this.#root, `${bootId}-${FORMAT}`);
    this.#limitBytes = limitBytes;
  }

  /**
   * Moves a cached checkout to the workspace, preferably one with the same history, and then one of the same branch;
   * undefined when the cache has none.
   */
  async acquire(
    owner: CheckoutOwner,
    { branch, history }: { readonly branch: string; readonly history: History },
    { checkout, indexes }: CheckoutFolders,
  ): Promise<CachedCheckout | undefined> {
    if (this.#limitBytes === 0) return undefined;
    const found = await this.#entriesOf(folderName(owner));
    const ofBranch = await Promise.all(found.map((entry) => isOfBranch(entry, branch)));
    const nowMs = Date.now();
    const order = (entry: Entry) =>
      entry.usedAtMs +
      (isSameHistory(entry.history, history) ? 2 * nowMs : 0) +
      (ofBranch[found.indexOf(entry)] ? nowMs : 0);
    for (const entry of found.toSorted((one, other) => order(other) - order(one))) {
      const { path, id, sizeBytes, isGitOnly, history } = entry;
      if (!(await moved(path, checkout))) continue;
      await moved(join(checkout, ".git", INDEXES), indexes);
      return { id, sizeBytes, isGitOnly, history };
    }
    return undefined;
  }

  /** Moves the checkout of an ended run into the cache, then evicts others to stay within the limit. */
  async store(
    owner: CheckoutOwner,
    { checkout, indexes }: CheckoutFolders,
    cachedCheckout: CachedCheckout,
  ): Promise<void> {
    const { id, sizeBytes, isGitOnly, history } = cachedCheckout;
    if (sizeBytes > this.#limitBytes) return;
    const folder = join(this.#folder, folderName(owner));
    await mkdir(folder, { recursive: true, mode: 0o700 });
    const more = isGitOnly ? [] : [MORE];
    const deeper = isSameHistory(history, ONE_COMMIT)
      ? []
      : [`${HISTORY}${history.depth}${history.tags ? "t" : ""}`];
    const name = [Date.now(), sizeBytes, ...more, ...deeper, id].join("-");
    await moved(indexes, join(checkout, ".git", INDEXES));
    await rename(checkout, join(folder, name));
    await this.evict(this.#limitBytes);
  }

  /** Of all cached checkouts, from their names. */
  async sizeBytes(): Promise<number> {
    return (await this.#entries()).reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
  }

  /** Removes cached checkouts, the least recently used first, until the rest is within the limit. */
  async evict(limitBytes: number): Promise<void> {
    let totalBytes = 0;
    const entries = await this.#entries();
    for (const entry of entries.toSorted((one, other) => other.usedAtMs - one.usedAtMs)) {
      totalBytes += entry.sizeBytes;
      if (totalBytes > limitBytes) await this.#remove(entry.path);
    }
  }

  /** Removes what a killed worker had begun to remove, and checkouts of an earlier boot or format. */
  async removeStale(): Promise<void> {
    for (const name of await namesIn(this.#root)) {
      const path = join(this.#root, name);
      if (path !== this.#folder) await removeTree(path);
    }
    await this.evict(this.#limitBytes);
  }

  async #entries(): Promise<Entry[]> {
    const folders = await namesIn(this.#folder);
    return (await Promise.all(folders.map((name) => this.#entriesOf(name)))).flat();
  }

  async #entriesOf(folder: string): Promise<Entry[]> {
    const path = join(this.#folder, folder);
    return (await namesIn(path)).flatMap((name) => {
      const [, usedAtMs, sizeBytes, more, depth, tags, id] = NAME.exec(name) ?? [];
      if (id === undefined) return [];
      const isGitOnly = more === undefined;
      const history = depth === undefined ? ONE_COMMIT : { depth: Number(depth), tags: tags === "t" };
      return {
        history,
        path: join(path, name),
        id,
        usedAtMs: Number(usedAtMs),
        sizeBytes: Number(sizeBytes),
        isGitOnly,
      };
    });
  }

  /** Renames it first: no run may acquire a checkout that is partly removed. */
  async #remove(path: string): Promise<void> {
    const removing = join(this.#root, `${REMOVING}${randomUUID()}`);
    if (await moved(path, removing)) await removeTree(removing);
  }
}

function folderName({ tenant, repositoryUrl }: CheckoutOwner): string {
  return createHash("sha256")
    .update(JSON.stringify([tenant, repositoryUrl]))
    .digest("hex")
    .slice(0, 32);
}

async function isOfBranch(entry: Entry, branch: string): Promise<boolean> {
  const head = await readFile(join(entry.path, ".git", "HEAD"), "utf8").catch(() => "");
  return candidatesOf(branch).some((source) => head === `ref: ${source}\n` || head === `${source}\n`);
}

/** False when `from` no longer exists: another run or the eviction has moved it. */
async function moved(from: string, to: string): Promise<boolean> {
  try {
    await rename(from, to);
    return true;
  } catch (error) {
    if (isNotFound(error)) return false;
    throw error;
  }
}

async function namesIn(folder: string): Promise<string[]> {
  try {
    return await readdir(folder);
  } catch (error) {
    if (isNotFound(error)) return [];
    throw error;
  }
}

function isNotFound(error: unknown): boolean {
  return error instanceof Error && "code" in error && error.code === "ENOENT";
}
