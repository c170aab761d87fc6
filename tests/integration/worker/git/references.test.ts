/** What `branch` can name: branches, tags, whole refs and commits, in SHA-1 and SHA-256 repositories. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { inFullCheck } from "../../../support/machine/full-check.ts";
import type { GitServer } from "../../../support/servers/git-server.ts";
import { type CloneBench, type Cloned, repositoryName, startCloneBench } from "./clone-bench.ts";

let bench: CloneBench;
let git: GitServer;

beforeAll(async () => {
  bench = await startCloneBench();
  ({ git } = bench);
});
afterAll(() => bench.stop());

const urlOf = (name: string) => `${git.baseUrl}/${name}`;
const headOf = ({ workspace }: Cloned) => readFile(join(workspace.checkout, ".git", "HEAD"), "utf8");

/** Clones twice: from scratch, and from the first run's cached checkout. */
async function clonedTwice(name: string, branch: string, commit?: string): Promise<string> {
  const wanted = { url: urlOf(name), branch, commit, ...bench.checkoutCache() };
  const first = await bench.cloned(wanted);
  const head = await headOf(first);
  await first.end();
  const second = await bench.cloned(wanted);
  expect(second.commit).toBe(first.commit);
  expect(await headOf(second)).toBe(head);
  await second.end();
  return first.commit;
}

/** Main has commits 1, 2 and 3, and `other` has commit 4 on top of them. */
async function createHistory(objectFormat?: "sha256") {
  const name = repositoryName();
  const one = await git.createRepository(name, { file: "1" }, { objectFormat });
  const two = await git.commit(name, { file: "2" });
  const three = await git.commit(name, { file: "3" });
  const four = await git.commit(name, { file: "4" }, { branch: "other" });
  return { name, one, two, three, four };
}

describe("branch", () => {
  test("is a whole ref, a commit's id or a name; names prefer branches over tags", async () => {
    const { name, one, two, three, four } = await createHistory();
    await git.git(name, "update-ref", "refs/tags/other", one);
    await git.git(name, "update-ref", "refs/pull/1/head", two);
    expect(await clonedTwice(name, "other")).toBe(four);
    expect(await clonedTwice(name, "refs/heads/other")).toBe(four);
    expect(await clonedTwice(name, "refs/tags/other")).toBe(one);
    expect(await clonedTwice(name, "refs/pull/1/head")).toBe(two);
    expect(await clonedTwice(name, three.toUpperCase())).toBe(three);
    expect(await clonedTwice(name, two)).toBe(two);
    expect(await clonedTwice(name, "refs/heads/other", two)).toBe(two);
    expect(await clonedTwice(name, three, one)).toBe(one);
  });

  inFullCheck().test("an id means the commit, even if a branch has the same name", async () => {
    const { name, one, two } = await createHistory();
    await git.git(name, "update-ref", `refs/heads/${one}`, two);
    expect(await clonedTwice(name, one)).toBe(one);
    expect(await clonedTwice(name, `refs/heads/${one}`)).toBe(two);
  });

  inFullCheck().test("names with characters beyond letters", async () => {
    const { name, two } = await createHistory();
    for (const branch of ["größe/#1+2", "a'b\"c$d;e&f", "heads/x", "日本", "refs", "v1.0,x=y!%40"]) {
      await git.git(name, "update-ref", `refs/heads/${branch}`, two);
      expect(await clonedTwice(name, branch)).toBe(two);
    }
  });

  const missing = ["none", "HEAD", "heads/main", "tags/main", "refs/heads/none", "refs/pull/9/head"];
  for (const [index, branch] of missing.entries())
    inFullCheck(index > 0).test(`${branch}, which the server does not have`, async () => {
      const { name } = await createHistory();
      expect(await bench.failureOf({ url: urlOf(name), branch })).toMatchObject({
        code: "REF_NOT_FOUND",
        retryable: false,
        message: `${urlOf(name)} has no branch or tag '${branch}' (an empty repository has none)`,
      });
    });

  test("a commit that the server does not have: one request for it, and no history", async () => {
    const { name } = await createHistory();
    const id = "0123456789".repeat(4);
    const before = git.requests.length;
    expect(await bench.failureOf({ url: urlOf(name), branch: id })).toMatchObject({
      code: "REF_NOT_FOUND",
      retryable: false,
      message: `${urlOf(name)} has no commit ${id}, or does not offer it: push the commit to a branch or tag`,
    });
    expect(git.requests.length - before).toBe(2);
  });

  test("a commit must be in the history of a commit, too", async () => {
    const { name, two, three } = await createHistory();
    expect(await bench.failureOf({ url: urlOf(name), branch: two, commit: three })).toMatchObject({
      code: "REF_NOT_FOUND",
      message: `commit ${three} is not in the history of '${two}' of ${urlOf(name)}`,
    });
  });
});

