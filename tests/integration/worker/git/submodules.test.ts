import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { readdir, stat } from "node:fs/promises";
import { join } from "node:path";
import { inFullCheck } from "../../../support/machine/full-check.ts";
import { run } from "../../../support/machine/processes.ts";
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
const checkedOut = ({ workspace }: Cloned, file: string) => Bun.file(join(workspace.checkout, file)).text();
const declaration = (path: string, url: string, name = path) =>
  `[submodule "${name}"]\n\tpath = ${path}\n\turl = ${url}\n`;

/** Of a submodule next to its repository on the server; INNER stands for its name. */
const DECLARATION = declaration("sub", "../../INNER");

/** A repository with a submodule and this .gitmodules, in which INNER stands for the submodule's name. */
async function withSubmodule(
  gitmodules: string | Uint8Array,
  path = "sub",
  commit?: string,
): Promise<string> {
  const inner = repositoryName();
  const innerCommit = await git.createRepository(inner, { inner: "i" });
  const name = repositoryName();
  await git.createRepository(name, { file: "f" });
  const text = Buffer.from(gitmodules as string)
    .toString("latin1")
    .replaceAll("INNER", inner);
  const files = { ".gitmodules": Buffer.from(text, "latin1") };
  await git.commit(name, files, { gitlinks: { [path]: commit ?? innerCommit } });
  return name;
}

