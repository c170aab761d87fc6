import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { chmod, mkdir, readdir, rm, stat, symlink, truncate, writeFile } from "node:fs/promises";
import { basename, join } from "node:path";
import { killProcess } from "../../../../src/worker/process/control-group.ts";
import { run } from "../../../support/machine/processes.ts";
import type { GitRequest, GitServer } from "../../../support/servers/git-server.ts";
import { contentsOf } from "./checkout-contents.ts";
import { type CloneBench, type Cloned, repositoryName, startCloneBench } from "./clone-bench.ts";
import { cachedCheckoutsIn, theCachedCheckout } from "./kept-checkouts.ts";

let bench: CloneBench;
let git: GitServer;

beforeAll(async () => {
  bench = await startCloneBench();
  ({ git } = bench);
});
afterAll(() => bench.stop());

const BIG = crypto.getRandomValues(new Uint8Array(400_000));

async function createRepository(files: Record<string, string | Uint8Array> = { file: "one" }) {
  const name = repositoryName();
  const first = await git.createRepository(name, files, { tags: ["v1"] });
  const url = `${git.baseUrl}/${name}`;
  return { name, first, url, requests: () => git.requests.filter(({ path }) => path.includes(name)) };
}

/** Kills the git processes that run now, not later ones. */
async function killGitOf(workDir: string): Promise<void> {
  const running = await readdir("/proc").then((names) => names.filter((name) => /^\d+$/.test(name)));
  const environments = running.map((pid) =>
    Bun.file(`/proc/${pid}/environ`)
      .text()
      .catch(() => ""),
  );
  const isOurs = (await Promise.all(environments)).map((text) => text.includes(`HOME=${workDir}/`));
  const pids = running.filter((_, index) => isOurs[index]).map(Number);
  expect(pids.length).toBeGreaterThan(0);
  for (const pid of pids) killProcess(pid);
}

const output = async (cwd: string, ...args: string[]) =>
  (await run(["git", ...args], { cwd, env: { GIT_CONFIG_GLOBAL: "/dev/null" } })).stdout.trim();

/** The checkout is identical to a fresh clone of this commit only. */
async function expectCommitAlone({ workspace }: Cloned, commit: string): Promise<void> {
  const { checkout } = workspace;
  expect(await output(checkout, "rev-parse", "HEAD")).toBe(commit);
  // Drops times and sizes from the index, so that git reads all files.
  await run(["git", "read-tree", "HEAD"], { cwd: checkout });
  expect(await output(checkout, "status", "--porcelain", "--ignored")).toBe("");
  expect(await output(checkout, "rev-list", "--all", "HEAD")).toBe(commit);
  expect(await output(checkout, "remote")).toBe("");
  const held = await output(checkout, "cat-file", "--batch-all-objects", "--batch-check=%(objectname)");
  const needed = await output(checkout, "rev-list", "--objects", "--no-object-names", "--all", "HEAD");
  expect(new Set(held.split("\n"))).toEqual(new Set(needed.split("\n")));
  await run(["git", "fsck", "--strict"], { cwd: checkout });
}

const checkedOut = ({ workspace }: Cloned, file: string) => Bun.file(join(workspace.checkout, file)).text();

