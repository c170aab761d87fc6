/** Guesses from real checkouts, some of which a stranger has made. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { appendFileSync, existsSync, mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type Guess, guessJob } from "../../../src/cli/checkout.ts";
import { run } from "../../support/machine/processes.ts";
import { makeTempDir, type TempDir } from "../../support/machine/temp-dir.ts";

let folder: TempDir;
let environment: Record<string, string | undefined>;
let checkouts = 0;

beforeAll(async () => {
  folder = await makeTempDir("guess");
  const identity = { GIT_AUTHOR_NAME: "a", GIT_AUTHOR_EMAIL: "a@b", GIT_COMMITTER_NAME: "a" };
  environment = {
    ...process.env,
    ...identity,
    GIT_COMMITTER_EMAIL: "a@b",
    GIT_CONFIG_GLOBAL: "/dev/null",
    GIT_CONFIG_NOSYSTEM: "1",
  };
});
afterAll(() => folder.remove());

const git = async (cwd: string, ...args: string[]) =>
  (await run(["git", ...args], { cwd, env: environment })).stdout.trim();

async function emptyRepository(...initFlags: string[]): Promise<string> {
  checkouts += 1;
  const path = join(folder.path, `checkout-${checkouts}`);
  await git(folder.path, "init", "--quiet", "--initial-branch=main", ...initFlags, path);
  return path;
}

/** With one commit, which the remote has as the last fetch knows. */
async function checkout(remote = "https://github.com/owner/name.git", name = "origin"): Promise<string> {
  const path = await emptyRepository();
  writeFileSync(join(path, "file"), "content\n");
  await git(path, "add", "file");
  await git(path, "commit", "--quiet", "--message=first");
  await git(path, "remote", "add", name, remote);
  await git(path, "update-ref", `refs/remotes/${name}/main`, "HEAD");
  await git(path, "branch", "--quiet", `--set-upstream-to=${name}/main`);
  return path;
}

const guess = (path: string) => guessJob(path, environment);

function jobOf(guessed: Guess) {
  if (guessed.kind === "job") return { ...guessed.job, warnings: guessed.warnings };
  throw new Error(`no job: ${JSON.stringify(guessed)}`);
}

function reasonOf(guessed: Guess): string {
  return guessed.kind === "refused" ? guessed.reason : `not refused: ${JSON.stringify(guessed)}`;
}

test("a clean checkout whose commit the remote has", async () => {
  const path = await checkout();
  const commit = await git(path, "rev-parse", "HEAD");
  const job = { repo_url: "https://github.com/owner/name.git", branch: "main", commit, warnings: [] };
  expect(jobOf(guess(path))).toEqual(job);
  mkdirSync(join(path, "sub", "folder"), { recursive: true });
  expect(jobOf(guess(join(path, "sub", "folder")))).toEqual(job);
  await git(path, "worktree", "add", "--quiet", "--force", "../linked", "main");
  expect(jobOf(guess(join(folder.path, "linked")))).toEqual(job);
});

test("the branch is the upstream's name, of the upstream's remote", async () => {
  const path = await checkout("git@gitlab.com:group/name.git", "upstream");
  await git(path, "remote", "add", "origin", "https://github.com/me/fork");
  await git(path, "branch", "--quiet", "--move", "local-name");
  expect(jobOf(guess(path))).toMatchObject({
    repo_url: "https://gitlab.com/group/name.git",
    branch: "main",
    warnings: [],
  });
});

test("without an upstream, the remote is origin, or the only one", async () => {
  const path = await checkout("https://github.com/owner/only", "elsewhere");
  await git(path, "branch", "--unset-upstream");
  expect(jobOf(guess(path))).toMatchObject({ repo_url: "https://github.com/owner/only", branch: "main" });
  await git(path, "remote", "add", "another", "https://github.com/owner/another");
  expect(reasonOf(guess(path))).toContain("several remotes (another, elsewhere)");
  await git(path, "remote", "add", "origin", "https://github.com/owner/origin");
  const { repo_url, warnings } = jobOf(guess(path));
  expect(repo_url).toBe("https://github.com/owner/origin");
  expect(warnings).toEqual([expect.stringContaining("was not at origin at the last fetch or push")]);
});

test("warnings for commits that are not pushed and for changes that are not committed", async () => {
  const path = await checkout();
  await git(path, "commit", "--quiet", "--allow-empty", "--message=second");
  const commit = await git(path, "rev-parse", "HEAD");
  expect(jobOf(guess(path)).warnings).toEqual([
    `commit ${commit.slice(0, 12)} was not at origin/main at the last fetch or push: push it first`,
  ]);
  await git(path, "update-ref", "refs/remotes/origin/main", "HEAD");
  writeFileSync(join(path, "untracked"), "");
  expect(jobOf(guess(path)).warnings).toEqual([expect.stringContaining("not committed")]);
});

