/**
 * The folder that a job's image is built from: one commit's files, and a .git that contains only this commit. Since
 * `COPY . .` puts all of it into an image, it has no remote, no other branch, no older tip and no secret.
 */
import { mkdir, readdir, readFile, rm } from "node:fs/promises";
import { dirname, join } from "node:path";
import { diskFull, StepFailure } from "../job/failure.ts";
import { removeTree } from "../job/workspace.ts";
import type { ChildEnvironment } from "../process/child-environment.ts";
import type { GroupEnd } from "../process/process-group.ts";
import { type CloneBudget, packedBytes } from "./budget.ts";
import type { NetworkEnd } from "./command.ts";
import { isGitDiskFull, isServerFault } from "./failure.ts";
import type { AdvertisedRef } from "./git-trace.ts";
import { runLocalGit } from "./local.ts";
import type { GitRemote } from "./remote.ts";
import { withoutFolders } from "./reportable.ts";
import { TreeListing, unquoted } from "./tree-listing.ts";

/** A branch or a tag, with its commit. */
export interface Tip {
  /** With `refs/heads/` or `refs/tags/`. */
  readonly ref: string;
  /** The id of the tag object for an annotated tag, else of the commit. */
  readonly id: string;
  readonly commit: string;
}

const CONFIG = "[core]\n\trepositoryformatversion = 0\n\tfilemode = true\n\tbare = false\n";
const LFS_FILES = ":(attr:filter=lfs)";
const FETCH = ["fetch", "--quiet", "--no-tags", "--depth=1"];

export class WorkingCopy {
  readonly gitFolder: string;
  /** The packs may contain objects that the checked out commit does not need. */
  #hasExtraObjects = false;

  constructor(
    readonly path: string,
    readonly remote: GitRemote,
    readonly budget: CloneBudget,
  ) {
    this.gitFolder = join(path, ".git");
  }

  /** The folder must exist and be empty. */
  static async create(path: string, remote: GitRemote, budget: CloneBudget): Promise<WorkingCopy> {
    const copy = new WorkingCopy(path, remote, budget);
    // Without --quiet: simple-git waits 50 ms longer for a command that prints nothing.
    await copy.#local(["init", "--template="]);
    return copy;
  }

  get hasExtraObjects(): boolean {
    return this.#hasExtraObjects;
  }

  /** Uses one connection. Git prefers a branch over a tag of the same name. */
  async cloneTip(branch: string): Promise<Tip> {
    const { path, gitFolder } = this;
    const args = (url: string) => [
      "clone",
      "--depth=1",
      "--no-checkout",
      ...cloneArguments(branch, url, path),
    ];
    await this.remote.run({ args, cwd: dirname(path), gitFolder, into: path });
    const format = "--format=%(objectname) %(*objectname) %(refname)";
    const [line = ""] = await this.#local(["for-each-ref", format, "refs/heads", "refs/tags"]);
    const [, id = "", peeled = "", ref = ""] = /^(\w+) (\w*) (.+)$/.exec(line) ?? [];
    return { ref, id, commit: peeled || id };
  }

