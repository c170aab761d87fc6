/** Cached checkouts with Git LFS files. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { readdir, rm, stat, utimes, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { GitServer } from "../../../support/servers/git-server.ts";
import { type CloneBench, repositoryName, startCloneBench, type Wanted } from "./clone-bench.ts";
import { cachedCheckoutsIn, expectAsFresh, theCachedCheckout, timesOf } from "./kept-checkouts.ts";

let bench: CloneBench;
let git: GitServer;

beforeAll(async () => {
  bench = await startCloneBench();
  ({ git } = bench);
});
afterAll(() => bench.stop());

const ATTRIBUTES = { ".gitattributes": "*.bin filter=lfs diff=lfs merge=lfs -text\n" };
const randomBytes = (size: number) => crypto.getRandomValues(new Uint8Array(size));
const large = randomBytes(300_000);
const small = randomBytes(10);

type Files = Record<string, string | Uint8Array>;

/** A repository with these files, and a worker that has cached its checkout. */
async function built(files: Files, job: Partial<Wanted> = {}) {
  const name = repositoryName();
  const url = `${git.baseUrl}/${name}`;
  const { gitToken: token } = job;
  const options = token === undefined ? {} : { private: { token } };
  await git.createRepository(name, { file: "one" }, options);
  await git.commit(name, { ...ATTRIBUTES, ...files });
  const at = bench.checkoutCache();
  const wanted = { url, branch: "main", ...job };
  const next = (changes: Partial<Wanted> = {}) => bench.cloned({ ...wanted, ...at, ...changes });
  await (await next()).end();
  await theCachedCheckout(at.workDir);
  const commit = (changed: Files, remove: readonly string[] = []) => git.commit(name, changed, { remove });
  return { name, url, at, wanted, next, commit };
}

/** Requests to LFS during the action. */
async function lfsRequests(work: () => Promise<void>) {
  const before = git.requests.length;
  await work();
  const requests = git.requests.slice(before).filter(({ path }) => path.includes("/info/lfs/"));
  const batches = requests.filter(({ path }) => path.endsWith("/batch"));
  return { batches, downloads: requests.length - batches.length };
}

const pointersOf = (contents: Record<string, Uint8Array>): Files =>
  Object.fromEntries(Object.entries(contents).map(([path, content]) => [path, git.lfs.add(content)]));

describe("a file whose pointer has not changed", () => {
  test("is requested with the job's token, not downloaded again, and stays unchanged", async () => {
    const files = pointersOf({ "data/large.bin": large, 'odd "name".bin': small, "bin/tool.bin": small });
    const { wanted, next, commit } = await built({ ...files, "plain.bin": "p" }, { gitToken: "the token" });
    const before = await next();
    const times = await timesOf(before, "data/large.bin");
    await before.end();
    for (const change of [{ file: "two" }, undefined]) {
      if (change) await commit(change);
      let done = before;
      const { batches, downloads } = await lfsRequests(async () => {
        done = await next();
      });
      expect(batches.map(({ hadAuthorization, status }) => [hadAuthorization, status])).toEqual([
        [true, 200],
      ]);
      expect(downloads).toBe(0);
      expect(await timesOf(done, "data/large.bin")).toEqual(times);
      await expectAsFresh(bench, done, wanted);
    }
  });

  test("in a submodule too", async () => {
    const inner = repositoryName();
    const innerUrl = `${git.baseUrl}/${inner}`;
    await git.createRepository(inner, ATTRIBUTES);
    const sub = await git.commit(inner, pointersOf({ "one.bin": large, "two.bin": small }));
    const name = repositoryName();
    await git.createRepository(name, { file: "one" });
    const commit = (gitlink: string, file: string) =>
      git.commit(
        name,
        { file, ".gitmodules": `[submodule "sub"]\n\tpath = sub\n\turl = ${innerUrl}\n` },
        { gitlinks: { sub: gitlink } },
      );
    await commit(sub, "one");
    const wanted = { url: `${git.baseUrl}/${name}`, branch: "main" };
    const at = bench.checkoutCache();
    await (await bench.cloned({ ...wanted, ...at })).end();
    const again = async () => expectAsFresh(bench, await bench.cloned({ ...wanted, ...at }), wanted);
    await commit(sub, "two");
    // These are the downloads of the fresh clone.
    expect((await lfsRequests(again)).downloads).toBe(2);
    const moved = await git.commit(inner, pointersOf({ "two.bin": randomBytes(10) }));
    await commit(moved, "three");
    expect((await lfsRequests(again)).downloads).toBe(2 + 1);
  });
});