describe("with a cached checkout", () => {
  test("files follow the attributes of their commit, not those of the cached checkout", async () => {
    const { name, url } = await createRepository({ "sub/file.txt": "one\ntwo\n", untouched: "x" });
    const at = bench.checkoutCache();
    const textOf = async () => {
      const run = await bench.cloned({ url, branch: "main", ...at });
      await expectCommitAlone(run, run.commit);
      const text = await checkedOut(run, "sub/file.txt");
      await run.end();
      return text;
    };
    expect(await textOf()).toBe("one\ntwo\n");
    await git.commit(name, { ".gitattributes": "*.txt text eol=crlf\n" });
    expect(await textOf()).toBe("one\r\ntwo\r\n");
    await git.commit(name, { "sub/.gitattributes": "*.txt text eol=lf\n" });
    expect(await textOf()).toBe("one\ntwo\n");
    await git.commit(name, {}, { remove: ["sub/.gitattributes"] });
    expect(await textOf()).toBe("one\r\ntwo\r\n");
  });

  test("only what is new is fetched, and only changed files are written", async () => {
    const { name, url, requests } = await createRepository({ big: BIG, file: "one", gone: "x" });
    const at = bench.checkoutCache();
    const first = await bench.cloned({ url, branch: "main", ...at });
    const before = await stat(join(first.workspace.checkout, "big"), { bigint: true });
    await first.end();
    const tip = await git.commit(name, { file: "two", later: "new" }, { remove: ["gone"] });
    const asked = requests().length;
    const second = await bench.cloned({ url, branch: "main", ...at });
    expect(second.commit).toBe(tip);
    const sent = requests().slice(asked);
    expect(sent.reduce((sum, { sentBytes }) => sum + sentBytes, 0)).toBeLessThan(20_000);
    const after = await stat(join(second.workspace.checkout, "big"), { bigint: true });
    expect([after.ino, after.mtimeNs]).toEqual([before.ino, before.mtimeNs]);
    expect(await checkedOut(second, "file")).toBe("two");
    await expectCommitAlone(second, tip);
  });

  test("nothing is fetched for an unchanged tip", async () => {
    const { url, first, requests } = await createRepository({ file: "one", big: BIG });
    const at = bench.checkoutCache();
    await (await bench.cloned({ url, branch: "main", ...at })).end();
    const asked = requests().length;
    const again = await bench.cloned({ url, branch: "main", ...at });
    // Git may have started the third request before the worker ended the fetch.
    const sent = requests().slice(asked);
    expect(sent.length).toBeLessThanOrEqual(3);
    expect(sent.reduce((sum, { sentBytes }) => sum + sentBytes, 0)).toBeLessThan(3000);
    await expectCommitAlone(again, first);
  });

  test("is used for other branches, tags and pinned commits, without objects of the others", async () => {
    const { name, url, first } = await createRepository({ file: "one", kept: "k" });
    const onMain = await git.commit(name, { file: "two" });
    const onTopic = await git.commit(name, { file: "three", more: "m" }, { branch: "topic" });
    const at = bench.checkoutCache();
    const wanted = [
      { branch: "main", expected: onMain },
      { branch: "topic", expected: onTopic },
      { branch: "v1", expected: first },
      { branch: "v1", expected: first },
      { branch: "main", commit: first, expected: first },
      { branch: "main", commit: first, expected: first },
      { branch: "topic", commit: onMain, expected: onMain },
      { branch: "main", expected: onMain },
    ];
    for (const { expected, ...job } of wanted) {
      const done = await bench.cloned({ url, ...job, ...at });
      expect(done.commit).toBe(expected);
      await expectCommitAlone(done, expected);
      await done.end();
      await theCachedCheckout(at.workDir);
    }
  });

  test("a commit that was removed from the server is removed from the checkout too", async () => {
    const { name, url, first } = await createRepository();
    await git.commit(name, { file: "pushed by mistake", secret: "s" });
    const at = bench.checkoutCache();
    await (await bench.cloned({ url, branch: "main", ...at })).end();
    await git.resetBranch(name, "main", first);
    const done = await bench.cloned({ url, branch: "main", ...at });
    await expectCommitAlone(done, first);
  });

  test("files, folders, symlinks and modes may replace each other", async () => {
    const { name, url } = await createRepository({ one: "file", "two/inner": "x", "bin/tool": "t" });
    const at = bench.checkoutCache();
    await (await bench.cloned({ url, branch: "main", ...at })).end();
    await git.commit(name, {}, { remove: ["one", "two/inner"] });
    await git.commit(name, { "one/inner": "now a folder", two: "now a file" });
    const second = await bench.cloned({ url, branch: "main", ...at });
    await expectCommitAlone(second, second.commit);
    await second.end();
    const third = await bench.cloned({ url, branch: "v1", ...at });
    await expectCommitAlone(third, third.commit);
  });

  test("a run that ends before its files are written returns the cached checkout", async () => {
    const { url } = await createRepository();
    const at = bench.checkoutCache();
    await (await bench.cloned({ url, branch: "main", ...at })).end();
    const cachedCheckout = await theCachedCheckout(at.workDir);
    await (await bench.resolved({ url, branch: "main", ...at })).end();
    const idOf = (path: string) => basename(path).split("-").slice(2);
    expect(idOf(await theCachedCheckout(at.workDir))).toEqual(idOf(cachedCheckout));
  });
});