  /** As `cloneTip`, for a working copy that is not empty: the server sends only new objects. */
  async fetchTip(branch: string): Promise<Tip> {
    const found = await this.#fetchRef(`refs/heads/${branch}`);
    return found ?? (await this.#fetchRefOrFail(`refs/tags/${branch}`));
  }

  async fetchCommit(commit: string): Promise<void> {
    this.#hasExtraObjects = true;
    const command = { cwd: this.path, gitFolder: this.gitFolder };
    const onlyCommit = { ...command, args: (url: string) => [...FETCH, url, commit] };
    const alone = await this.remote.tryOnce(onlyCommit);
    if (alone.exitCode === 0) return;
    if (isServerFault(alone)) return this.remote.run(onlyCommit, alone);
    // A server may refuse a commit that is not the tip of a branch or tag. Every server sends complete histories.
    const isShallow = await Bun.file(join(this.gitFolder, "shallow")).exists();
    const all = ["fetch", "--quiet", "--no-tags", ...(isShallow ? ["--unshallow"] : [])];
    const everything = "+refs/*:refs/everything/*";
    await this.remote.run({ ...command, args: (url) => [...all, url, everything] });
  }

  /** As `fetchCommit`, but without objects that the checked out commit has. False when the local repository fails. */
  async fetchNew(commit: string): Promise<boolean> {
    const { path: cwd, gitFolder } = this;
    const head = await this.head();
    const beforeBytes = await packedBytes(gitFolder);
    const options = ["--no-write-fetch-head", `--negotiation-tip=${head}`];
    const args = (url: string) => [...FETCH, ...options, url, commit];
    const end = await this.remote.tryOnce({ cwd, gitFolder, args });
    const mayPass = end.exitCode !== 0 && isServerFault(end);
    if (mayPass) await this.remote.run({ cwd, gitFolder, args }, end);
    this.#hasExtraObjects = head !== commit || (await packedBytes(gitFolder)) !== beforeBytes;
    return mayPass || end.exitCode === 0;
  }

  /** The commit that is checked out. */
  async head(): Promise<string> {
    const head = (await readFile(join(this.gitFolder, "HEAD"), "utf8")).trim();
    const ref = /^ref: (.+)$/.exec(head)?.[1];
    return ref === undefined ? head : ((await this.#idOf(ref)) ?? "");
  }

  /** Lists a fetched commit before its checkout. @throws the budget's reason when the files exceed the limit. */
  async list(commit: string): Promise<TreeListing> {
    const listing = new TreeListing(this.budget);
    await this.#localInGroup(
      ["-c", "core.quotePath=false", "ls-tree", "-r", "-t", "-l", commit],
      listing.add,
    );
    return listing;
  }

  /** Paths of submodules. */
  async gitlinkPaths(): Promise<string[]> {
    return this.#listed(["--stage"], /^160000 \w+ 0\t(.*)$/);
  }

  /** Paths that .gitattributes assigns to Git LFS, whether or not the file is a pointer. */
  async lfsFiles(): Promise<string[]> {
    return this.#listed(["-t", "--", LFS_FILES], /^H (.*)$/);
  }

  /** Git LFS paths where git's pointer was replaced, usually by the file. */
  async modifiedLfsFiles(): Promise<string[]> {
    return this.#listed(["-t", "--modified", "--", LFS_FILES], /^C (.*)$/);
  }

  /** `tip` is undefined when the commit is not the tip of the job's branch or tag. */
  async checkOut(commit: string, tip: Tip | undefined): Promise<void> {
    await this.#writeGitFolder(commit, tip);
    await this.#discardFilesOfOtherAttributes(commit);
    const written = this.#localInGroup(["read-tree", "--reset", "-u", commit]);
    const packed = this.#hasExtraObjects ? this.#repackCommit() : undefined;
    // When one of them fails, the caller removes the folder: wait until the other has stopped writing to it.
    await Promise.allSettled([written, packed]);
    await written;
    const repacked = await packed;
    if (repacked !== undefined) await this.#removeOtherPacks(repacked);
    this.#hasExtraObjects = false;
  }

  /** Paths from the index. The pattern separates them from warnings. */
  async #listed(options: readonly string[], pattern: RegExp): Promise<string[]> {
    const paths: string[] = [];
    await this.#localInGroup(["-c", "core.quotePath=false", "ls-files", ...options], (line) => {
      const name = pattern.exec(line)?.[1];
      if (name !== undefined) paths.push(unquoted(name));
    });
    return paths;
  }

  async #fetchRefOrFail(ref: string, first?: NetworkEnd): Promise<Tip> {
    const command = { cwd: this.path, gitFolder: this.gitFolder };
    await this.remote.run({ ...command, args: (url) => [...FETCH, url, `+${ref}:${ref}`] }, first);
    return this.#fetched(ref);
  }

  /** Undefined when the server has no such branch or tag. */
  async #fetchRef(ref: string): Promise<Tip | undefined> {
    const current = await this.#idOf(ref);
    const unchanged = new AbortController();
    const onAdvertisedRef = (offer: AdvertisedRef) => {
      // The tip has not changed: end the fetch.
      if (offer.ref === ref && offer.id === current) unchanged.abort(new TipUnchanged());
    };
    let end: NetworkEnd;
    try {
      const args = (url: string) => [...FETCH, url, ref];
      const command = {
        args,
        cwd: this.path,
        gitFolder: this.gitFolder,
        onAdvertisedRef,
        signal: unchanged.signal,
      };
      end = await this.remote.tryOnce(command);
    } catch (error) {
      if (current === undefined || !(error instanceof TipUnchanged)) throw error;
      // Git has created FETCH_HEAD. A fresh clone has none, and `COPY . .` must copy the same files.
      await rm(join(this.gitFolder, "FETCH_HEAD"), { force: true });
      return { ref, id: current, commit: await this.head() };
    }
    if (end.exitCode === 0) return this.#fetched(ref);
    const failure = this.remote.failure(end);
    if (failure.failure.code === "REF_NOT_FOUND") return undefined;
    if (isServerFault(end)) return this.#fetchRefOrFail(ref, end);
    throw failure;
  }

  async #fetched(ref: string): Promise<Tip> {
    this.#hasExtraObjects = true;
    const [id = "", commit = ""] = await this.#local(["rev-parse", "FETCH_HEAD", "FETCH_HEAD^{commit}"]);
    return { ref, id, commit };
  }

  /** Without git commands: they would leave the old branch, and records of what was fetched from where. */
  async #writeGitFolder(commit: string, tip: Tip | undefined): Promise<void> {
    for (const name of ["refs", "logs", "packed-refs", "FETCH_HEAD", "ORIG_HEAD", "description"])
      await rm(join(this.gitFolder, name), { recursive: true, force: true });
    const isBranch = tip?.ref.startsWith("refs/heads/");
    await mkdir(join(this.gitFolder, "refs", "heads"), { recursive: true });
    await Bun.write(join(this.gitFolder, "config"), CONFIG);
    await Bun.write(join(this.gitFolder, "HEAD"), isBranch ? `ref: ${tip?.ref}\n` : `${commit}\n`);
    if (tip) await Bun.write(join(this.gitFolder, tip.ref), `${tip.id}\n`);
    // The commit's parents were not fetched.
    if (this.#hasExtraObjects) await Bun.write(join(this.gitFolder, "shallow"), `${commit}\n`);
  }

  /** Attributes such as `eol` change how git writes files, but git does not rewrite a file when only they change. */
  async #discardFilesOfOtherAttributes(commit: string): Promise<void> {
    const index = join(this.gitFolder, "index");
    if (!(await Bun.file(index).exists())) return;
    const names = ["--name-only", commit, "--", ":(glob)**/.gitattributes"];
    const changed = await this.#localInGroup(["diff-index", "--cached", ...names]);
    if (changed.length === 0) return;
    for (const name of await readdir(this.path)) if (name !== ".git") await removeTree(join(this.path, name));
    await rm(index);
  }

  /** Returns the name of a new pack with exactly the objects of the checked out commit. */
  async #repackCommit(): Promise<string> {
    const base = join(this.gitFolder, "objects", "pack", "pack");
    const [hash = ""] = await this.#localInGroup(["pack-objects", "--all", "--quiet", base]);
    return `pack-${hash}`;
  }

  async #removeOtherPacks(name: string): Promise<void> {
    const folder = join(this.gitFolder, "objects", "pack");
    for (const file of await readdir(folder)) if (!file.startsWith(`${name}.`)) await rm(join(folder, file));
  }

  async #idOf(ref: string): Promise<string | undefined> {
    const id = await readFile(join(this.gitFolder, ref), "utf8").catch(() => undefined);
    return id?.trim();
  }

  async #local(args: readonly string[]): Promise<readonly string[]> {
    return output(args, await this.remote.git.local(args, this.path));
  }

  async #localInGroup(args: readonly string[], onLine?: (line: string) => void): Promise<readonly string[]> {
    return output(args, await this.remote.git.localInGroup(args, this.path, onLine));
  }
}