describe("submodules", () => {
  test("are checked out, also nested, with absolute and relative URLs", async () => {
    const deep = repositoryName();
    const deepCommit = await git.createRepository(deep, { deep: "d" });
    const middle = repositoryName();
    await git.createRepository(middle, { middle: "m" });
    const middleCommit = await git.commit(
      middle,
      { ".gitmodules": declaration("lib/deep", urlOf(deep)) },
      { gitlinks: { "lib/deep": deepCommit } },
    );
    // The submodule's branch has moved since.
    await git.commit(middle, { middle: "later" });
    const name = repositoryName();
    await git.createRepository(name, { file: "f" });
    const gitmodules = declaration("sub module", `../${middle.replace(/^acme\//, "")}`, "a name");
    const commit = await git.commit(
      name,
      { ".gitmodules": gitmodules },
      {
        gitlinks: { "sub module": middleCommit },
      },
    );
    const done = await bench.cloned({ url: urlOf(name), branch: "main" });
    expect(done.commit).toBe(commit);
    expect(await checkedOut(done, "sub module/middle")).toBe("m");
    expect(await checkedOut(done, "sub module/lib/deep/deep")).toBe("d");
    const status = await run(["git", "status", "--porcelain"], { cwd: done.workspace.checkout });
    expect(status.stdout).toBe("");
  });

  test("stay empty when they are not declared, or with update = none", async () => {
    const none = `${declaration("sub", `${git.baseUrl}/INNER`)}\tupdate = none\n`;
    for (const gitmodules of ["", none]) {
      const name = await withSubmodule(gitmodules);
      const done = await bench.cloned({ url: urlOf(name), branch: "main" });
      expect(await readdir(join(done.workspace.checkout, "sub"))).toEqual([]);
    }
  });

  test.each([
    ["a name with ..", "sub", "../../../hooks"],
    ["a path that begins with a dash", "-sub", "sub"],
  ])("stay empty when they are declared with %s, as with git", async (_, path, declaredName) => {
    const name = await withSubmodule(declaration(path, "../../INNER", declaredName), path);
    const done = await bench.cloned({ url: urlOf(name), branch: "main" });
    expect(await readdir(join(done.workspace.checkout, path))).toEqual([]);
  });

  const readable: readonly (readonly [kind: string, gitmodules: string | Uint8Array])[] = [
    ["a byte order mark", `\ufeff${DECLARATION}`],
    ["a carriage return at the end of each line", DECLARATION.replaceAll("\n", "\r\n")],
    ["the byte 0xff in a comment", Buffer.from(`# \xff\n${DECLARATION}`, "latin1")],
    ["a NUL in a comment", `# \0\n${DECLARATION}`],
    ["two names for one path, of which the last counts", `${declaration("sub", "/none", "a")}${DECLARATION}`],
  ];
  for (const [index, [kind, gitmodules]] of readable.entries())
    inFullCheck(index > 0).test(`are declared by a .gitmodules with ${kind}`, async () => {
      const done = await bench.cloned({ url: urlOf(await withSubmodule(gitmodules)), branch: "main" });
      expect(await checkedOut(done, "sub/inner")).toBe("i");
    });

  const unreadable: readonly (readonly [kind: string, gitmodules: string | Uint8Array, reason: string])[] = [
    ["a syntax error", `${DECLARATION}[oops\n`, "bad config line 4 in file .gitmodules"],
    ["UTF-16", Buffer.from(`\ufeff${DECLARATION}`, "utf16le"), "bad config line 1 in file .gitmodules"],
    ["a key without a value", '[submodule "sub"]\n\tpath\n', "submodule.sub.path has no value"],
  ];
  for (const [index, [kind, gitmodules, reason]] of unreadable.entries())
    inFullCheck(index > 0).test(`fail the clone when .gitmodules has ${kind}`, async () => {
      const failure = await bench.failureOf({ url: urlOf(await withSubmodule(gitmodules)), branch: "main" });
      expect(failure).toMatchObject({ code: "CLONE_FAILED", retryable: false });
      expect(failure.message).toStartWith("git cannot read the repository's .gitmodules: ");
      expect(failure.message).toContain(reason);
    });

  test("fail the clone when they are declared without a URL", async () => {
    const name = await withSubmodule('[submodule "sub"]\n\tpath = sub\n');
    expect(await bench.failureOf({ url: urlOf(name), branch: "main" })).toMatchObject({
      code: "UNSUPPORTED",
      retryable: false,
      message: "submodule sub: .gitmodules declares its path, but no url",
    });
  });

  test("are not declared in files of this machine that .gitmodules includes", async () => {
    const included = join(bench.dir.path, "included");
    const name = await withSubmodule(`[include]\n\tpath = ${included}\n`);
    await Bun.write(included, declaration("sub", urlOf(repositoryName())));
    const done = await bench.cloned({ url: urlOf(name), branch: "main" });
    expect(await readdir(join(done.workspace.checkout, "sub"))).toEqual([]);
  });

  test("only the repository itself gets the token", async () => {
    const token = "the token";
    const name = repositoryName();
    const first = await git.createRepository(name, { file: "f" }, { private: { token } });
    const other = repositoryName();
    const otherCommit = await git.createRepository(other, { other: "o" });
    const gitmodules = declaration("self", urlOf(name)) + declaration("other", urlOf(other));
    await git.commit(name, { ".gitmodules": gitmodules }, { gitlinks: { self: first, other: otherCommit } });
    const done = await bench.cloned({ url: urlOf(name), branch: "main", gitToken: token });
    expect(await checkedOut(done, "self/file")).toBe("f");
    const requests = git.requests.filter(({ path }) => path.includes(other));
    expect(requests.length).toBeGreaterThan(0);
    expect(requests.some(({ hadAuthorization }) => hadAuthorization)).toBe(false);
    const found = await run(["grep", "-rF", token, done.workspace.path], { mayFail: true });
    expect(found.stdout).toBe("");
  });

  test("a private submodule fails the clone, and the error names it", async () => {
    const other = repositoryName();
    const commit = await git.createRepository(other, { x: "x" }, { private: { token: "its own" } });
    const name = await withSubmodule(declaration("sub", urlOf(other)), "sub", commit);
    const failure = await bench.failureOf({ url: urlOf(name), branch: "main", gitToken: "t" });
    expect(failure).toMatchObject({ code: "GIT_AUTH", retryable: false });
    expect(failure.message).toStartWith("submodule sub: ");
  });

  test("count towards the size limit", async () => {
    const inner = repositoryName();
    const commit = await git.createRepository(inner, { zeros: new Uint8Array(20_000_000) });
    const name = await withSubmodule(declaration("sub", urlOf(inner)), "sub", commit);
    const failure = await bench.failureOf({
      url: urlOf(name),
      branch: "main",
      limits: { repositoryBytes: 1e6 },
    });
    expect(failure).toMatchObject({ code: "CLONE_FAILED", retryable: false });
    expect(failure.message).toContain("BLACKTREE_REPOSITORY_LIMIT");
  });
});