test("a commit without a branch takes the branch's place", async () => {
  const path = await checkout();
  await git(path, "checkout", "--quiet", "--detach");
  const { branch, commit, warnings } = jobOf(guess(path));
  expect(branch).toBe(commit);
  expect(warnings).toEqual(["no branch is checked out, so the commit takes its place"]);
});

test("a submodule is its own repository", async () => {
  const [outer, inner] = [await checkout(), await checkout()];
  await git(outer, "-c", "protocol.file.allow=always", "submodule", "--quiet", "add", inner, "inner");
  const submodule = join(outer, "inner");
  await git(submodule, "remote", "set-url", "origin", "https://github.com/owner/inner");
  const { repo_url, warnings } = jobOf(guess(submodule));
  expect(repo_url).toBe("https://github.com/owner/inner");
  expect(warnings).toEqual([expect.stringContaining("this is a submodule")]);
});

test("a submodule of a linked worktree, and one with its own .git folder, are their own repositories", async () => {
  const [outer, inner] = [await checkout(), await checkout()];
  await git(outer, "-c", "protocol.file.allow=always", "submodule", "--quiet", "add", inner, "inner");
  await git(outer, "commit", "--quiet", "--message=submodule");
  const linked = `${outer}-linked`;
  await git(outer, "worktree", "add", "--quiet", "--detach", linked);
  const update = ["submodule", "--quiet", "update", "--init"];
  await git(linked, "-c", "protocol.file.allow=always", ...update);
  const own = join(outer, "own");
  await git(outer, "clone", "--quiet", inner, own);
  await git(outer, "-c", "protocol.file.allow=always", "submodule", "--quiet", "add", inner, "own");
  for (const submodule of [join(linked, "inner"), own]) {
    await git(submodule, "remote", "set-url", "origin", "https://github.com/owner/inner");
    expect(jobOf(guess(submodule)).warnings).toContainEqual(expect.stringContaining("this is a submodule"));
  }
});

test("the upstream can be a URL, whose credentials are not shown", async () => {
  const path = await checkout();
  const commit = await git(path, "rev-parse", "HEAD");
  await git(path, "config", "branch.main.remote", "https://me:hidden@github.com/me/fork.git?t=hidden");
  await git(path, "config", "branch.main.merge", "refs/heads/theirs");
  expect(jobOf(guess(path))).toEqual({
    ...{ repo_url: "https://github.com/me/fork.git", branch: "theirs", commit },
    warnings: [
      `it could not be checked whether https://github.com/me/fork.git has commit ${commit.slice(0, 12)}`,
    ],
  });
  await git(path, "config", "branch.main.remote", "http://me:hidden@host/fork");
  expect(reasonOf(guess(path))).toContain("the remote http://host/fork is http://host/fork; expected");
});

test("names that are not UTF-8 matter only where a job has them", async () => {
  const path = await checkout();
  const odd = Buffer.from("caf\xe9", "latin1");
  writeFileSync(Buffer.concat([Buffer.from(`${path}/`), odd]), "");
  const section = Buffer.concat([
    Buffer.from('[remote "'),
    odd,
    Buffer.from('"]\n\turl = https://a.example/b\n'),
  ]);
  appendFileSync(join(path, ".git", "config"), section);
  await git(path, "branch", "--unset-upstream");
  expect(jobOf(guess(path))).toMatchObject({
    repo_url: "https://github.com/owner/name.git",
    warnings: [expect.stringContaining("not committed")],
  });
  await git(path, "remote", "remove", "origin");
  expect(reasonOf(guess(path))).toBe("the name of its remote is not UTF-8, which a job cannot have");
});

test("in a folder whose path is not UTF-8, and in one that is deleted", async () => {
  const path = await checkout();
  const module = join(import.meta.dir, "../../../src/cli/checkout.ts");
  const print = `const { guessJob } = await import("${module}"); console.log(JSON.stringify(guessJob(".", process.env)))`;
  const guessIn = async (prepare: string) => {
    const script = `${prepare}; exec "${process.execPath}" -e '${print}'`;
    return JSON.parse((await run(["bash", "-ec", script], { cwd: path, env: environment })).stdout) as Guess;
  };
  const odd = await guessIn("cp -r . \"../$(printf 'caf\\xe9')\"; cd \"../$(printf 'caf\\xe9')\"");
  expect(jobOf(odd)).toMatchObject({ repo_url: "https://github.com/owner/name.git", warnings: [] });
  const deleted = await guessIn('mkdir gone; cd gone; rmdir "$PWD"');
  expect(reasonOf(deleted)).toContain("Unable to read current working directory");
});

test("what git cannot check is a warning", async () => {
  const path = await checkout();
  const parent = await git(path, "rev-parse", "HEAD");
  await git(path, "commit", "--quiet", "--allow-empty", "--message=second");
  const commit = await git(path, "rev-parse", "HEAD");
  const other = await git(path, "commit-tree", "-m", "other", "HEAD^{tree}");
  await git(path, "update-ref", "refs/remotes/origin/main", other);
  rmSync(join(path, ".git", "objects", parent.slice(0, 2), parent.slice(2)));
  writeFileSync(join(path, ".git", "index"), "damaged");
  expect(jobOf(guess(path)).warnings).toEqual([
    `it could not be checked whether origin/main has commit ${commit.slice(0, 12)}`,
    "it could not be checked whether the checkout has changes that are not committed",
  ]);
});

