/** Limits on the duration of a clone, on the size of what it fetches and writes, and on what a repository declares. */
import { readdir, stat } from "node:fs/promises";
import { join } from "node:path";
import { StepFailure } from "../job/failure.ts";
import { type GitName, shownName } from "./names.ts";

export interface CloneLimits {
  readonly timeoutMs: number;
  /** A git command is ended when its server is silent for this long. */
  readonly silenceTimeoutMs: number;
  /** 0 for no limit. */
  readonly repositoryBytes: number;
  /** Of the repository and its submodules together. */
  readonly submodules: number;
  /** Submodules that one .gitmodules file declares. */
  readonly submoduleDeclarations: number;
  /** Of one file with settings for git: .gitattributes, .gitmodules or .lfsconfig. */
  readonly settingsFileBytes: number;
}

export const DEFAULT_CLONE_LIMITS: CloneLimits = {
  timeoutMs: 600_000,
  silenceTimeoutMs: 120_000,
  repositoryBytes: 10e9,
  submodules: 1000,
  submoduleDeclarations: 10_000,
  settingsFileBytes: 1e6,
};

const CHECK_INTERVAL_MS = 200;
/** A file occupies whole blocks; an empty file, which occupies an inode, counts as one block. */
const BLOCK_BYTES = 4096;
/** Disk space of a folder without its files. */
export const FOLDER_BYTES = BLOCK_BYTES;

export class CloneBudget {
  /** Aborts with the run, and with a StepFailure when a limit is exceeded. */
  readonly signal: AbortSignal;
  readonly #limits: CloneLimits;
  readonly #exceeded = new AbortController();
  readonly #timer: Timer;
  readonly #deadlineMs: number;
  #usedBytes = 0;
  #submodules = 0;

  /** `deadlineMs` is when the run times out, as `performance.now` counts. */
  constructor(limits: CloneLimits, signal: AbortSignal, deadlineMs = Number.POSITIVE_INFINITY) {
    this.#limits = limits;
    this.#deadlineMs = Math.min(deadlineMs, performance.now() + limits.timeoutMs);
    this.signal = AbortSignal.any([signal, this.#exceeded.signal]);
    this.#timer = setTimeout(() => this.#exceeded.abort(timedOut(limits.timeoutMs)), limits.timeoutMs);
  }

  get silenceTimeoutMs(): number {
    return this.#limits.silenceTimeoutMs;
  }

  /** Until the run or the clone times out. */
  timeLeftMs(): number {
    return this.#deadlineMs - performance.now();
  }

  spend(bytes: number): void {
    this.#usedBytes += bytes;
    this.#check(this.#usedBytes);
  }

  spendSubmodule(): void {
    this.#submodules += 1;
    const limit = this.#limits.submodules;
    if (this.#submodules > limit)
      this.refuse(`it has more than ${limit} submodules (BLACKTREE_SUBMODULE_LIMIT)`);
  }

  /** `count` is that of one .gitmodules file. */
  checkDeclarations(count: number): void {
    const limit = this.#limits.submoduleDeclarations;
    if (count <= limit) return;
    this.refuse(
      `a .gitmodules declares more than ${limit} submodules (BLACKTREE_SUBMODULE_DECLARATION_LIMIT)`,
    );
  }

  checkSettingsFile(path: GitName, sizeBytes: number): void {
    const limit = this.#limits.settingsFileBytes;
    if (sizeBytes <= limit) return;
    const size = `${sizeBytes} bytes, and BLACKTREE_GIT_SETTINGS_FILE_LIMIT is ${limit}`;
    this.refuse(`the file ${shownName(path)} has ${size}`);
  }

  /** Ends the clone. */
  refuse(reason: string): void {
    this.#exceeded.abort(
      new StepFailure({
        code: "CLONE_FAILED",
        step: "clone",
        message: `the repository is refused: ${reason}`,
      }),
    );
  }

  /** Counts the packs that git writes to its folder during `work`. @throws the signal's reason. */
  async watching<T>(gitFolder: string, work: () => Promise<T>): Promise<T> {
    const beforeBytes = await packedBytes(gitFolder);
    let checking: Promise<void> = Promise.resolve();
    const check = async () => this.#check(this.#usedBytes + (await packedBytes(gitFolder)) - beforeBytes);
    const timer = setInterval(() => {
      checking = check();
    }, CHECK_INTERVAL_MS);
    try {
      return await work();
    } finally {
      clearInterval(timer);
      await checking;
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

/** Everything that git fetches is in packs (fetch.unpackLimit), also during the transfer. */
export async function packedBytes(gitFolder: string): Promise<number> {
  const folder = join(gitFolder, "objects", "pack");
  const names = await readdir(folder).catch(() => []);
  const sizes = await Promise.all(
    names.map((name) =>
      stat(join(folder, name)).then(
        ({ size }) => size,
        // Git has renamed or removed the file.
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
  const message = `cloning timed out after ${timeoutMs / 1000} s (BLACKTREE_GIT_TIMEOUT)`;
  return new StepFailure({ code: "CLONE_FAILED", step: "clone", message, retryable: true });
}

function megabytes(bytes: number): string {
  return `${(bytes / 1e6).toFixed(1)} MB`;
}