describe("access to a cached checkout", () => {
  test("every job needs its own token", async () => {
    const name = repositoryName();
    const token = `token-${crypto.randomUUID()}`;
    await git.createRepository(name, { file: "one" }, { private: { token } });
    const url = `${git.baseUrl}/${name}`;
    const at = bench.checkoutCache();
    await (await bench.cloned({ url, branch: "main", gitToken: token, ...at })).end();
    for (const gitToken of [undefined, "another"]) {
      const failure = await bench.failureOf({ url, branch: "main", gitToken, ...at });
      expect(failure).toMatchObject({ code: "GIT_AUTH", retryable: false });
    }
    expect(await bench.failureOf({ url, branch: "none", gitToken: token, ...at })).toMatchObject({
      code: "REF_NOT_FOUND",
    });
    // The cached checkout stays for jobs with access.
    await theCachedCheckout(at.workDir);
    const done = await bench.cloned({ url, branch: "main", gitToken: token, ...at });
    expect(await cachedCheckoutsIn(at.workDir)).toEqual([]);
    await done.end();
  });

  test("another tenant does not use it", async () => {
    const { url } = await createRepository({ file: "one", big: BIG });
    const at = bench.checkoutCache();
    await (await bench.cloned({ url, branch: "main", tenant: "one", ...at })).end();
    const other = await bench.cloned({ url, branch: "main", tenant: "other", ...at });
    await theCachedCheckout(at.workDir);
    await other.end();
    expect(await cachedCheckoutsIn(at.workDir)).toHaveLength(2);
  });

  test("the work folder does not contain the token, neither in a checkout nor in the cache", async () => {
    const name = repositoryName();
    const token = `token-${crypto.randomUUID()}`;
    const first = await git.createRepository(name, { file: "one" }, { private: { token } });
    const url = `${git.baseUrl}/${name}`;
    const at = bench.checkoutCache();
    const job = { url, branch: "main", gitToken: token, ...at };
    await (await bench.cloned(job)).end();
    await git.commit(name, { file: "two" });
    await (await bench.cloned({ ...job, commit: first })).end();
    await bench.cloned(job);
    for (const secret of [token, btoa(`x-access-token:${token}`)]) {
      const found = await run(["grep", "-rF", "--", secret, at.workDir], { mayFail: true });
      expect(found.stdout).toBe("");
    }
  });
});

