import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { freePort } from "../../../support/machine/free-port.ts";
import { run } from "../../../support/machine/processes.ts";
import type { TempDir } from "../../../support/machine/temp-dir.ts";
import type { GitServer } from "../../../support/servers/git-server.ts";
import { type CloneBench, type Cloned, repositoryName, startCloneBench, type Wanted } from "./clone-bench.ts";

let bench: CloneBench;
let git: GitServer;
let dir: TempDir;

beforeAll(async () => {
  bench = await startCloneBench();
  ({ git, dir } = bench);
});
afterAll(() => bench.stop());

const cloned = (wanted: Wanted) => bench.cloned(wanted);
const failureOf = (wanted: Wanted) => bench.failureOf(wanted);

const checkedOut = ({ workspace }: Cloned, file: string) => readFile(join(workspace.checkout, file), "utf8");

describe("what is checked out", () => {
  test("the tip of a branch, without its history", async () => {
    const name = repositoryName();
    await git.createRepository(name, { file: "one" });
    const tip = await git.commit(name, { file: "two" });
    const done = await cloned({ url: `${git.baseUrl}/${name}`, branch: "main" });
    expect(done.commit).toBe(tip);
    expect(await checkedOut(done, "file")).toBe("two");
    const count = await run(["git", "-C", done.workspace.checkout, "rev-list", "--count", "HEAD"]);
    expect(count.stdout.trim()).toBe("1");
  });

  test("a tag, and a branch rather than a tag of the same name", async () => {
    const name = repositoryName();
    const first = await git.createRepository(name, { file: "one" }, { tags: ["v1", "both"] });
    await git.commit(name, { file: "two" });
    const onBranch = await git.commit(name, { file: "three" }, { branch: "both" });
    const url = `${git.baseUrl}/${name}`;
    expect((await cloned({ url, branch: "v1" })).commit).toBe(first);
    expect((await cloned({ url, branch: "both" })).commit).toBe(onBranch);
  });

  test("a commit of the branch's history, with exactly its files", async () => {
    const name = repositoryName();
    const first = await git.createRepository(name, { file: "one", gone: "soon" });
    await git.commit(name, { file: "two", later: "more" }, { remove: ["gone"] });
    const tip = await git.commit(name, { file: "three" });
    const url = `${git.baseUrl}/${name}`;
    const done = await cloned({ url, branch: "main", commit: first });
    expect(done.commit).toBe(first);
    expect(await checkedOut(done, "file")).toBe("one");
    expect(await checkedOut(done, "gone")).toBe("soon");
    expect(await Bun.file(join(done.workspace.checkout, "later")).exists()).toBe(false);
    expect((await cloned({ url, branch: "main", commit: tip.toUpperCase() })).commit).toBe(tip);
  });

  test("hooks of the repository do not run, and an unknown submodule is ignored", async () => {
    const name = repositoryName();
    await git.createRepository(name, {
      file: "one",
      ".gitmodules": `[submodule "x"]\n\tpath = x\n\turl = ${git.baseUrl}/acme/none\n`,
    });
    const before = git.requests.length;
    await cloned({ url: `${git.baseUrl}/${name}`, branch: "main" });
    expect(git.requests.slice(before).some(({ path }) => path.includes("acme/none"))).toBe(false);
  });
});

