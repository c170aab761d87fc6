/**
 * Repository, branch and commit of the git checkout that `blacktree submit` stands in. The checkout is a stranger's:
 * its configuration may name programs, so git runs only commands that read, with every setting off that starts one.
 */
import type { Environment } from "../shared/env.ts";
import { problemsOf } from "./job-flags.ts";
import { repositoryOfRemote, withoutCredentials } from "./remote-url.ts";

export interface CheckoutJob {
  readonly repo_url: string;
  readonly branch: string;
  readonly commit: string;
}

export type Guess =
  | { readonly kind: "none" }
  /** The folder is in a repository, but not in a checkout that a job can be made of. */
  | { readonly kind: "refused"; readonly reason: string }
  | { readonly kind: "job"; readonly job: CheckoutJob; readonly warnings: readonly string[] };

class NotGuessable extends Error {
  override readonly name = "NotGuessable";
}

export function guessJob(folder: string, environment: Environment): Guess {
  try {
    const git = new CheckoutGit(folder, environment);
    const kind = git.run("rev-parse", "--is-bare-repository", "--is-inside-work-tree");
    if (!kind.isDone) return unreadable(kind.error);
    if (kind.text.startsWith("true")) throw new NotGuessable("this is a bare repository");
    if (!kind.text.endsWith("true")) throw new NotGuessable("this folder is inside .git");
    git.protect();
    return jobOf(git);
  } catch (error) {
    if (!(error instanceof NotGuessable)) throw error;
    return { kind: "refused", reason: error.message };
  }
}

/** Outside of a repository, there is nothing to report. */
function unreadable(error: string): Guess {
  if (error === "" || /not a git repository/i.test(error)) return { kind: "none" };
  const [firstLine = ""] = error.split("\n");
  const remedy = /git config --global .*/.exec(error)?.[0];
  const advice = remedy === undefined ? "" : `; if you trust it: ${remedy}`;
  return { kind: "refused", reason: `git refuses it: ${firstLine.replace(/^fatal: /, "")}${advice}` };
}

function jobOf(git: CheckoutGit): Guess {
  const commit = git.run("rev-parse", "--verify", "--quiet", "HEAD^{commit}");
  if (!commit.isDone) throw new NotGuessable("the current branch has no commit yet");
  const head = git.run("symbolic-ref", "--quiet", "HEAD");
  const upstream = head.isDone ? upstreamOf(git, head.text) : undefined;
  const remote = upstream?.remote ?? remoteOf(git);
  const branch = upstream?.branch ?? (head.isDone ? shortName(head.text) : commit.text);
  const [problem] = problemsOf("--branch", "branch", branch);
  if (problem !== undefined) throw new NotGuessable(problem);
  const warnings = [
    ...(head.isDone ? [] : ["no branch is checked out, so the commit takes its place"]),
    ...(isSubmodule(git) ? ["this is a submodule: its repository is built, not the one around it"] : []),
    ...unpushed(git, commit.text, remote, upstream?.trackingRef),
    ...uncommitted(git),
  ];
  const job = { repo_url: urlOf(git, remote), branch, commit: commit.text };
  return { kind: "job", job, warnings };
}

interface Upstream {
  readonly remote: string;
  readonly branch: string;
  /** Where the last fetch has stored it; undefined before the first one. */
  readonly trackingRef: string | undefined;
}

/** Undefined without one, and if it is a branch of this same repository. */
function upstreamOf(git: CheckoutGit, ref: string): Upstream | undefined {
  const format = "%(upstream:remotename)%00%(upstream:remoteref)%00%(upstream)";
  const { text } = git.run("for-each-ref", `--format=${format}`, ref);
  const [remote = "", branch = "", trackingRef = ""] = text.split("\0");
  if (remote === "" || remote === "." || branch === "") return undefined;
  const isFetched = git.run("rev-parse", "--verify", "--quiet", `${trackingRef}^{commit}`).isDone;
  return { remote, branch: shortName(branch), trackingRef: isFetched ? trackingRef : undefined };
}

