/**
 * A worker's mirrors of repositories: checkouts that ended runs have left, from which the next run of the same tenant
 * and repository starts. It fetches what is new since then, and writes the files that have changed.
 *
 * A mirror lies in `<work dir>/mirrors/<boot>/<tenant and repository>/` under a name that says all there is to know of
 * it, and is whole as long as it lies there: a run moves it into its own folder and moves it back, each one atomic.
 * So nobody uses the same one at once, one in use is never evicted, and with a run that is killed its mirror goes, too.
 * What a crash of the machine leaves of files that were just written is unknown, hence the boot in the path.
 */
import { createHash, randomUUID } from "node:crypto";
import { mkdir, readdir, readFile, rename } from "node:fs/promises";
import { join } from "node:path";
import { removeTree } from "../job/workspace.ts";

export interface CheckoutOwner {
  /** The tenant: what one has fetched is not another's to start from. */
  readonly awsAccount: string;
  readonly repositoryUrl: string;
}

export interface CachedCheckout {
  /** Stays the same however often it is used and moved. */
  readonly id: string;
  readonly sizeBytes: number;
  /** No submodules in it, and no files of Git LFS. */
  readonly isGitOnly: boolean;
}

export interface CheckoutCacheOptions {
  readonly workDir: string;
  /** Of all mirrors together; 0 for none. */
  readonly limitBytes: number;
  readonly bootId: string;
}

interface Entry extends CachedCheckout {
  readonly path: string;
  readonly usedAtMs: number;
}

const REMOVING = "removing-";
/** In the name of one that holds more than git has put there. */
const MORE = "more";
const NAME = new RegExp(`^(\\d+)-(\\d+)-(?:(${MORE})-)?(.+)$`);

export class CheckoutCache {
  readonly #root: string;
  readonly #folder: string;
  readonly #limitBytes: number;

  constructor({ workDir, limitBytes, bootId }: CheckoutCacheOptions) {
    this.#root = join(workDir, "mirrors");
    this.#folder = join(this.#root, bootId);
    this.#limitBytes = limitBytes;
  }

  /** Moves one to `checkout`, preferably one of the same branch; undefined when there is none. */
  async acquire(owner: CheckoutOwner, branch: string, checkout: string): Promise<CachedCheckout | undefined> {
    if (this.#limitBytes === 0) return undefined;
    const found = await this.#entriesOf(folderName(owner));
    const ofBranch = await Promise.all(found.map((entry) => isOfBranch(entry, branch)));
    const order = (entry: Entry) => entry.usedAtMs + (ofBranch[found.indexOf(entry)] ? Date.now() : 0);
    for (const entry of found.toSorted((one, other) => order(other) - order(one))) {
      const { path, id, sizeBytes, isGitOnly } = entry;
      if (await moved(path, checkout)) return { id, sizeBytes, isGitOnly };
    }
    return undefined;
  }

  /** Moves the checkout of a run that has ended to the mirrors, and makes room for it. */
  async store(owner: CheckoutOwner, checkout: string, cachedCheckout: CachedCheckout): Promise<void> {
    const { id, sizeBytes, isGitOnly } = cachedCheckout;
    if (sizeBytes > this.#limitBytes) return;
    const folder = join(this.#folder, folderName(owner));
    await mkdir(folder, { recursive: true, mode: 0o700 });
    const name = [Date.now(), sizeBytes, ...(isGitOnly ? [] : [MORE]), id].join("-");
    await rename(checkout, join(folder, name));
    await this.evict(this.#limitBytes);
  }

  /** Removes mirrors, the least recently used first, until the others are no larger than this. */
  async evict(limitBytes: number): Promise<void> {
    let totalBytes = 0;
    const entries = await this.#entries();
    for (const entry of entries.toSorted((one, other) => other.usedAtMs - one.usedAtMs)) {
      totalBytes += entry.sizeBytes;
      if (totalBytes > limitBytes) await this.#remove(entry.path);
    }
  }

  /** What was being removed when a worker was killed, and what is from before the machine's last start. */
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
      const [, usedAtMs, sizeBytes, more, id] = NAME.exec(name) ?? [];
      if (id === undefined) return [];
      const isGitOnly = more === undefined;
      return {
        path: join(path, name),
        id,
        usedAtMs: Number(usedAtMs),
        sizeBytes: Number(sizeBytes),
        isGitOnly,
      };
    });
  }

  /** Out of the way first: what is half removed must not be taken. */
  async #remove(path: string): Promise<void> {
    const removing = join(this.#root, `${REMOVING}${randomUUID()}`);
    if (await moved(path, removing)) await removeTree(removing);
  }
}

function folderName({ awsAccount, repositoryUrl }: CheckoutOwner): string {
  return createHash("sha256")
    .update(JSON.stringify([awsAccount, repositoryUrl]))
    .digest("hex")
    .slice(0, 32);
}

async function isOfBranch(entry: Entry, branch: string): Promise<boolean> {
  const head = await readFile(join(entry.path, ".git", "HEAD"), "utf8").catch(() => "");
  return head.trim() === `ref: refs/heads/${branch}`;
}

/** False when somebody else was first. */
async function moved(from: string, to: string): Promise<boolean> {
  try {
    await rename(from, to);
    return true;
  } catch (error) {
    if (isAbsence(error)) return false;
    throw error;
  }
}

async function namesIn(folder: string): Promise<string[]> {
  try {
    return await readdir(folder);
  } catch (error) {
    if (isAbsence(error)) return [];
    throw error;
  }
}

function isAbsence(error: unknown): boolean {
  return error instanceof Error && "code" in error && error.code === "ENOENT";
}