describe("a file that has changed", () => {
  test("is the only one that is downloaded, and gets a new time even with an unchanged size", async () => {
    const { wanted, next, commit } = await built(pointersOf({ "one.bin": large, "two.bin": small }));
    const before = await next();
    const times = await timesOf(before, "two.bin");
    await before.end();
    await commit(pointersOf({ "two.bin": randomBytes(small.length) }));
    let done = before;
    const { downloads } = await lfsRequests(async () => {
      done = await next();
    });
    expect(downloads).toBe(1);
    expect((await timesOf(done, "two.bin"))[1]).not.toBe(times[1]);
    await expectAsFresh(bench, done, wanted);
  });

  test("is removed with its folder when its commit removes it", async () => {
    const { wanted, next, commit } = await built(
      pointersOf({ "data/inner/one.bin": large, "two.bin": small }),
    );
    await commit({}, ["data/inner/one.bin"]);
    await expectAsFresh(bench, await next(), wanted);
    await commit({}, ["two.bin"]);
    await expectAsFresh(bench, await next(), wanted);
    await expectAsFresh(bench, await next(), wanted);
  });

  test("may become a normal file, and a normal file may move to LFS", async () => {
    const { wanted, next, commit } = await built({
      ...pointersOf({ "one.bin": large }),
      "two.bin": "normal",
    });
    await commit({ "one.bin": "normal now", ...pointersOf({ "two.bin": small }) });
    await expectAsFresh(bench, await next(), wanted);
    // The contents, not a pointer.
    await commit({ "two.bin": small, ...pointersOf({ "one.bin": large }) });
    await expectAsFresh(bench, await next(), wanted);
  });

  test("may become a folder, and a folder may become a file", async () => {
    const { wanted, next, commit } = await built(
      pointersOf({ "one.bin": large, "two.bin/inner.bin": small }),
    );
    await commit({}, ["one.bin", "two.bin/inner.bin"]);
    await commit(pointersOf({ "one.bin/inner.bin": large, "two.bin": small }));
    await expectAsFresh(bench, await next(), wanted);
  });

  test("stays a pointer once its attributes do not name LFS", async () => {
    const { wanted, next, commit } = await built(pointersOf({ "one.bin": large }));
    await commit({ ".gitattributes": "*.other filter=lfs\n" });
    await expectAsFresh(bench, await next(), wanted);
    await commit(ATTRIBUTES);
    await expectAsFresh(bench, await next(), wanted);
  });

  test("does not keep the time of the file that it replaces", async () => {
    const other = randomBytes(large.length);
    const { at, wanted, next, commit } = await built(pointersOf({ "one.bin": large, "two.bin": other }));
    const cachedCheckout = await theCachedCheckout(at.workDir);
    for (const path of ["one.bin", "two.bin"]) await utimes(join(cachedCheckout, path), 1e9, 1e9);
    await commit(pointersOf({ "one.bin": other, "two.bin": large }));
    const done = await next();
    for (const path of ["one.bin", "two.bin"])
      expect((await stat(join(done.workspace.checkout, path))).mtimeMs).toBeGreaterThan(1e12);
    await expectAsFresh(bench, done, wanted);
  });

  test("may be the first LFS file of its repository", async () => {
    const { wanted, next, commit } = await built({});
    await commit(pointersOf({ "one.bin": large }));
    await expectAsFresh(bench, await next(), wanted);
    await expectAsFresh(bench, await next(), wanted);
  });
});