describe("submodules that are refused or harmless", () => {
  const URLS = [
    "file:///etc",
    "/etc",
    "ssh://git@127.0.0.1/x",
    "git@github.com:owner/name.git",
    "ext::sh -c touch% /tmp/x",
    "-u./payload",
    "--upload-pack=touch /tmp/x",
    "https://elsewhere.example/owner/name",
    "http://127.0.0.1:1/owner/name",
    "https://user:password@github.com/owner/name",
  ];
  test.each(URLS)("the URL %s", async (url) => {
    const before = git.requests.length;
    const name = await withSubmodule(declaration("sub", url));
    const failure = await bench.failureOf({ url: urlOf(name), branch: "main" });
    expect(failure).toMatchObject({ code: "UNSUPPORTED", retryable: false });
    expect(failure.message).toStartWith("submodule sub: ");
    expect(git.requests.slice(before).every(({ path }) => path.includes(name))).toBe(true);
  });

  test("a submodule's hook", async () => {
    const inner = repositoryName();
    const commit = await git.createRepository(inner, {
      "hooks/post-checkout": "#!/bin/sh\ntouch /tmp/ran\n",
    });
    const name = await withSubmodule(declaration("sub", urlOf(inner)), "sub", commit);
    const done = await bench.cloned({ url: urlOf(name), branch: "main" });
    expect(await checkedOut(done, "sub/hooks/post-checkout")).toContain("touch");
    expect(await readdir(done.workspace.path)).not.toContain("hooks");
    expect(await readdir(join(done.workspace.checkout, ".git"))).not.toContain("hooks");
  });

  test("endless nesting", async () => {
    const name = repositoryName();
    const first = await git.createRepository(name, { file: "f" });
    let commit = first;
    for (let depth = 0; depth < 12; depth++) {
      const files = { ".gitmodules": declaration("sub", urlOf(name)), file: String(depth) };
      commit = await git.commit(name, files, { gitlinks: { sub: commit } });
    }
    const failure = await bench.failureOf({ url: urlOf(name), branch: "main" });
    expect(failure).toMatchObject({ code: "UNSUPPORTED", retryable: false });
    expect(failure.message).toContain("nested");
  });
});