describe("failures", () => {
  for (const path of [".git/config", "deep/.GIT/config", "sub/.git"]) {
    test(`a tree that contains ${path}`, async () => {
      const name = repositoryName();
      await git.createRepository(name, { file: "f", [path]: "[core]\n\tfsmonitor = ./evil.sh\n" });
      const failure = await bench.failureOf({ url: `${git.baseUrl}/${name}`, branch: "main" });
      expect(failure).toMatchObject({ code: "CLONE_FAILED", step: "clone", retryable: false });
      expect(failure.message).toContain(`git allows no path '${path}'`);
    });
  }

  test("a repository that does not exist", async () => {
    const failure = await failureOf({ url: `${git.baseUrl}/acme/none`, branch: "main" });
    expect(failure).toMatchObject({ code: "REPO_NOT_FOUND", step: "clone", retryable: false });
    expect(failure.message).toContain("/acme/none");
  });

  test("a branch that does not exist", async () => {
    const name = repositoryName();
    await git.createRepository(name, { file: "one" });
    const failure = await failureOf({ url: `${git.baseUrl}/${name}`, branch: "none" });
    expect(failure).toMatchObject({ code: "REF_NOT_FOUND", retryable: false });
    expect(failure.message).toContain("'none'");
  });

  test("the id of an annotated tag instead of a commit", async () => {
    const name = repositoryName();
    await git.createRepository(name, { file: "one" });
    const tagged = await git.commit(name, { file: "two" }, { annotatedTags: ["v2"] });
    const url = `${git.baseUrl}/${name}`;
    expect((await cloned({ url, branch: "v2" })).commit).toBe(tagged);
    const { stdout } = await run(["git", "ls-remote", url, "refs/tags/v2"]);
    const [commit = ""] = stdout.split("\t");
    expect(commit).not.toBe(tagged);
    expect(await failureOf({ url, branch: "v2", commit })).toMatchObject({
      code: "REF_NOT_FOUND",
      retryable: false,
    });
  });

  test("a commit of another branch, a removed commit, and one that never existed", async () => {
    const name = repositoryName();
    const first = await git.createRepository(name, { file: "one" });
    const cutOff = await git.commit(name, { file: "two" });
    await git.resetBranch(name, "main", first);
    const elsewhere = await git.commit(name, { file: "three" }, { branch: "other" });
    for (const commit of [cutOff, elsewhere, "0123456789".repeat(4)]) {
      const failure = await failureOf({ url: `${git.baseUrl}/${name}`, branch: "main", commit });
      expect(failure).toMatchObject({ code: "REF_NOT_FOUND", retryable: false });
      expect(failure.message).toContain(commit);
    }
  });

  test("a private repository without a token, and with a wrong token", async () => {
    const name = repositoryName();
    await git.createRepository(name, { file: "one" }, { private: { token: "the token" } });
    const url = `${git.baseUrl}/${name}`;
    const without = await failureOf({ url, branch: "main" });
    expect(without).toMatchObject({ code: "GIT_AUTH", retryable: false });
    expect(without.message).toContain("no git_token");
    const wrong = await failureOf({ url, branch: "main", gitToken: "a wrong token" });
    expect(wrong).toMatchObject({ code: "GIT_AUTH", retryable: false });
    expect(wrong.message).not.toContain("a wrong token");
    expect((await cloned({ url, branch: "main", gitToken: "the token" })).commit).toMatch(/^[0-9a-f]{40}$/);
  });

  test("a repository that answers 403", async () => {
    const name = repositoryName();
    await git.createRepository(name, { file: "one" });
    git.failNext(1, 403);
    const failure = await failureOf({ url: `${git.baseUrl}/${name}`, branch: "main", gitToken: "token" });
    expect(failure).toMatchObject({ code: "GIT_AUTH", retryable: false });
  });

  test("a server that is unreachable, or fails too often", async () => {
    const url = `http://127.0.0.1:${await freePort()}/acme/app`;
    expect(await failureOf({ url, branch: "main" })).toMatchObject({ code: "CLONE_FAILED", retryable: true });
    const name = repositoryName();
    await git.createRepository(name, { file: "one" });
    git.failNext(2, 503);
    expect(await failureOf({ url: `${git.baseUrl}/${name}`, branch: "main" })).toMatchObject({
      code: "CLONE_FAILED",
      retryable: true,
    });
  });

  test("a full disk", async () => {
    const name = repositoryName();
    await git.createRepository(name, {
      file: crypto.getRandomValues(new Uint8Array(60_000)).toBase64().repeat(40),
    });
    const mountPoint = join(dir.path, crypto.randomUUID());
    await mkdir(mountPoint);
    await run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", mountPoint]);
    try {
      const failure = await failureOf({ url: `${git.baseUrl}/${name}`, branch: "main", workDir: mountPoint });
      expect(failure).toMatchObject({ code: "DISK_FULL", retryable: true });
    } finally {
      await run(["umount", mountPoint]);
    }
  });
});

describe("the token", () => {
  test("is sent to the repository's URL, and not to a redirect's target", async () => {
    const name = repositoryName();
    await git.createRepository(name, { file: "one" });
    const redirecting = Bun.serve({
      hostname: "127.0.0.1",
      port: await freePort(),
      fetch: (request) =>
        Response.redirect(
          `${git.baseUrl}${new URL(request.url).pathname}${new URL(request.url).search}`,
          301,
        ),
    });
    try {
      const before = git.requests.length;
      const url = `http://127.0.0.1:${redirecting.port}/${name}`;
      const failure = await failureOf({ url, branch: "main", gitToken: "the token" });
      expect(failure).toMatchObject({ code: "CLONE_FAILED", retryable: false });
      expect(failure.message).toContain("redirect");
      expect(git.requests.length).toBe(before);
      // Without a token the redirect is followed.
      expect((await cloned({ url, branch: "main" })).commit).toMatch(/^[0-9a-f]{40}$/);
    } finally {
      await redirecting.stop(true);
    }
  });

  test("is not kept in the checkout", async () => {
    const name = repositoryName();
    const token = `token-${crypto.randomUUID()}`;
    await git.createRepository(name, { file: "one" }, { private: { token } });
    const first = await git.commit(name, { file: "two" });
    await git.commit(name, { file: "three" });
    const done = await cloned({
      url: `${git.baseUrl}/${name}`,
      branch: "main",
      commit: first,
      gitToken: token,
    });
    const basic = Buffer.from(`x-access-token:${token}`).toString("base64");
    for (const secret of [token, basic]) {
      const found = await run(["grep", "-rF", "--", secret, done.workspace.path], { mayFail: true });
      expect(found.stdout).toBe("");
    }
  });

  test("the host's own git configuration is not read", async () => {
    const name = repositoryName();
    await git.createRepository(name, { file: "one" }, { private: { token: "of the host" } });
    const home = join(dir.path, crypto.randomUUID());
    const header = `Authorization: Basic ${btoa("x-access-token:of the host")}`;
    await Bun.write(join(home, ".gitconfig"), `[http]\n\textraHeader = ${header}\n`);
    const before = process.env.HOME;
    process.env.HOME = home;
    try {
      expect(await failureOf({ url: `${git.baseUrl}/${name}`, branch: "main" })).toMatchObject({
        code: "GIT_AUTH",
      });
    } finally {
      process.env.HOME = before;
    }
  });
});