/** The last lines that a local command has printed. @throws StepFailure when the command has failed. */
function output(args: readonly string[], { exitCode, stdoutTail, stderrTail }: GroupEnd): readonly string[] {
  if (exitCode === 0) return stdoutTail;
  const message = `git ${args[0]} failed: ${stderrTail.join("; ")}`;
  if (isGitDiskFull(stderrTail)) throw diskFull("clone", message);
  throw new StepFailure({ code: "CLONE_FAILED", step: "clone", message, retryable: true });
}

export function cloneArguments(branch: string, url: string, into: string): string[] {
  return [
    "--quiet",
    "--single-branch",
    "--no-tags",
    // No template: it could copy hooks and settings of the host into the checkout.
    "--template=",
    `--branch=${branch}`,
    "--",
    url,
    into,
  ];
}

class TipUnchanged extends Error {
  override readonly name = "TipUnchanged";
}

/** Time of the checked out commit. Undefined when it is not a valid date: a commit can contain any number. */
export async function commitTime(
  checkout: string,
  environment: ChildEnvironment,
  signal: AbortSignal,
): Promise<Date | undefined> {
  const args = ["show", "--no-patch", "--format=%ct", "HEAD"];
  const end = await runLocalGit({ args, cwd: checkout, environment, signal });
  const stderrTail = end.stderrTail.map((line) =>
    withoutFolders(line, { path: dirname(checkout), checkout }),
  );
  const [seconds] = output(args, { ...end, stderrTail });
  const time = new Date(Number(seconds) * 1000);
  return Number.isNaN(time.getTime()) ? undefined : time;
}
