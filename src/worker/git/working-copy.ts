/**
 * The folder that a job's image is built from: one commit's files, and a .git that contains only this commit and the
 * history that the job asks for. Since `COPY . .` puts all of it into an image, it has no remote, no other branch, no
 * older tip and no secret.
 */
import { mkdir, readdir, readFile, rename, rm } from "node:fs/promises";
import { dirname, join } from "node:path";
import { StepFailure } from "../job/failure.ts";
import { removeTree } from "../job/workspace.ts";
import type { ChildEnvironment } from "../process/child-environment.ts";
import type { GroupEnd } from "../process/process-group.ts";
import { type CloneBudget, packedBytes } from "./budget.ts";
import type { NetworkEnd } from "./command.ts";
import { isServerFault, ObjectFormatMismatch } from "./failure.ts";
import type { AdvertisedRef } from "./git-trace.ts";
import { depthOption, type History, isSameHistory, ONE_COMMIT } from "./history.ts";
import { runLocalGit } from "./local.ts";
import { localFailure } from "./local-failure.ts";
import { fileIn, type GitName } from "./names.ts";
import { Packs } from "./packs.ts";
import { candidatesOf, formatOf, isCommitId, type ObjectFormat } from "./reference.ts";
import type { GitRemote } from "./remote.ts";
import { withoutFolders } from "./reportable.ts";
import { offeredTags, packedRefs, type Tag } from "./tags.ts";
import { TreeListing } from "./tree-listing.ts";

/** What the job's `branch` names on the server, with its commit. */
export interface Tip {
  /** A whole ref, such as `refs/heads/main`, or a commit's id. */
  readonly source: string;
  /** The id of the tag object for an annotated tag, else of the commit. */
  readonly id: string;
  readonly commit: string;
}

const CONFIGS: Readonly<Record<ObjectFormat, string>> = {
  sha1: "[core]\n\trepositoryformatversion = 0\n\tfilemode = true\n\tbare = false\n",
  sha256:
    "[core]\n\trepositoryformatversion = 1\n\tfilemode = true\n\tbare = false\n[extensions]\n\tobjectformat = sha256\n",
};
const LFS_FILES = ":(attr:filter=lfs)";
/** Many ids in one argument list would exceed its limit. */
const IDS_AT_ONCE = 500;

export class WorkingCopy {
  readonly gitFolder: string;
  /** The packs may contain objects that the checked out commit does not need. */
  #hasExtraObjects = false;
  readonly #packs: Packs;

  constructor(
    readonly path: string,
    readonly remote: GitRemote,
    readonly budget: CloneBudget,
    /**
     * Outside of the checkout: git's index with the times of the files, by which git finds the changed ones. The times
     * of two checkouts differ, so .git/index has none.
     */
    readonly indexFile: string,
    readonly history: History = ONE_COMMIT,
  ) {
    this.gitFolder = join(path, ".git");
    this.#packs = new Packs(join(this.gitFolder, "objects", "pack"), (args) => this.#localInGroup(args));
  }