describe("a cached file is not used", () => {
  test("when LFS denies access", async () => {
    const elsewhere = repositoryName();
    await git.createRepository(elsewhere, { file: "f" });
    const lfsconfig = `[lfs]\n\turl = ${git.baseUrl}/${elsewhere}.git/info/lfs\n`;
    const { at, wanted } = await built({ ...pointersOf({ "one.bin": large }), ".lfsconfig": lfsconfig });
    git.makePrivate(elsewhere, "its own");
    const failure = await bench.failureOf({ ...wanted, ...at });
    expect(failure).toMatchObject({ code: "GIT_AUTH", retryable: false });
    expect(await cachedCheckoutsIn(at.workDir)).toEqual([]);
  });

  test("when LFS does not have the file any more", async () => {
    const content = randomBytes(1000);
    const { at, wanted } = await built(pointersOf({ "one.bin": content, "two.bin": large }));
    git.lfs.forget(git.lfs.add(content));
    const failure = await bench.failureOf({ ...wanted, ...at });
    expect(failure).toMatchObject({ code: "CLONE_FAILED", retryable: false });
    expect(failure.message).toContain("one.bin");
  });

  test("when LFS stores it on a host that is not allowed", async () => {
    const { at, wanted } = await built(pointersOf({ "one.bin": large }));
    git.lfs.objectsAt = "https://elsewhere.example/objects";
    try {
      const failure = await bench.failureOf({ ...wanted, ...at });
      expect(failure.message).toContain("BLACKTREE_GIT_ALLOWED_HOSTS");
    } finally {
      git.lfs.objectsAt = undefined;
    }
  });

  test("when it exceeds the size limit", async () => {
    const { at, wanted } = await built(pointersOf({ "one.bin": large }));
    const failure = await bench.failureOf({ ...wanted, ...at, limits: { repositoryBytes: 200_000 } });
    expect(failure.message).toContain("BLACKTREE_REPOSITORY_LIMIT");
  });

  const damages: [what: string, damage: (path: string) => Promise<unknown>][] = [
    ["other contents", (path) => writeFile(path, randomBytes(large.length))],
    ["only a part", (path) => writeFile(path, large.subarray(0, 1000))],
    ["no file", (path) => rm(path)],
  ];
  test.each(damages)("with %s: it is downloaded again", async (_what, damage) => {
    const { at, wanted, next, commit } = await built(pointersOf({ "data/one.bin": large, "two.bin": small }));
    for (const change of [undefined, { file: "two" }]) {
      if (change) await commit(change);
      await damage(join(await theCachedCheckout(at.workDir), "data/one.bin"));
      await expectAsFresh(bench, await next(), wanted);
    }
  });
});

test("LFS files count towards the size of the cache", async () => {
  const { at } = await built(pointersOf({ "one.bin": large }));
  await at.checkoutCache.evict(250_000);
  expect(await cachedCheckoutsIn(at.workDir)).toEqual([]);
});

test("a checkout is not cached when LFS has failed", async () => {
  const { at, wanted, next, commit } = await built({});
  const missing = randomBytes(1000);
  const pointers = pointersOf({ "one.bin": large, "two.bin": missing });
  git.lfs.forget(git.lfs.add(missing));
  await commit(pointers);
  const failing = await bench.resolved({ ...wanted, ...at });
  await expect(failing.source.checkOut()).rejects.toThrow("two.bin");
  await failing.end();
  expect(await cachedCheckoutsIn(at.workDir)).toEqual([]);
  git.lfs.add(missing);
  await expectAsFresh(bench, await next(), wanted);
});

test("after a server failure only the missing files are downloaded", async () => {
  const { next, wanted, commit } = await built(pointersOf({ "a.bin": large, "b.bin": small }));
  await commit(pointersOf({ "b.bin": randomBytes(20), "c.bin": randomBytes(30) }));
  const held = git.hold(({ path }) => path.includes("/info/lfs/") && !path.endsWith("/batch"));
  const cloning = next();
  await held.arrived;
  git.failNext(1, 503);
  held.release();
  const done = await cloning;
  expect(await readdir(join(done.workspace.checkout, ".git"))).not.toContain("lfs-arriving");
  await expectAsFresh(bench, done, wanted);
});