describe("an unusable cached checkout is replaced", () => {
  const packsOf = async (cachedCheckout: string) => {
    const folder = join(cachedCheckout, ".git", "objects", "pack");
    return (await readdir(folder)).map((name) => join(folder, name));
  };
  const damages: [what: string, damage: (cachedCheckout: string) => Promise<unknown>][] = [
    [
      "packs cut off",
      async (cachedCheckout) => {
        for (const path of await packsOf(cachedCheckout)) {
          await chmod(path, 0o600);
          await truncate(path, 100);
        }
      },
    ],
    [
      "packs overwritten",
      async (cachedCheckout) => {
        for (const path of await packsOf(cachedCheckout)) {
          await chmod(path, 0o600);
          await writeFile(path, new Uint8Array(5000));
        }
      },
    ],
    ["no objects", (cachedCheckout) => rm(join(cachedCheckout, ".git", "objects"), { recursive: true })],
    ["no HEAD", (cachedCheckout) => rm(join(cachedCheckout, ".git", "HEAD"))],
    [
      "a broken configuration",
      (cachedCheckout) => writeFile(join(cachedCheckout, ".git", "config"), "[core"),
    ],
    ["a broken index", (cachedCheckout) => writeFile(join(cachedCheckout, ".git", "index"), "DIRC nonsense")],
    [
      "locks of a git that was killed",
      async (cachedCheckout) => {
        for (const name of ["index.lock", "shallow.lock", "HEAD.lock"])
          await writeFile(join(cachedCheckout, ".git", name), "");
      },
    ],
    [
      "nothing in it",
      async (cachedCheckout) => {
        await rm(cachedCheckout, { recursive: true });
        await mkdir(cachedCheckout);
      },
    ],
  ];

  test.each(damages)("%s", async (_what, damage) => {
    const { name, url } = await createRepository({ file: "one", other: "o" });
    const at = bench.checkoutCache();
    await (await bench.cloned({ url, branch: "main", ...at })).end();
    await damage(await theCachedCheckout(at.workDir));
    const tip = await git.commit(name, { file: "two" });
    const done = await bench.cloned({ url, branch: "main", ...at });
    await expectCommitAlone(done, tip);
    await done.end();
    const again = await bench.cloned({ url, branch: "main", ...at });
    await expectCommitAlone(again, tip);
  });

  test("a repository that contains the work folder is not changed", async () => {
    const { name, url } = await createRepository();
    const at = bench.checkoutCache();
    await (await bench.cloned({ url, branch: "main", ...at })).end();
    await rm(join(await theCachedCheckout(at.workDir), ".git"), { recursive: true });
    await run(["git", "init", "--quiet", "--template=", at.workDir]);
    const before = await contentsOf(join(at.workDir, ".git"));
    const tip = await git.commit(name, { file: "two" });
    await expectCommitAlone(await bench.cloned({ url, branch: "main", ...at }), tip);
    expect(await contentsOf(join(at.workDir, ".git"))).toEqual(before);
  });

  const requestKinds: [what: string, matches: (request: GitRequest, nth: number) => boolean][] = [
    ["requests the server's capabilities", ({ method }) => method === "GET"],
    ["requests the branch", ({ method }, nth) => method === "POST" && nth === 1],
    ["fetches", ({ method }, nth) => method === "POST" && nth === 2],
  ];

  test.each(requestKinds)("git is killed while it %s", async (_what, matches) => {
    const { name, url } = await createRepository();
    const at = bench.checkoutCache();
    await (await bench.cloned({ url, branch: "main", ...at })).end();
    const tip = await git.commit(name, { file: "two" });
    let posts = 0;
    const held = git.hold((request) => {
      if (!request.path.includes(name)) return false;
      if (request.method === "POST") posts += 1;
      return matches(request, posts);
    });
    const cloning = bench.cloned({ url, branch: "main", ...at });
    await held.arrived;
    await killGitOf(at.workDir);
    held.release();
    const done = await cloning;
    await expectCommitAlone(done, tip);
    await done.end();
    const again = await bench.cloned({ url, branch: "main", ...at });
    await expectCommitAlone(again, tip);
  });
});

describe("concurrent runs", () => {
  test("have separate checkouts, each of the right commit", async () => {
    const { name, url } = await createRepository({ file: "one", big: BIG });
    const at = bench.checkoutCache();
    for (let round = 0; round < 3; round++) {
      const tip = await git.commit(name, { file: `of round ${round}` });
      const runs = await Promise.all(
        ["main", "main", "v1"].map((branch) => bench.cloned({ url, branch, ...at })),
      );
      expect(new Set(runs.map(({ workspace }) => workspace.checkout)).size).toBe(3);
      expect(runs.map(({ commit }) => commit).slice(0, 2)).toEqual([tip, tip]);
      for (const done of runs) await expectCommitAlone(done, done.commit);
      await Promise.all(runs.map((done) => done.end()));
      expect(await cachedCheckoutsIn(at.workDir)).toHaveLength(3);
    }
  });
});