describe("Git LFS", () => {
  const content = crypto.getRandomValues(new Uint8Array(200_000));
  const attributes = "*.bin filter=lfs diff=lfs merge=lfs -text\n";

  async function withLfs(options: { token?: string; files?: Record<string, string | Uint8Array> } = {}) {
    const name = repositoryName();
    const files = {
      ".gitattributes": attributes,
      "data/large.bin": git.lfs.add(content),
      "bin/tool.bin": git.lfs.add(new Uint8Array([1, 2, 3])),
      'odd "name".bin': git.lfs.add(content),
      "plain.bin": "no pointer",
      ...options.files,
    };
    const { token } = options;
    await git.createRepository(name, files, token === undefined ? {} : { private: { token } });
    return { name, url: urlOf(name) };
  }

  test("files replace their pointers; the repository's own server gets the job's token", async () => {
    const { url } = await withLfs({ token: "the token" });
    const done = await bench.cloned({ url, branch: "main", gitToken: "the token" });
    const bytes = (path: string) => Bun.file(join(done.workspace.checkout, path)).bytes();
    expect(await bytes("data/large.bin")).toEqual(content);
    expect(await bytes('odd "name".bin')).toEqual(content);
    expect(await bytes("bin/tool.bin")).toEqual(new Uint8Array([1, 2, 3]));
    expect((await stat(join(done.workspace.checkout, "bin/tool.bin"))).mode & 0o111).toBe(0o111);
    expect(await checkedOut(done, "plain.bin")).toBe("no pointer");
    const found = await run(["grep", "-rF", "the token", done.workspace.path], { mayFail: true });
    expect(found.stdout).toBe("");
  });

  test("objects on a host that is not allowed are not fetched", async () => {
    const { url } = await withLfs();
    let asked = 0;
    const elsewhere = Bun.serve({
      hostname: "127.0.0.1",
      port: 0,
      fetch: () => {
        asked += 1;
        return new Response(content);
      },
    });
    git.lfs.objectsAt = `http://127.0.0.1:${elsewhere.port}`;
    try {
      const failure = await bench.failureOf({ url, branch: "main" });
      expect(failure).toMatchObject({ code: "CLONE_FAILED", retryable: false });
      expect(failure.message).toContain("BLACKTREE_GIT_ALLOWED_HOSTS");
      expect(asked).toBe(0);
    } finally {
      git.lfs.objectsAt = undefined;
      await elsewhere.stop(true);
    }
  });

  test("an endpoint from .lfsconfig does not get the token, and must be allowed", async () => {
    const { name } = await withLfs();
    const files = { ".lfsconfig": `[lfs]\n\turl = ${urlOf(name)}.git/info/lfs\n` };
    const { url } = await withLfs({ files, token: "the token" });
    const before = git.requests.length;
    await bench.cloned({ url, branch: "main", gitToken: "the token" });
    const there = git.requests.slice(before).filter(({ path }) => path.includes(name));
    expect(there.length).toBeGreaterThan(0);
    expect(there.some(({ hadAuthorization }) => hadAuthorization)).toBe(false);
    const abroad = await withLfs({
      files: { ".lfsconfig": "[lfs]\n\turl = https://elsewhere.example/lfs\n" },
    });
    expect(await bench.failureOf({ url: abroad.url, branch: "main" })).toMatchObject({
      code: "CLONE_FAILED",
    });
  });

  test("a file that LFS does not have fails the clone: its pointer is never built", async () => {
    const missing = `version https://git-lfs.github.com/spec/v1\noid sha256:${"0".repeat(64)}\nsize 5\n`;
    const { url } = await withLfs({ files: { "missing.bin": missing } });
    const failure = await bench.failureOf({ url, branch: "main" });
    expect(failure).toMatchObject({ code: "CLONE_FAILED", retryable: false });
    expect(failure.message).toContain("missing.bin");
  });

  test("files count towards the size limit before they are fetched", async () => {
    const { url } = await withLfs();
    const failure = await bench.failureOf({ url, branch: "main", limits: { repositoryBytes: 300_000 } });
    expect(failure.message).toContain("BLACKTREE_REPOSITORY_LIMIT");
  });
});

describe("redirects without a token", () => {
  test("are not followed to a host that is not allowed", async () => {
    const name = repositoryName();
    await git.createRepository(name, { file: "f" });
    let reached = 0;
    const elsewhere = Bun.serve({
      hostname: "127.0.0.1",
      port: 0,
      fetch: () => {
        reached += 1;
        return new Response(null, { status: 404 });
      },
    });
    const redirecting = Bun.serve({
      hostname: "127.0.0.1",
      port: 0,
      fetch: (request) => {
        const { pathname, search } = new URL(request.url);
        return Response.redirect(`http://127.0.0.1:${elsewhere.port}${pathname}${search}`, 302);
      },
    });
    try {
      const url = `http://127.0.0.1:${redirecting.port}/${name}`;
      const failure = await bench.failureOf({ url, branch: "main" });
      expect(failure).toMatchObject({ code: "CLONE_FAILED", retryable: false });
      expect(failure.message).toContain("redirects");
      expect(reached).toBe(0);
    } finally {
      await Promise.all([elsewhere.stop(true), redirecting.stop(true)]);
    }
  });
});
