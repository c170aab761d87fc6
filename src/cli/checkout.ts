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
  const ref = head.isDone ? nameIn(head, "branch") : undefined;
  const upstream = ref === undefined ? undefined : upstreamOf(git, ref);
  const remote = remoteNamed(git, upstream?.remote ?? remoteOf(git));
  const branch = upstream?.branch ?? (ref === undefined ? commit.text : shortName(ref));
  const [problem] = problemsOf("--branch", "branch", branch);
  if (problem !== undefined) throw new NotGuessable(problem);
  const warnings = [
    ...(ref !== undefined ? [] : ["no branch is checked out, so the commit takes its place"]),
    ...(isSubmodule(git) ? ["this is a submodule: its repository is built, not the one around it"] : []),
    ...unpushed(git, commit.text, remote, upstream?.trackingRef),
    ...uncommitted(git),
  ];
  const job = { repo_url: remote.url, branch, commit: commit.text };
  return { kind: "job", job, warnings };
}

interface Upstream {
  /** Name or URL. */
  readonly remote: string;
  readonly branch: string;
  /** Where the last fetch has stored it; undefined before the first one. */
  readonly trackingRef: string | undefined;
}

/** Undefined without one, and if it is a branch of this same repository. */
function upstreamOf(git: CheckoutGit, ref: string): Upstream | undefined {
  const setting = (name: string) =>
    nameIn(git.run("config", "--get", `branch.${shortName(ref)}.${name}`), "remote or branch");
  const [remote, branch] = [setting("remote"), setting("merge")];
  if (remote === "" || remote === "." || branch === "") return undefined;
  const trackingRef = nameIn(git.run("for-each-ref", "--format=%(upstream)", ref), "branch");
  const isFetched = git.run("rev-parse", "--verify", "--quiet", `${trackingRef}^{commit}`).isDone;
  return { remote, branch: shortName(branch), trackingRef: isFetched ? trackingRef : undefined };
}

/** A whole ref says the same, but a message with a short name is the same job as one that a person wrote. */
function shortName(ref: string): string {
  return ref.replace(/^refs\/heads\//, "");
}

function remoteOf(git: CheckoutGit): string {
  const answer = git.run("remote");
  const names = answer.text.split("\n").filter(Boolean);
  if (names.length === 0) throw new NotGuessable("the checkout has no remote");
  if (names.length === 1) return nameIn(answer, "remote");
  if (names.includes("origin")) return "origin";
  throw new NotGuessable(
    `the checkout has several remotes (${names.join(", ")}), none is the branch's upstream or origin`,
  );
}

interface Remote {
  /** As a job names it. */
  readonly url: string;
  /** Undefined for a URL that the branch's upstream names instead of a remote: git stores no branches of it. */
  readonly name: string | undefined;
}

function remoteNamed(git: CheckoutGit, nameOrUrl: string): Remote {
  const named = git.run("remote", "get-url", nameOrUrl);
  const [given = ""] = named.isDone ? nameIn(named, "remote").split("\n") : [nameOrUrl];
  const url = repositoryOfRemote(given);
  if (url !== undefined) return { url, name: named.isDone ? nameOrUrl : undefined };
  throw new NotGuessable(
    `the remote ${withoutCredentials(nameOrUrl)} is ${withoutCredentials(given)}; expected an https:// or ssh:// URL, or user@host:path`,
  );
}

function isSubmodule(git: CheckoutGit): boolean {
  return git.run("rev-parse", "--show-superproject-working-tree").text !== "";
}

function unpushed(
  git: CheckoutGit,
  commit: string,
  { name, url }: Remote,
  trackingRef: string | undefined,
): string[] {
  const where = trackingRef?.replace(/^refs\/remotes\//, "") ?? name ?? url;
  const shown = `commit ${commit.slice(0, 12)}`;
  const known = trackingRef ?? `--remotes=${name}`;
  const missing = git.run("rev-list", "--max-count=1", commit, "--not", known);
  if (name === undefined || !missing.isDone) return [`it could not be checked whether ${where} has ${shown}`];
  return missing.text === "" ? [] : [`${shown} was not at ${where} at the last fetch or push: push it first`];
}

function uncommitted(git: CheckoutGit): string[] {
  const status = ["status", "--porcelain", "-z", "--untracked-files=normal", "--ignore-submodules=all"];
  const changes = git.run(...status, "--no-renames");
  if (!changes.isDone)
    return ["it could not be checked whether the checkout has changes that are not committed"];
  return changes.text === "" ? [] : ["the checkout has changes that are not committed: they are not built"];
}

interface GitAnswer {
  readonly isDone: boolean;
  /** Undefined without git; null after the time limit. */
  readonly exitCode: number | null | undefined;
  readonly bytes: Uint8Array;
  /** Not exact if it is not UTF-8. */
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
    const listed = this.run(...list);
    // Without an answer, nothing says which filters there are. Without a filter, the status is 1 and there is no message.
    if (!listed.isDone && (listed.exitCode !== 1 || listed.error !== ""))
      throw new NotGuessable("git did not list the filters of the checkout");
    const parts = nameIn(listed, "filter").split("\0");
    const own = parts.filter((_, index) => ["local", "worktree"].includes(parts[index - 1] ?? ""));
    for (const driver of new Set(own.map((key) => key.slice(0, key.lastIndexOf("."))))) {
      for (const program of ["clean", "smudge", "process"]) this.#set(`${driver}.${program}`, "");
      this.#set(`${driver}.required`, "false");
    }
  }

  run(...args: readonly string[]): GitAnswer {
    const command = ["git", "--no-pager", ...args];
    let answer: Bun.SyncSubprocess<"pipe", "pipe">;
    try {
      answer = Bun.spawnSync(command, {
        ...{ cwd: this.folder, env: this.#environment, stdin: "ignore" },
        ...{ stdout: "pipe", stderr: "pipe", timeout: TIMEOUT_MS },
      });
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === "ENOENT") return NO_GIT;
      throw error;
    }
    return {
      isDone: answer.success,
      exitCode: answer.exitCode,
      bytes: answer.stdout,
      text: withoutLineBreak(answer.stdout.toString()),
      error: answer.stderr.toString().trim(),
    };
  }
}

const NO_GIT: GitAnswer = {
  isDone: false,
  exitCode: undefined,
  bytes: new Uint8Array(),
  text: "",
  error: "",
};

/** The text of an answer that is used as it is. @throws NotGuessable if it is not UTF-8, as a job has to be. */
function nameIn({ bytes }: GitAnswer, of: string): string {
  try {
    return withoutLineBreak(new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes));
  } catch {
    throw new NotGuessable(`the name of its ${of} is not UTF-8, which a job cannot have`);
  }
}

function withoutLineBreak(text: string): string {
  return text.replace(/\n$/, "");
}
