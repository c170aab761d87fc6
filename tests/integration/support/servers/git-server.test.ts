import { afterAll, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import { join } from "node:path";
import { type Certificates, makeCertificates } from "../../../support/machine/certificates.ts";
import { run } from "../../../support/machine/processes.ts";
import { sampleRepository } from "../../../support/machine/sample-repository.ts";
import { makeTempDir, type TempDir } from "../../../support/machine/temp-dir.ts";
import { type GitServer, startGitServer } from "../../../support/servers/git-server.ts";

let server: GitServer;
let dir: TempDir;
let publicSha: string;
let count = 0;

const token = "ghp_secret";

beforeAll(async () => {
  dir = await makeTempDir("clones");
  server = await startGitServer();
  publicSha = await server.createRepository("acme/open", await sampleRepository(), { tags: ["v1"] });
  await server.createRepository("acme/closed", { "README.md": "closed\n" }, { private: { token } });
});
afterAll(async () => {
  await server.stop();
  await dir.remove();
});
beforeEach(() => {
  count += 1;
});

function clone(url: string, args: readonly string[] = [], env: Record<string, string> = {}) {
  const target = join(dir.path, String(count));
  const command = ["git", "clone", "--quiet", ...args, url, target];
  return run(command, {
    mayFail: true,
    env: { GIT_TERMINAL_PROMPT: "0", GIT_CONFIG_GLOBAL: "/dev/null", LC_ALL: "C", ...env },
  }).then((result) => ({ ...result, target }));
}

function withToken(url: string, given: string): string {
  return url.replace("://", `://x-access-token:${given}@`);
}

describe("an open repository", () => {
  test("is cloned by branch and by tag", async () => {
    for (const ref of ["main", "v1"]) {
      const { exitCode, target } = await clone(`${server.baseUrl}/acme/open`, [
        "--depth=1",
        `--branch=${ref}`,
      ]);
      expect(exitCode).toBe(0);
      const { stdout } = await run(["git", "rev-parse", "HEAD"], { cwd: target });
      expect(stdout.trim()).toBe(publicSha);
      await run(["test", "-x", join(target, "bin/busybox")]);
      await run(["rm", "-r", target]);
    }
  });

  test("accepts commits on its default branch and on others", async () => {
    const onMain = await server.commit("acme/open", { "second.txt": "2\n" });
    const onTopic = await server.commit("acme/open", { "topic.txt": "t\n" }, { branch: "topic" });
    const { target } = await clone(`${server.baseUrl}/acme/open.git`, ["--branch=topic"]);
    const { stdout } = await run(["git", "log", "--format=%H"], { cwd: target });
    expect(stdout.trim().split("\n")).toEqual([onTopic, onMain, publicSha]);
    await server.resetBranch("acme/open", "main", publicSha);
  });

  test("accepts symlinks, gitlinks, tags and removals with a commit, gitlinks for that commit alone", async () => {
    const name = "acme/changed";
    const gitlink = "1".repeat(40);
    await server.createRepository(name, { 'odd "name"': "o", "bin/tool": "one", "gone/file": "g" });
    await server.commit(
      name,
      { "bin/tool": "two" },
      {
        remove: ["gone/file"],
        symlinks: { "bin/link": "tool" },
        gitlinks: { "lib/sub": gitlink },
        tags: ["v1"],
        annotatedTags: ["v2"],
      },
    );
    await server.commit(name, { lib: "a file" }, { branch: "topic" });
    const { target } = await clone(`${server.baseUrl}/${name}`, ["--bare"]);
    const output = async (...args: string[]) => (await run(["git", ...args], { cwd: target })).stdout;
    const modesOf = async (branch: string) =>
      (await output("ls-tree", "-r", "-z", branch))
        .replaceAll(/ \w+ \w+\t/g, " ")
        .split("\0")
        .slice(0, -1);
    const shared = ["100755 bin/tool", '100644 odd "name"', "120000 bin/link"];
    expect((await modesOf("main")).toSorted()).toEqual([...shared, "160000 lib/sub"].toSorted());
    expect((await modesOf("topic")).toSorted()).toEqual([...shared, "100644 lib"].toSorted());
    expect(await output("show", "main:bin/tool")).toBe("two");
    expect(await output("show", "main:bin/link")).toBe("tool");
    expect(await output("ls-tree", "main", "lib/sub")).toContain(gitlink);
    expect(await output("cat-file", "-t", "v1")).toBe("commit\n");
    expect(await output("cat-file", "-t", "v2")).toBe("tag\n");
    await expect(server.commit(name, {}, { remove: ["gone/file"] })).rejects.toThrow("gone/file");
  });

  test("sends a commit outside all branches by its SHA, and omits what a filter excludes", async () => {
    const name = "acme/reset";
    const first = await server.createRepository(name, { file: "one" });
    const cutOff = await server.commit(name, { file: "two" });
    await server.resetBranch(name, "main", first);
    const { target } = await clone(`${server.baseUrl}/${name}`, ["--bare"]);
    const output = async (...args: string[]) => (await run(["git", ...args], { cwd: target })).stdout.trim();
    await output("fetch", "--quiet", "--depth=1", "--filter=tree:0", "origin", cutOff);
    expect(await output("log", "--format=%H", "FETCH_HEAD")).toBe(cutOff);
    const listed = await output("rev-list", "--objects", "--missing=print", "FETCH_HEAD");
    expect(listed.split("\n")).toEqual([cutOff, expect.stringMatching(/^\?/)]);
  });

  test("is not found when it does not exist", async () => {
    const { exitCode, stderr } = await clone(`${server.baseUrl}/acme/none`);
    expect(exitCode).toBe(128);
    expect(stderr).toContain("not found");
  });

  test("cannot be cloned while the server fails", async () => {
    server.failNext(1, 503);
    const { exitCode, stderr } = await clone(`${server.baseUrl}/acme/open`);
    expect(exitCode).toBe(128);
    expect(stderr).toContain("503");
  });

  test("is cloned after a held request is released", async () => {
    const held = server.hold();
    const cloning = clone(`${server.baseUrl}/acme/open`);
    expect((await held.arrived).path).toContain("/acme/open/info/refs");
    held.release();
    expect((await cloning).exitCode).toBe(0);
  });
});

describe("a private repository", () => {
  test("is cloned with its token", async () => {
    const { exitCode } = await clone(withToken(`${server.baseUrl}/acme/closed`, token));
    expect(exitCode).toBe(0);
    expect(server.requests.at(-1)).toMatchObject({ hadAuthorization: true, status: 200 });
  });

  test("is refused without one, and with a wrong one", async () => {
    expect((await clone(`${server.baseUrl}/acme/closed`)).stderr).toContain("could not read Username");
    const { stderr } = await clone(withToken(`${server.baseUrl}/acme/closed`, "wrong"));
    expect(stderr).toContain("Authentication failed");
  });
});

describe("a client that", () => {
  test("sends another user name than the repository's is refused", async () => {
    await server.createRepository("acme/named", { a: "a" }, { private: { token, user: "deploy" } });
    const url = withToken(`${server.baseUrl}/acme/named`, token);
    expect((await clone(url)).exitCode).toBe(128);
    expect((await clone(url.replace("x-access-token", "deploy"))).exitCode).toBe(0);
    expect(server.requests.at(-1)).toMatchObject({ user: "deploy" });
  });

  test("sends an intercepted request gets the test's own answer", async () => {
    const stop = server.intercept(({ path }) =>
      path.includes("/acme/open/") ? new Response("mine") : undefined,
    );
    const answer = await fetch(`${server.baseUrl}/acme/open/info/refs`);
    expect(await answer.text()).toBe("mine");
    stop();
    expect((await clone(`${server.baseUrl}/acme/open`)).exitCode).toBe(0);
  });

  test("fetches a pack gets empty packets before it", async () => {
    let pauses = 0;
    server.keepAlive(3, async () => {
      pauses += 1;
    });
    const { exitCode } = await clone(`${server.baseUrl}/acme/open`);
    server.keepAlive(0, async () => {});
    expect(exitCode).toBe(0);
    expect(pauses).toBe(3);
  });
});

describe("with TLS", () => {
  let certificates: Certificates;
  let secure: GitServer;

  beforeAll(async () => {
    certificates = await makeCertificates(dir.path);
    secure = await startGitServer({ tls: certificates.server });
    await secure.createRepository("acme/open", { "README.md": "open\n" });
  });
  afterAll(() => secure.stop());

  test("a client that trusts the authority clones", async () => {
    const env = { GIT_SSL_CAINFO: certificates.caPath };
    expect((await clone(`${secure.baseUrl}/acme/open`, [], env)).exitCode).toBe(0);
  });

  test("a client that trusts another authority fails", async () => {
    const env = { GIT_SSL_CAINFO: certificates.foreign.caPath };
    expect((await clone(`${secure.baseUrl}/acme/open`, [], env)).stderr).toContain("certificate");
  });
});
