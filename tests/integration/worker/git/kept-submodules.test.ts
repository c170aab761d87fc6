/** Cached checkouts with submodules. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { chmod, readdir, rm, truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { inFullCheck } from "../../../support/machine/full-check.ts";
import { type GitServer, startGitServer } from "../../../support/servers/git-server.ts";
import { type CloneBench, repositoryName, startCloneBench, type Wanted } from "./clone-bench.ts";
import { cachedCheckoutsIn, expectAsFresh, theCachedCheckout, timesOf } from "./kept-checkouts.ts";

let bench: CloneBench;
let git: GitServer;

beforeAll(async () => {
  bench = await startCloneBench();
  ({ git } = bench);
});
afterAll(() => bench.stop());

const BIG = crypto.getRandomValues(new Uint8Array(400_000));
const urlOf = (name: string) => `${git.baseUrl}/${name}`;
const requestsOf = (name: string) => git.requests.filter(({ path }) => path.includes(name));
const sentBytes = (requests: readonly { sentBytes: number }[]) =>
  requests.reduce((sum, request) => sum + request.sentBytes, 0);
const declare = (submodules: Readonly<Record<string, string>>) =>
  Object.entries(submodules)
    .map(([path, url]) => `[submodule "${path}"]\n\tpath = ${path}\n\turl = ${url}\n`)
    .join("");

/** A new repository with two commits, to be a submodule. */
async function createInner(files: Record<string, string | Uint8Array> = { big: BIG, inner: "one" }) {
  const name = repositoryName();
  await git.createRepository(name, files);
  return { name, url: urlOf(name), commit: await git.commit(name, { second: "commit" }) };
}

type Inner = Awaited<ReturnType<typeof createInner>>;

/** A repository with these submodules, and a worker that has cached its checkout. */
async function built(submodules: Readonly<Record<string, Inner>>, job: Partial<Wanted> = {}) {
  const name = repositoryName();
  const url = urlOf(name);
  await git.createRepository(name, { file: "f" });
  const commit = (
    wanted: Readonly<Record<string, Pick<Inner, "url" | "commit">>>,
    files: Record<string, string> = {},
    remove: readonly string[] = [],
  ) => {
    const entries = Object.entries(wanted);
    const urls = Object.fromEntries(entries.map(([path, inner]) => [path, inner.url]));
    const gitlinks = Object.fromEntries(entries.map(([path, inner]) => [path, inner.commit]));
    return git.commit(name, { ".gitmodules": declare(urls), ...files }, { gitlinks, remove });
  };
  await commit(submodules);
  const at = bench.checkoutCache();
  const wanted = { url, branch: "main", ...job };
  const next = (changes: Partial<Wanted> = {}) => bench.cloned({ ...wanted, ...at, ...changes });
  await (await next()).end();
  await theCachedCheckout(at.workDir);
  return { name, url, at, wanted, commit, next };
}

describe("a submodule that has not moved", () => {
  test("is requested, but not sent again, and its files stay unchanged", async () => {
    const inner = await createInner();
    const { wanted, commit, next } = await built({ sub: inner });
    const before = await next();
    const times = await timesOf(before, "sub/big");
    await before.end();
    await commit({ sub: inner }, { file: "another" });
    const asked = requestsOf(inner.name).length;
    const done = await next();
    const requests = requestsOf(inner.name).slice(asked);
    expect(requests.map(({ method, status }) => [method, status])).toEqual([
      ["GET", 200],
      ["POST", 200],
    ]);
    expect(sentBytes(requests)).toBeLessThan(1000);
    expect(await timesOf(done, "sub/big")).toEqual(times);
    await expectAsFresh(bench, done, wanted);
  });

  test("is not sent again when the repository has not changed either", async () => {
    const inner = await createInner();
    const { name, wanted, next } = await built({ "sub module": inner });
    const asked = git.requests.length;
    const done = await next();
    const requests = git.requests.slice(asked);
    expect(requests.some(({ path }) => path.includes(inner.name))).toBe(true);
    expect(requests.every(({ path }) => path.includes(inner.name) || path.includes(name))).toBe(true);
    expect(sentBytes(requests)).toBeLessThan(4000);
    await expectAsFresh(bench, done, wanted);
  });

  inFullCheck().test("is reused for a branch, a tag and a pinned commit", async () => {
    const inner = await createInner();
    const { name, at, url, commit, next } = await built({ sub: inner });
    const pinned = await commit({ sub: inner }, { file: "pinned" });
    await git.commit(name, { file: "of the topic" }, { branch: "topic", gitlinks: { sub: inner.commit } });
    await git.commit(name, { file: "tagged" }, { gitlinks: { sub: inner.commit }, tags: ["v1"] });
    for (const job of [{ branch: "topic" }, { branch: "v1" }, { branch: "main", commit: pinned }]) {
      const asked = requestsOf(inner.name).length;
      const done = await next(job);
      expect(sentBytes(requestsOf(inner.name).slice(asked))).toBeLessThan(1000);
      await expectAsFresh(bench, done, { url, ...job });
      await theCachedCheckout(at.workDir);
    }
  });
});

