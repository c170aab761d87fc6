/** How long a clone may take, and how large what it fetches and writes may become. */
import { readdir, stat } from "node:fs/promises";
import { join } from "node:path";
import { StepFailure } from "../job/failure.ts";

export interface CloneLimits {
  readonly timeoutMs: number;
  /** 0 for no limit. */
  readonly repositoryBytes: number;
}

export const DEFAULT_CLONE_LIMITS: CloneLimits = { timeoutMs: 600_000, repositoryBytes: 10e9 };

const CHECK_INTERVAL_MS = 200;
/** A file takes whole blocks, and an empty one still an inode. */
const BLOCK_BYTES = 4096;

export class CloneBudget {
  /** Aborts with the run, and with a StepFailure when one of the limits is passed. */
  readonly signal: AbortSignal;
  readonly #limits: CloneLimits;
  readonly #exceeded = new AbortController();
  readonly #timer: Timer;
  #usedBytes = 0;

  constructor(limits: CloneLimits, signal: AbortSignal) {
    this.#limits = limits;
    this.signal = AbortSignal.any([signal, this.#exceeded.signal]);
    this.#timer = setTimeout(() => this.#exceeded.abort(timedOut(limits.timeoutMs)), limits.timeoutMs);
  }

  spend(bytes: number): void {
    this.#usedBytes += bytes;
    this.#check(this.#usedBytes);
  }

  /** Counts what git puts into its folder while the work goes on. @throws the signal's reason. */
  async watching<T>(gitFolder: string, work: () => Promise<T>): Promise<T> {
    const beforeBytes = await packedBytes(gitFolder);
    let lookingAt: Promise<void> = Promise.resolve();
    const look = async () => this.#check(this.#usedBytes + (await packedBytes(gitFolder)) - beforeBytes);
    const timer = setInterval(() => {
      lookingAt = look();
    }, CHECK_INTERVAL_MS);
    try {
      return await work();
    } finally {
      clearInterval(timer);
      await lookingAt;
      this.spend(Math.max(0, (await packedBytes(gitFolder)) - beforeBytes));
      this.signal.throwIfAborted();
    }
  }

  end(): void {
    clearTimeout(this.#timer);
  }

  #check(bytes: number): void {
    const { repositoryBytes } = this.#limits;
    if (repositoryBytes > 0 && bytes > repositoryBytes)
      this.#exceeded.abort(tooLarge(bytes, repositoryBytes));
  }
}

export function fileBytes(sizeBytes: number): number {
  return Math.max(1, Math.ceil(sizeBytes / BLOCK_BYTES)) * BLOCK_BYTES;
}

/** Git keeps all that it has fetched in packs (fetch.unpackLimit), also while it is still coming. */
export async function packedBytes(gitFolder: string): Promise<number> {
  const folder = join(gitFolder, "objects", "pack");
  const names = await readdir(folder).catch(() => []);
  const sizes = await Promise.all(
    names.map((name) =>
      stat(join(folder, name)).then(
        ({ size }) => size,
        // Git has renamed or removed it.
        () => 0,
      ),
    ),
  );
  return sizes.reduce((sum, size) => sum + size, 0);
}

function tooLarge(bytes: number, limitBytes: number): StepFailure {
  const message = `the repository is too large: it needs more than ${megabytes(bytes)}, and BLACKTREE_REPOSITORY_LIMIT is ${megabytes(limitBytes)}`;
  return new StepFailure({ code: "CLONE_FAILED", step: "clone", message });
}

function timedOut(timeoutMs: number): StepFailure {
  const message = `cloning was ended after ${timeoutMs / 1000} s, which is BLACKTREE_GIT_TIMEOUT`;
  return new StepFailure({ code: "CLONE_FAILED", step: "clone", message, retryable: true });
}

function megabytes(bytes: number): string {
  return `${(bytes / 1e6).toFixed(1)} MB`;
}