/** A whole ref says the same, but a message with a short name is the same job as one that a person wrote. */
function shortName(ref: string): string {
  return ref.replace(/^refs\/heads\//, "");
}

function remoteOf(git: CheckoutGit): string {
  const names = git.run("remote").text.split("\n").filter(Boolean);
  const [first] = names;
  if (first === undefined) throw new NotGuessable("the checkout has no remote");
  if (names.includes("origin") || names.length === 1) return names.length === 1 ? first : "origin";
  throw new NotGuessable(
    `the checkout has several remotes (${names.join(", ")}), none is the branch's upstream or origin`,
  );
}

function urlOf(git: CheckoutGit, remote: string): string {
  const named = git.run("remote", "get-url", remote);
  // An upstream can also name a URL instead of a remote.
  const [url = ""] = named.isDone ? named.text.split("\n") : [remote];
  const repository = repositoryOfRemote(url);
  if (repository !== undefined) return repository;
  throw new NotGuessable(
    `the remote ${remote} is ${withoutCredentials(url)}; expected an https:// or ssh:// URL, or user@host:path`,
  );
}

function isSubmodule(git: CheckoutGit): boolean {
  return /\/\.git\/modules\//.test(git.run("rev-parse", "--absolute-git-dir").text);
}

function unpushed(
  git: CheckoutGit,
  commit: string,
  remote: string,
  trackingRef: string | undefined,
): string[] {
  const known = trackingRef === undefined ? [`--remotes=${remote}`] : [trackingRef];
  const missing = git.run("rev-list", "--max-count=1", commit, "--not", ...known);
  if (missing.text === "") return [];
  const where = trackingRef?.replace(/^refs\/remotes\//, "") ?? withoutCredentials(remote);
  return [`commit ${commit.slice(0, 12)} was not at ${where} at the last fetch or push: push it first`];
}

function uncommitted(git: CheckoutGit): string[] {
  const status = ["status", "--porcelain", "-z", "--untracked-files=normal", "--ignore-submodules=all"];
  const isClean = git.run(...status, "--no-renames").text === "";
  return isClean ? [] : ["the checkout has changes that are not committed: they are not built"];
}

interface GitAnswer {
  readonly isDone: boolean;
  readonly text: string;
  readonly error: string;
}

/** Of the repository that an outer git command works on, such as a hook's. */
const OUTER_VARIABLES = [
  ...["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_COMMON_DIR", "GIT_PREFIX", "GIT_NAMESPACE"],
  ...["GIT_OBJECT_DIRECTORY", "GIT_ALTERNATE_OBJECT_DIRECTORIES", "GIT_SHALLOW_FILE", "GIT_GRAFT_FILE"],
];

/** Git reaches no server, and writes nothing to the repository. */
const SAFE_VARIABLES = { GIT_ALLOW_PROTOCOL: "none", GIT_NO_LAZY_FETCH: "1", GIT_OPTIONAL_LOCKS: "0" };

const TIMEOUT_MS = 10_000;

class CheckoutGit {
  #environment: Readonly<Record<string, string | undefined>>;

  constructor(
    private readonly folder: string,
    environment: Environment,
  ) {
    const outer = Object.fromEntries(OUTER_VARIABLES.map((name) => [name, undefined]));
    // Its messages are read.
    this.#environment = { ...environment, ...outer, ...SAFE_VARIABLES, LC_ALL: "C" };
    this.#set("core.fsmonitor", "false");
    this.#set("core.hooksPath", "/dev/null");
  }

  /** In variables, since `git -c` does not set a key that contains "=". */
  #set(key: string, value: string): void {
    const count = Number(this.#environment.GIT_CONFIG_COUNT ?? 0);
    this.#environment = {
      ...this.#environment,
      GIT_CONFIG_COUNT: String(count + 1),
      [`GIT_CONFIG_KEY_${count}`]: key,
      [`GIT_CONFIG_VALUE_${count}`]: value,
    };
  }

  /**
   * The status of a changed file would start the filters that the repository's own configuration defines.
   * @throws NotGuessable
   */
  protect(): void {
    const hooks = this.run("config", "core.hooksPath").text;
    if (hooks !== "/dev/null") throw new NotGuessable("this needs git 2.31 or later");
    const list = ["config", "--show-scope", "--name-only", "-z", "--get-regexp", "^filter\\."];
    const parts = this.run(...list).text.split("\0");
    const own = parts.filter((_, index) => ["local", "worktree"].includes(parts[index - 1] ?? ""));
    for (const driver of new Set(own.map((key) => key.slice(0, key.lastIndexOf("."))))) {
      for (const program of ["clean", "smudge", "process"]) this.#set(`${driver}.${program}`, "");
      this.#set(`${driver}.required`, "false");
    }
  }

  /** @throws NotGuessable if the answer is not UTF-8, as a job has to be. */
  run(...args: readonly string[]): GitAnswer {
    const command = ["git", "--no-pager", ...args];
    let answer: Bun.SyncSubprocess<"pipe", "pipe">;
    try {
      answer = Bun.spawnSync(command, {
        ...{ cwd: this.folder, env: this.#environment, stdin: "ignore" },
        ...{ stdout: "pipe", stderr: "pipe", timeout: TIMEOUT_MS },
      });
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === "ENOENT") return { isDone: false, text: "", error: "" };
      throw error;
    }
    return {
      isDone: answer.success,
      text: decoded(answer.stdout).replace(/\n$/, ""),
      error: answer.stderr.toString().trim(),
    };
  }
}

function decoded(bytes: Uint8Array): string {
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    throw new NotGuessable("its branch or remote has a name that is not UTF-8, which a job cannot have");
  }
}