test("what is not a checkout with a commit and a usable remote is refused with its reason", async () => {
  expect(guess(folder.path)).toEqual({ kind: "none" });
  expect(guessJob(folder.path, { ...environment, PATH: "/nowhere" })).toEqual({ kind: "none" });
  expect(reasonOf(guess(await emptyRepository()))).toBe("the current branch has no commit yet");
  expect(reasonOf(guess(await emptyRepository("--bare")))).toBe("this is a bare repository");
  const path = await checkout();
  expect(reasonOf(guess(join(path, ".git")))).toBe("this folder is inside .git");
  await git(path, "remote", "set-url", "origin", "/srv/git/name");
  expect(reasonOf(guess(path))).toContain("the remote origin is /srv/git/name; expected");
  await git(path, "remote", "remove", "origin");
  expect(reasonOf(guess(path))).toBe("the checkout has no remote");
});

test("a branch whose name is not UTF-8 is refused", async () => {
  const path = await checkout();
  const name = Buffer.from("refs/heads/caf\xe9", "latin1");
  const commit = await git(path, "rev-parse", "HEAD");
  const instructions = Buffer.concat([Buffer.from("create "), name, Buffer.from(` ${commit}\n`)]);
  await run(["git", "update-ref", "--stdin"], { cwd: path, env: environment, stdin: instructions });
  writeFileSync(join(path, ".git", "HEAD"), Buffer.concat([Buffer.from("ref: "), name, Buffer.from("\n")]));
  expect(reasonOf(guess(path))).toContain("not UTF-8");
});

test("a checkout of another user is refused, with git's remedy", async () => {
  const path = await checkout();
  const stranger = { ...environment, GIT_TEST_ASSUME_DIFFERENT_OWNER: "1" };
  expect(reasonOf(guessJob(path, stranger))).toMatch(
    /^git refuses it: detected dubious ownership .*; if you trust it: git config --global --add safe\.directory /,
  );
});

test("no program that the checkout's configuration names is started, and nothing is written", async () => {
  const path = await checkout();
  const traces = join(folder.path, "traces");
  mkdirSync(traces);
  const program = (name: string) => `sh -c 'touch ${join(traces, name)}; cat'`;
  const settings = {
    "core.fsmonitor": program("fsmonitor"),
    "core.sshCommand": program("ssh"),
    "core.pager": program("pager"),
    "filter.evil.clean": program("clean"),
    "filter.evil.process": program("process"),
    "filter.a=b.clean": program("odd-name"),
    "filter.evil.required": "true",
    "core.alternateRefsCommand": program("alternates"),
    "diff.external": program("diff"),
    "gpg.program": program("gpg"),
    "log.showSignature": "true",
    "remote.origin.promisor": "true",
    "remote.origin.uploadpack": program("uploadpack"),
    "core.hooksPath": join(path, "hooks"),
  };
  mkdirSync(join(path, "hooks"));
  for (const hook of ["post-index-change", "fsmonitor-watchman", "reference-transaction"]) {
    writeFileSync(join(path, "hooks", hook), `#!/bin/sh\ntouch ${join(traces, hook)}\n`, { mode: 0o755 });
  }
  for (const [key, value] of Object.entries(settings)) await git(path, "config", key, value);
  writeFileSync(join(path, ".gitattributes"), "file filter=evil\nother filter=a=b\n");
  writeFileSync(join(path, "other"), "other\n");
  writeFileSync(join(path, "file"), "changed\n");
  const index = await Bun.file(join(path, ".git", "index")).bytes();
  expect(jobOf(guess(path)).warnings).toEqual([expect.stringContaining("not committed")]);
  expect([...new Bun.Glob("*").scanSync(traces)]).toEqual([]);
  expect(await Bun.file(join(path, ".git", "index")).bytes()).toEqual(index);
  expect(existsSync(join(path, ".git", "index.lock"))).toBe(false);
});

test("a checkout whose filters git cannot list is refused: its status could start one of them", async () => {
  const path = await checkout();
  const programs = join(folder.path, "programs");
  mkdirSync(programs);
  const git = Bun.which("git", { PATH: environment.PATH ?? process.env.PATH ?? "" });
  const script = `case "$*" in *--get-regexp*) exit 3 ;; esac\nexec ${git} "$@"`;
  writeFileSync(join(programs, "git"), `#!/bin/sh\n${script}\n`, { mode: 0o755 });
  const failing = { ...environment, PATH: `${programs}:${environment.PATH ?? process.env.PATH}` };
  expect(reasonOf(guessJob(path, failing))).toBe("git did not list the filters of the checkout");
});