describe("a submodule that has changed", () => {
  test("gets only new objects, and has no objects of the older commit", async () => {
    const inner = await createInner();
    const { wanted, commit, next } = await built({ sub: inner });
    const moved = await git.commit(inner.name, { inner: "two" }, { remove: ["second"] });
    await commit({ sub: { ...inner, commit: moved } });
    const asked = requestsOf(inner.name).length;
    const done = await next();
    expect(sentBytes(requestsOf(inner.name).slice(asked))).toBeLessThan(5000);
    await expectAsFresh(bench, done, wanted);
    await commit({ sub: inner });
    await expectAsFresh(bench, await next(), wanted);
  });

  inFullCheck().test("is removed when its commit removes it", async () => {
    const [one, two] = [await createInner(), await createInner({ inner: "of the other" })];
    const { wanted, commit, next } = await built({ "lib/one": one, two });
    await commit({ two });
    await expectAsFresh(bench, await next(), wanted);
    await commit({}, { two: "a file now" });
    await expectAsFresh(bench, await next(), wanted);
    await commit({}, {}, ["two"]);
    await commit({ two });
    await expectAsFresh(bench, await next(), wanted);
  });

  inFullCheck().test("may become a folder of files, and a folder may become a submodule", async () => {
    const inner = await createInner({ inner: "i" });
    const { wanted, commit, next } = await built({ sub: inner });
    await commit({}, { "sub/own": "file", "sub/inner": "not that one" });
    await expectAsFresh(bench, await next(), wanted);
    await commit({}, {}, ["sub/own", "sub/inner"]);
    await commit({ sub: inner });
    await expectAsFresh(bench, await next(), wanted);
  });

  inFullCheck().test("is cloned from scratch at a new path, and from a new URL", async () => {
    const [one, two] = [await createInner(), await createInner({ inner: "of the other" })];
    const { wanted, commit, next } = await built({ sub: one });
    const changes: Record<string, Inner>[] = [
      { "renamed/sub": one },
      { "renamed/sub": two },
      { "renamed/sub": one, sub: two },
      { "renamed/sub": two, sub: one },
    ];
    for (const submodules of changes) {
      await commit(submodules);
      const done = await next();
      const log = done.lines.join("\n");
      for (const [path, { url }] of Object.entries(submodules))
        expect(log).toContain(`cloning submodule ${path}: ${url}`);
      expect(log).not.toContain("updating submodule");
      await expectAsFresh(bench, done, wanted);
    }
  });

  inFullCheck().test("may be the first submodule of its repository", async () => {
    const { wanted, commit, next } = await built({});
    await commit({ sub: await createInner() });
    await expectAsFresh(bench, await next(), wanted);
  });

  inFullCheck().test("may be nested in an unchanged submodule, and the other way round", async () => {
    const deep = await createInner();
    const middle = await createInner({ middle: "m", big: BIG });
    const nest = (commit: string) =>
      git.commit(
        middle.name,
        { ".gitmodules": declare({ "lib/deep": deep.url }) },
        { gitlinks: { "lib/deep": commit } },
      );
    const first = { ...middle, commit: await nest(deep.commit) };
    const { wanted, commit, next } = await built({ sub: first });
    const bytesOf = async () => {
      const asked = git.requests.length;
      const done = await next();
      const requests = git.requests.slice(asked);
      expect(requests.some(({ path }) => path.includes(deep.name))).toBe(true);
      await expectAsFresh(bench, done, wanted);
      return sentBytes(requests);
    };
    expect(await bytesOf()).toBeLessThan(10_000);
    const moved = await git.commit(deep.name, { inner: "two" });
    const second = { ...middle, commit: await nest(moved) };
    await commit({ sub: second });
    expect(await bytesOf()).toBeLessThan(10_000);
    const later = await git.commit(middle.name, { middle: "later" }, { gitlinks: { "lib/deep": moved } });
    await commit({ sub: { ...middle, commit: later } });
    expect(await bytesOf()).toBeLessThan(10_000);
    const without = await git.commit(middle.name, { middle: "alone" });
    await commit({ sub: { ...middle, commit: without } });
    await expectAsFresh(bench, await next(), wanted);
  });
});