  /** Makes the folder an empty repository. */
  async #initialize(format: ObjectFormat): Promise<void> {
    await removeTree(this.path);
    await mkdir(this.path);
    // Without --quiet: simple-git waits 50 ms longer for a command that prints nothing.
    await this.#local(["init", "--template=", `--object-format=${format}`]);
  }

  get hasExtraObjects(): boolean {
    return this.#hasExtraObjects;
  }

  /** For an empty folder, or one that does not exist. @throws StepFailure */
  async cloneTip(branch: string): Promise<Tip> {
    const [source, ...others] = candidatesOf(branch);
    if (others.length > 0) return this.#cloneNamed(branch);
    if (isCommitId(source)) {
      await this.cloneCommit(source);
      return this.#fetched(source);
    }
    try {
      await this.#initialize("sha1");
      return await this.#fetchRefOrFail(source);
    } catch (error) {
      if (!(error instanceof ObjectFormatMismatch)) throw error;
      await this.#initialize("sha256");
      return await this.#fetchRefOrFail(source);
    }
  }

  /**
   * As `cloneTip`, for a working copy that is not empty and has this history: the server sends only what is missing.
   */
  async fetchTip(branch: string, cached: History): Promise<Tip> {
    if (cached.depth === 1) await this.#packs.noteCached();
    const candidates = candidatesOf(branch);
    // The tags may have changed even if the tip has not.
    const mayBeUnchanged = isSameHistory(cached, this.history) && !this.history.tags;
    for (const source of candidates.slice(0, -1)) {
      const found = await this.#fetchRef(source, mayBeUnchanged);
      if (found) return found;
    }
    const last = candidates[candidates.length - 1] ?? branch;
    if (!isCommitId(last)) return this.#fetchRefOrFail(last);
    await this.fetchCommit(last);
    return this.#fetched(last);
  }

  /** For an empty folder, or one that does not exist. */
  async cloneCommit(commit: string): Promise<void> {
    await this.#initialize(formatOf(commit));
    await this.fetchCommit(commit);
  }

  /** @throws StepFailure REF_NOT_FOUND when the server does not offer the commit. */
  async fetchCommit(commit: string): Promise<void> {
    this.#hasExtraObjects = true;
    const command = { cwd: this.path, gitFolder: this.gitFolder };
    let listsRefs = false;
    const onAdvertisedRef = () => {
      listsRefs = true;
    };
    try {
      await this.remote.run({
        ...command,
        args: (url) => [...this.#fetch(), url, commit],
        commit,
        onAdvertisedRef,
      });
    } catch (error) {
      // A server that uses version 2 of git's protocol lists no refs here, and sends every commit that it has.
      const isRefused = error instanceof StepFailure && error.failure.code === "REF_NOT_FOUND";
      if (!isRefused || !listsRefs) throw error;
      await this.#fetchHistories();
      if (!(await this.#has(commit))) throw error;
    }
  }

  /** An older server refuses a commit that is not the tip of a branch or tag. Every server sends complete histories. */
  async #fetchHistories(): Promise<void> {
    const command = { cwd: this.path, gitFolder: this.gitFolder };
    const isShallow = await Bun.file(join(this.gitFolder, "shallow")).exists();
    const all = ["fetch", "--quiet", "--no-tags", ...(isShallow ? ["--unshallow"] : [])];
    const everything = "+refs/*:refs/everything/*";
    await this.remote.run({ ...command, args: (url) => [...all, url, everything] });
  }

  #fetch(): readonly string[] {
    return ["fetch", "--quiet", "--no-tags", depthOption(this.history)];
  }

  async #has(commit: string): Promise<boolean> {
    const args = ["rev-parse", "--quiet", "--verify", `${commit}^{commit}`];
    return (await this.remote.git.local(args, this.path)).exitCode === 0;
  }

  /** Uses one connection. */
  async #cloneNamed(branch: string): Promise<Tip> {
    const { path, gitFolder } = this;
    const args = (url: string) => [
      "clone",
      ...(this.history.depth === 0 ? [] : [depthOption(this.history)]),
      "--no-checkout",
      "--quiet",
      "--single-branch",
      "--no-tags",
      // No template: it could copy hooks and settings of the host into the checkout.
      "--template=",
      `--branch=${branch}`,
      "--",
      url,
      path,
    ];
    await this.remote.run({ args, cwd: dirname(path), gitFolder, into: path });
    // Despite --no-tags, `git clone --single-branch` gets the objects of tags.
    this.#hasExtraObjects = true;
    const format = "--format=%(objectname) %(objecttype) %(refname)";
    const [line = ""] = await this.#local(["for-each-ref", format, "refs/heads", "refs/tags"]);
    const [, id = "", type = "", source = ""] = /^(\w+) (\w+) (.+)$/.exec(line) ?? [];
    return { source, id, commit: type === "commit" ? id : await this.#commitOf(id) };
  }

  /** As `fetchCommit`, but without objects that the checked out commit has. False when the local repository fails. */
  async fetchNew(commit: string): Promise<boolean> {
    const { path: cwd, gitFolder } = this;
    await this.#packs.noteCached();
    const head = await this.head();
    const beforeBytes = await packedBytes(gitFolder);
    const options = ["--no-write-fetch-head", `--negotiation-tip=${head}`];
    const args = (url: string) => [...this.#fetch(), ...options, url, commit];
    const end = await this.remote.tryOnce({ cwd, gitFolder, args });
    const mayPass = end.exitCode !== 0 && isServerFault(end);
    if (mayPass) await this.remote.run({ cwd, gitFolder, args }, end);
    this.#hasExtraObjects = head !== commit || (await packedBytes(gitFolder)) !== beforeBytes;
    return mayPass || end.exitCode === 0;
  }

  /** Call this before a cached checkout is updated. */
  async restoreIndex(): Promise<void> {
    await rename(this.indexFile, join(this.gitFolder, "index"));
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
    await this.#localInGroup(["ls-tree", "-r", "-t", "-l", "-z", commit], listing.add);
    return listing;
  }

  /** Paths of submodules. */
  async gitlinkPaths(): Promise<GitName[]> {
    return this.#listed(["--stage"], /^160000 \w+ 0\t(.*)$/s);
  }

  /**
   * Paths that .gitattributes assigns to Git LFS, whether or not the file is a pointer. As for a checkout, the committed
   * .gitattributes count: git reads a byte order mark in them in another way. No file in the folder of the refs can have
   * this name.
   */
  async lfsFiles(): Promise<GitName[]> {
    const paths: GitName[] = [];
    const list = ["ls-files", "-z", "--", LFS_FILES];
    const args = [`--git-dir=${this.gitFolder}`, ...list];
    const folder = join(this.gitFolder, "refs");
    output(list, await this.remote.git.localInGroup(args, folder, (name) => paths.push(name as GitName)));
    return paths;
  }

  /** Git LFS paths where git's pointer was replaced, usually by the file. */
  async modifiedLfsFiles(): Promise<GitName[]> {
    return this.#listed(["-t", "--modified", "--", LFS_FILES], /^C (.*)$/s);
  }

  /** `tip` is undefined when the commit is not the tip of the job's branch or tag. */
  async checkOut(commit: string, tip: Tip | undefined): Promise<void> {
    const tags = this.history.tags ? await offeredTags(this.remote, this.path, this.budget) : [];
    const shallow = await this.#shallowCommits();
    const included = await this.#included(commit, [...shallow, ...tags.map(({ target }) => target)]);
    const includedTags = tags.filter(({ target }) => included.has(target));
    await this.#fetchTags(includedTags, commit);
    await this.#writeGitFolder(commit, tip, includedTags);
    // A cached checkout also has boundaries of other commits and depths.
    const boundary = shallow.filter((id) => included.has(id)).toSorted();
    await this.#writeShallow(this.history.depth === 1 ? [commit] : boundary);
    await this.#discardFilesOfOtherAttributes(commit);
    const written = this.#localInGroup(["read-tree", "--reset", "-u", commit]);
    const packed = this.#packs.rewrite(this.history, this.#hasExtraObjects, written);
    // When one of them fails, the caller removes the folder: wait until the other has stopped writing to it.
    await Promise.allSettled([written, packed]);
    await written;
    await packed;
    await this.#writeIndexWithoutTimes(commit);
    this.#hasExtraObjects = false;
  }

  /** Paths from the index, of the entries that match. */
  async #listed(options: readonly string[], pattern: RegExp): Promise<GitName[]> {
    const paths: GitName[] = [];
    await this.#localInGroup(["ls-files", "-z", ...options], (entry) => {
      const name = pattern.exec(entry)?.[1];
      if (name !== undefined) paths.push(name as GitName);
    });
    return paths;
  }

  async #fetchRefOrFail(ref: string, first?: NetworkEnd): Promise<Tip> {
    const command = { cwd: this.path, gitFolder: this.gitFolder };
    await this.remote.run({ ...command, args: (url) => [...this.#fetch(), url, ref] }, first);
    return this.#fetched(ref);
  }

  /** Undefined when the server has no such branch or tag. */
  async #fetchRef(ref: string, mayBeUnchanged: boolean): Promise<Tip | undefined> {
    const current = mayBeUnchanged ? await this.#idOf(ref) : undefined;
    const unchanged = new AbortController();
    const onAdvertisedRef = (offer: AdvertisedRef) => {
      // The tip has not changed: end the fetch.
      if (offer.ref === ref && offer.id === current) unchanged.abort(new TipUnchanged());
    };
    let end: NetworkEnd;
    try {
      const args = (url: string) => [...this.#fetch(), url, ref];
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
      return { source: ref, id: current, commit: await this.head() };
    }
    if (end.exitCode === 0) return this.#fetched(ref);
    const failure = this.remote.failure(end);
    const isAbsent = failure.failure.code === "REF_NOT_FOUND" && !(failure instanceof ObjectFormatMismatch);
    if (isAbsent) return undefined;
    if (isServerFault(end)) return this.#fetchRefOrFail(ref, end);
    throw failure;
  }

  async #fetched(source: string): Promise<Tip> {
    this.#hasExtraObjects = true;
    const [id = ""] = await this.#local(["rev-parse", "FETCH_HEAD"]);
    return { source, id, commit: await this.#commitOf(id) };
  }

  /** The commit that a tag names, also through other tags. */
  async #commitOf(id: string): Promise<string> {
    const args = ["rev-parse", "--verify", `${id}^{commit}`];
    const { exitCode, stdoutTail, stderrTail } = await this.remote.git.local(args, this.path);
    const [commit] = stdoutTail;
    if (exitCode === 0 && commit !== undefined) return commit;
    throw this.remote.failure({ exitCode, stdoutTail, stderrTail, exchanges: [] });
  }

  async #shallowCommits(): Promise<string[]> {
    const text = await readFile(join(this.gitFolder, "shallow"), "utf8").catch(() => "");
    return text.split("\n").filter((line) => line !== "");
  }

  async #writeShallow(commits: readonly string[]): Promise<void> {
    const file = join(this.gitFolder, "shallow");
    if (commits.length === 0) await rm(file, { force: true });
    else await Bun.write(file, commits.map((commit) => `${commit}\n`).join(""));
  }

  /** Those of the ids that the history of the commit has. */
  async #included(commit: string, ids: readonly string[]): Promise<ReadonlySet<string>> {
    if (this.history.depth === 1 || ids.length === 0) return new Set([commit]);
    const asked = new Set(ids);
    const included = new Set<string>();
    const onRecord = (id: string) => void (asked.has(id) && included.add(id));
    const args = ["rev-list", commit];
    output(args, await this.remote.git.localInGroup(args, this.path, onRecord, "\n"));
    return included;
  }

  /** Fetches the tag objects: their commits are here. */
  async #fetchTags(tags: readonly Tag[], commit: string): Promise<void> {
    const ids = tags.filter(({ id, target }) => id !== target).map(({ id }) => id);
    const command = { cwd: this.path, gitFolder: this.gitFolder };
    const fetch = ["fetch", "--quiet", "--no-tags", "--no-write-fetch-head", `--negotiation-tip=${commit}`];
    for (let from = 0; from < ids.length; from += IDS_AT_ONCE) {
      this.#hasExtraObjects = true;
      const some = ids.slice(from, from + IDS_AT_ONCE);
      await this.remote.run({ ...command, args: (url) => [...fetch, url, ...some] });
    }
  }

  /** Without git commands: they would leave the old branch, and records of what was fetched from where. */
  async #writeGitFolder(commit: string, tip: Tip | undefined, tags: readonly Tag[]): Promise<void> {
    for (const name of ["refs", "logs", "packed-refs", "FETCH_HEAD", "ORIG_HEAD", "description"])
      await rm(join(this.gitFolder, name), { recursive: true, force: true });
    const ref = tip && /^refs\/(heads|tags)\//.test(tip.source) ? tip.source : undefined;
    const isBranch = ref?.startsWith("refs/heads/");
    await mkdir(join(this.gitFolder, "refs", "heads"), { recursive: true });
    await Bun.write(join(this.gitFolder, "config"), CONFIGS[formatOf(commit)]);
    await Bun.write(join(this.gitFolder, "HEAD"), isBranch ? `ref: ${ref}\n` : `${commit}\n`);
    if (tip && ref) await Bun.write(join(this.gitFolder, ref), `${tip.id}\n`);
    const others = tags.filter((tag) => tag.ref !== ref);
    if (others.length > 0) await Bun.write(join(this.gitFolder, "packed-refs"), packedRefs(others));
  }

  /** Attributes such as `eol` change how git writes files, but git does not rewrite a file when only they change. */
  async #discardFilesOfOtherAttributes(commit: string): Promise<void> {
    const index = join(this.gitFolder, "index");
    if (!(await Bun.file(index).exists())) return;
    const names = ["--name-only", commit, "--", ":(glob)**/.gitattributes"];
    const changed = await this.#localInGroup(["diff-index", "--cached", ...names]);
    if (changed.length === 0) return;
    for (const name of await readdir(this.path, "latin1"))
      if (name !== ".git") await removeTree(fileIn(this.path, name as GitName));
    await rm(index);
  }

  /** Programs of the build read the files again to find changes, as they do in every copy of a checkout. */
  async #writeIndexWithoutTimes(commit: string): Promise<void> {
    await mkdir(dirname(this.indexFile), { recursive: true, mode: 0o700 });
    await rename(join(this.gitFolder, "index"), this.indexFile);
    // With several threads, the index would have a section that depends on the number of processors.
    await this.#localInGroup(["-c", "index.threads=1", "read-tree", commit]);
  }

  async #idOf(ref: string): Promise<string | undefined> {
    const id = await readFile(join(this.gitFolder, ref), "utf8").catch(() => undefined);
    return id?.trim();
  }

  async #local(args: readonly string[]): Promise<readonly string[]> {
    return output(args, await this.remote.git.local(args, this.path));
  }

  async #localInGroup(
    args: readonly string[],
    onRecord?: (record: string) => void,
  ): Promise<readonly string[]> {
    return output(args, await this.remote.git.localInGroup(args, this.path, onRecord));
  }
}

/** The last lines that a local command has printed. @throws StepFailure when the command has failed. */
function output(args: readonly string[], { exitCode, stdoutTail, stderrTail }: GroupEnd): readonly string[] {
  if (exitCode === 0) return stdoutTail;
  throw localFailure(args[0] ?? "", stderrTail);
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
  const args = ["show", "--no-patch", "--format=%ct", "HEAD", "--"];
  const end = await runLocalGit({ args, cwd: checkout, environment, signal });
  const stderrTail = end.stderrTail.map((line) =>
    withoutFolders(line, { path: dirname(checkout), checkout }),
  );
  const [seconds] = output(args, { ...end, stderrTail });
  const time = new Date(Number(seconds) * 1000);
  return Number.isNaN(time.getTime()) ? undefined : time;
}