describe("size of the cache", () => {
  test("the least recently used checkouts are evicted first, and never one in use", async () => {
    const [one, two, three] = [
      await createRepository({ big: BIG }),
      await createRepository({ big: BIG }),
      await createRepository({ big: BIG }),
    ] as const;
    // Each uses about 800 kB: the file, and the pack with it.
    const at = bench.checkoutCache(2_000_000);
    const job = (url: string) => ({ url, branch: "main", ...at });
    await (await bench.cloned(job(one.url))).end();
    await (await bench.cloned(job(two.url))).end();
    const inUse = await bench.cloned(job(one.url));
    await (await bench.cloned(job(three.url))).end();
    expect(await cachedCheckoutsIn(at.workDir)).toHaveLength(2);
    expect(await at.checkoutCache.sizeBytes()).toBeWithin(2 * BIG.length, 2_000_001);
    await inUse.end();
    expect(await cachedCheckoutsIn(at.workDir)).toHaveLength(2);
    const asked = two.requests().length;
    await bench.cloned(job(two.url));
    const sent = two.requests().slice(asked);
    expect(sent.reduce((sum, { sentBytes }) => sum + sentBytes, 0)).toBeGreaterThan(BIG.length);
  });

  test("is empty with a limit of 0, and for a checkout larger than the limit", async () => {
    const { url } = await createRepository({ big: BIG });
    for (const limitBytes of [0, 100_000]) {
      const at = bench.checkoutCache(limitBytes);
      await (await bench.cloned({ url, branch: "main", ...at })).end();
      expect(await cachedCheckoutsIn(at.workDir)).toEqual([]);
      expect(await at.checkoutCache.sizeBytes()).toBe(0);
    }
  });

  test("a starting worker removes partly removed checkouts, and those of an earlier boot or version", async () => {
    const { url } = await createRepository();
    const at = bench.checkoutCache();
    await (await bench.cloned({ url, branch: "main", ...at })).end();
    const root = join(at.workDir, "mirrors");
    await mkdir(join(root, "removing-1", ".git"), { recursive: true });
    await mkdir(join(root, "earlier-boot-2", "owner", "1-1-x"), { recursive: true });
    await mkdir(join(root, "boot", "owner", "1-1-of-an-earlier-version"), { recursive: true });
    await symlink("/nowhere", join(root, "removing-1", "link"));
    await at.checkoutCache.removeStale();
    expect(await readdir(root)).toEqual(["boot-3"]);
    await theCachedCheckout(at.workDir);
  });
});

describe("limits", () => {
  test("a repository whose packs are too large", async () => {
    const { url } = await createRepository({ big: crypto.getRandomValues(new Uint8Array(3_000_000)) });
    const failure = await bench.failureOf({ url, branch: "main", limits: { repositoryBytes: 1_000_000 } });
    expect(failure).toMatchObject({ code: "CLONE_FAILED", retryable: false });
    expect(failure.message).toContain("BLACKTREE_REPOSITORY_LIMIT is 1.0 MB");
  });

  test("a repository whose files are too large is not written", async () => {
    const { url } = await createRepository({ zeros: new Uint8Array(30_000_000) });
    const at = bench.checkoutCache();
    const run = await bench.resolved({ url, branch: "main", ...at, limits: { repositoryBytes: 1_000_000 } });
    await expect(run.source.checkOut()).rejects.toThrow(/needs more than \d+\.\d MB.*REPOSITORY_LIMIT/);
    expect(await Bun.file(join(run.workspace.checkout, "zeros")).exists()).toBe(false);
    await run.end();
    expect(await cachedCheckoutsIn(at.workDir)).toEqual([]);
  });

  test("a repository that exceeds the limit later", async () => {
    const { name, url } = await createRepository();
    const at = bench.checkoutCache();
    const job = { url, branch: "main", ...at, limits: { repositoryBytes: 500_000 } };
    await (await bench.cloned(job)).end();
    await git.commit(name, { big: crypto.getRandomValues(new Uint8Array(3_000_000)) });
    expect(await bench.failureOf(job)).toMatchObject({ code: "CLONE_FAILED", retryable: false });
  });

  test("a server that is too slow", async () => {
    const { name, url } = await createRepository();
    const held = git.hold(({ path }) => path.includes(name));
    const failure = await bench.failureOf({ url, branch: "main", limits: { timeoutMs: 500 } });
    held.release();
    expect(failure).toMatchObject({ code: "CLONE_FAILED", retryable: true });
    expect(failure.message).toContain("BLACKTREE_GIT_TIMEOUT");
  });

  test("a run that is aborted", async () => {
    const { name, url } = await createRepository();
    const abort = new AbortController();
    const held = git.hold(({ path }) => path.includes(name));
    const cloning = bench.cloned({ url, branch: "main", signal: abort.signal });
    await held.arrived;
    const reason = new Error("asked to end");
    abort.abort(reason);
    await expect(cloning).rejects.toBe(reason);
    held.release();
  });
});