describe("access to a cached submodule", () => {
  test("every job needs access to the submodule", async () => {
    const inner = await createInner();
    const { at, wanted, next } = await built({ sub: inner });
    git.makePrivate(inner.name, "its own");
    const failure = await bench.failureOf({ ...wanted, ...at, gitToken: "another" });
    expect(failure).toMatchObject({ code: "GIT_AUTH", retryable: false });
    expect(failure.message).toStartWith("submodule sub: ");
    expect(requestsOf(inner.name).some(({ hadAuthorization }) => hadAuthorization)).toBe(false);
    git.makePrivate(inner.name, undefined);
    await expectAsFresh(bench, await next(), wanted);
  });

  test("a submodule is not requested before the repository has granted access", async () => {
    const inner = await createInner();
    const { name, at, wanted, next } = await built({ sub: inner });
    git.makePrivate(name, "the token");
    const asked = requestsOf(inner.name).length;
    expect(await bench.failureOf({ ...wanted, ...at })).toMatchObject({ code: "GIT_AUTH" });
    expect(requestsOf(inner.name)).toHaveLength(asked);
    // The cached checkout stays for jobs with access.
    await theCachedCheckout(at.workDir);
    const done = await next({ gitToken: "the token" });
    expect(requestsOf(inner.name).some(({ hadAuthorization }) => hadAuthorization)).toBe(false);
    await expectAsFresh(bench, done, { ...wanted, gitToken: "the token" });
  });

  test("a submodule with the repository's own URL gets the job's token", async () => {
    const name = repositoryName();
    const token = "the token";
    const first = await git.createRepository(name, { big: BIG }, { private: { token } });
    await git.commit(name, { ".gitmodules": declare({ self: urlOf(name) }) }, { gitlinks: { self: first } });
    const at = bench.checkoutCache();
    const wanted = { url: urlOf(name), branch: "main", gitToken: token };
    await (await bench.cloned({ ...wanted, ...at })).end();
    const asked = git.requests.length;
    const done = await bench.cloned({ ...wanted, ...at });
    expect(sentBytes(git.requests.slice(asked))).toBeLessThan(4000);
    await expectAsFresh(bench, done, wanted);
  });

  test("a submodule whose repository was removed fails the job, as without a cache", async () => {
    const inner = await createInner();
    const { at, wanted } = await built({ sub: inner });
    git.removeRepository(inner.name);
    const failure = await bench.failureOf({ ...wanted, ...at });
    expect(failure).toEqual(await bench.failureOf(wanted));
    expect(failure.code).toBe("REPO_NOT_FOUND");
  });

  test("the submodule's host must be allowed each time", async () => {
    const elsewhere = await startGitServer();
    try {
      const commit = await elsewhere.createRepository("acme/inner", { inner: "i" });
      const inner = { name: "acme/inner", url: `${elsewhere.baseUrl}/acme/inner`, commit };
      const { at, wanted, next } = await built({ sub: inner }, { baseUrl: elsewhere.baseUrl });
      await (await next()).end();
      const asked = elsewhere.requests.length;
      const failure = await bench.failureOf({ ...wanted, ...at, baseUrl: git.baseUrl });
      expect(failure).toMatchObject({ code: "UNSUPPORTED", retryable: false });
      expect(elsewhere.requests).toHaveLength(asked);
    } finally {
      await elsewhere.stop();
    }
  });

  test("a cached submodule counts towards the size limit", async () => {
    const inner = await createInner({ zeros: new Uint8Array(2_000_000) });
    const { at, wanted } = await built({ sub: inner });
    const failure = await bench.failureOf({ ...wanted, ...at, limits: { repositoryBytes: 1e6 } });
    expect(failure.message).toContain("BLACKTREE_REPOSITORY_LIMIT");
  });

  test("a submodule counts towards the size of the cache", async () => {
    const inner = await createInner();
    const { at } = await built({ sub: inner });
    await at.checkoutCache.evict(700_000);
    expect(await cachedCheckoutsIn(at.workDir)).toEqual([]);
  });
});