describe("a tag", () => {
  test("of a tag names the commit", async () => {
    const { name, two } = await createHistory();
    await git.git(
      name,
      "-c",
      "user.name=T",
      "-c",
      "user.email=t@example.com",
      "tag",
      "-a",
      "-m",
      "1",
      "inner",
      two,
    );
    await git.git(
      name,
      "-c",
      "user.name=T",
      "-c",
      "user.email=t@example.com",
      "tag",
      "-a",
      "-m",
      "2",
      "outer",
      "inner",
    );
    expect(await clonedTwice(name, "outer")).toBe(two);
    expect(await clonedTwice(name, "refs/tags/outer", two)).toBe(two);
  });

  const kinds = ["tree", "blob"];
  for (const [index, kind] of kinds.entries())
    inFullCheck(index > 0).test(`of a ${kind} fails the clone, also with a cached checkout`, async () => {
      const { name } = await createHistory();
      const object = kind === "tree" ? "main^{tree}" : "main:file";
      await git.git(name, "update-ref", "refs/tags/light", await git.git(name, "rev-parse", object));
      await git.git(
        name,
        "-c",
        "user.name=T",
        "-c",
        "user.email=t@example.com",
        "tag",
        "-a",
        "-m",
        "1",
        "heavy",
        "light",
      );
      const at = bench.checkoutCache();
      for (const branch of ["light", "heavy", "refs/tags/light", "refs/tags/heavy"]) {
        const url = urlOf(name);
        const expected = {
          code: "REF_NOT_FOUND",
          retryable: false,
          message: `'${branch}' of ${url} does not name a commit`,
        };
        expect(await bench.failureOf({ url, branch })).toMatchObject(expected);
        await (await bench.cloned({ url, branch: "main", ...at })).end();
        expect(await bench.failureOf({ url, branch, ...at })).toMatchObject(expected);
      }
    });
});

describe("a SHA-256 repository", () => {
  test("is checked out by branch, ref, id and commit", async () => {
    const { name, one, two, three } = await createHistory("sha256");
    expect(three).toMatch(/^[0-9a-f]{64}$/);
    expect(await clonedTwice(name, "main")).toBe(three);
    expect(await clonedTwice(name, "refs/heads/main", one)).toBe(one);
    expect(await clonedTwice(name, two)).toBe(two);
  });

  test("takes the place of a SHA-1 repository, whose cached checkout is not used", async () => {
    const { name } = await createHistory();
    const wanted = { url: urlOf(name), branch: "main", ...bench.checkoutCache() };
    await (await bench.cloned(wanted)).end();
    git.removeRepository(name);
    const commit = await git.createRepository(name, { file: "f" }, { objectFormat: "sha256" });
    for (let count = 0; count < 2; count++) {
      const done = await bench.cloned(wanted);
      expect(done.commit).toBe(commit);
      await done.end();
    }
  });

  test("does not have a commit with an id of the other length", async () => {
    const { name } = await createHistory("sha256");
    const short = "1".repeat(40);
    for (const wanted of [{ branch: short }, { branch: "main", commit: short }]) {
      const failure = await bench.failureOf({ url: urlOf(name), ...wanted });
      expect(failure).toMatchObject({ code: "REF_NOT_FOUND", retryable: false });
      expect(failure.message).toContain("length");
    }
  });

  test("is not a submodule of a SHA-1 repository", async () => {
    const inner = await createHistory("sha256");
    const name = repositoryName();
    await git.createRepository(name, { file: "f" });
    const gitmodules = `[submodule "s"]\n\tpath = sub\n\turl = ${urlOf(inner.name)}\n`;
    await git.commit(name, { ".gitmodules": gitmodules }, { gitlinks: { sub: inner.one.slice(0, 40) } });
    const failure = await bench.failureOf({ url: urlOf(name), branch: "main" });
    expect(failure).toMatchObject({ code: "REF_NOT_FOUND", retryable: false });
    expect(failure.message).toContain("submodule sub: the ids of");
  });
});