describe("an unusable cached submodule is replaced", () => {
  const eachPack = async (submodule: string, damage: (path: string) => Promise<void>) => {
    const folder = join(submodule, ".git", "objects", "pack");
    for (const name of await readdir(folder)) {
      await chmod(join(folder, name), 0o600);
      await damage(join(folder, name));
    }
  };
  const damages: [what: string, damage: (submodule: string) => Promise<unknown>][] = [
    ["packs cut off", (at) => eachPack(at, (path) => truncate(path, 100))],
    ["packs overwritten", (at) => eachPack(at, (path) => writeFile(path, new Uint8Array(5000)))],
    ["no objects", (at) => rm(join(at, ".git", "objects"), { recursive: true })],
    ["no HEAD", (at) => rm(join(at, ".git", "HEAD"))],
    ["another HEAD", (at) => writeFile(join(at, ".git", "HEAD"), `${"1".repeat(40)}\n`)],
    ["a broken configuration", (at) => writeFile(join(at, ".git", "config"), "[core")],
    ["a broken index", (at) => writeFile(join(at, ".git", "index"), "DIRC nonsense")],
    ["no .git", (at) => rm(join(at, ".git"), { recursive: true })],
    ["a lock of a git that was killed", (at) => writeFile(join(at, ".git", "index.lock"), "")],
    ["another file", (at) => writeFile(join(at, "inner"), "ono")],
    ["no file", (at) => rm(join(at, "inner"))],
    ["no folder", (at) => rm(at, { recursive: true })],
  ];

  // One in three, of objects, HEAD, index and files each.
  for (const [index, [what, damage]] of damages.entries())
    inFullCheck(index % 3 !== 0).test(what, async () => {
      const inner = await createInner({ inner: "one", other: "o" });
      const { at, wanted, commit, next } = await built({ sub: inner });
      await damage(join(await theCachedCheckout(at.workDir), "sub"));
      await expectAsFresh(bench, await next(), wanted);
      await damage(join(await theCachedCheckout(at.workDir), "sub"));
      const moved = await git.commit(inner.name, { inner: "two" });
      await commit({ sub: { ...inner, commit: moved } });
      await expectAsFresh(bench, await next(), wanted);
      await expectAsFresh(bench, await next(), wanted);
    });

  test("after a temporary server failure it is cloned from scratch, and the job succeeds", async () => {
    const inner = await createInner();
    const { name, wanted, next } = await built({ sub: inner });
    const held = git.hold(({ path }) => path.includes(inner.name));
    const cloning = next();
    await held.arrived;
    git.failNext(1, 503);
    held.release();
    const done = await cloning;
    expect(requestsOf(name).every(({ status }) => status !== 503)).toBe(true);
    expect(requestsOf(inner.name).some(({ status }) => status === 503)).toBe(true);
    await expectAsFresh(bench, done, wanted);
  });
});

describe("a run that ends early", () => {
  test("does not cache a partly updated checkout", async () => {
    const inner = await createInner();
    const { at, wanted, commit, next } = await built({ sub: inner });
    const moved = await git.commit(inner.name, { inner: "two" });
    await commit({ sub: { ...inner, commit: moved } }, { file: "another" });
    const abort = new AbortController();
    const run = await bench.resolved({ ...wanted, ...at, signal: abort.signal });
    const held = git.hold(({ path }) => path.includes(inner.name));
    const filling = run.source.checkOut();
    await held.arrived;
    const reason = new Error("asked to end");
    abort.abort(reason);
    await expect(filling).rejects.toBe(reason);
    held.release();
    expect(await cachedCheckoutsIn(at.workDir)).toEqual([]);
    await run.end();
    expect(await cachedCheckoutsIn(at.workDir)).toEqual([]);
    await expectAsFresh(bench, await next(), wanted);
    await theCachedCheckout(at.workDir);
  });

  test("returns cached submodules that it has not used", async () => {
    const inner = await createInner();
    const { at, wanted, next } = await built({ sub: inner });
    await (await bench.resolved({ ...wanted, ...at })).end();
    const asked = requestsOf(inner.name).length;
    const done = await next();
    expect(sentBytes(requestsOf(inner.name).slice(asked))).toBeLessThan(1000);
    await expectAsFresh(bench, done, wanted);
  });
});
