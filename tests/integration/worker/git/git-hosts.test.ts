/** How git hosts answer, fail and hang, and which of them get the job's token. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { join } from "node:path";
import { freePort } from "../../../support/machine/free-port.ts";
import { inFullCheck } from "../../../support/machine/full-check.ts";
import { run } from "../../../support/machine/processes.ts";
import { type GitServer, startGitServer } from "../../../support/servers/git-server.ts";
import { type CloneBench, repositoryName, startCloneBench, type Wanted } from "./clone-bench.ts";

let bench: CloneBench;
let git: GitServer;

beforeAll(async () => {
  bench = await startCloneBench();
  ({ git } = bench);
});
afterAll(() => bench.stop());

const urlOf = (name: string) => `${git.baseUrl}/${name}`;
const isOfRefs = ({ path }: { path: string }) => path.endsWith("/info/refs?service=git-upload-pack");

/** Requests of the job that asked for the refs: one for each attempt. */
async function attemptsOf<T>(work: () => Promise<T>): Promise<{ result: T; attempts: number }> {
  const before = git.requests.length;
  const result = await work();
  return { result, attempts: git.requests.slice(before).filter(isOfRefs).length };
}

/** Fails as if every request for this repository were answered like this. */
async function failureWith(answer: () => Response, wanted: Partial<Wanted> = {}) {
  const name = repositoryName();
  await git.createRepository(name, { file: "f" });
  const stop = git.intercept(({ path }) => (path.includes(name) ? answer() : undefined));
  try {
    const { result, attempts } = await attemptsOf(() =>
      bench.failureOf({ url: urlOf(name), branch: "main", ...wanted }),
    );
    return { failure: result, attempts };
  } finally {
    stop();
  }
}

const page = (body: string | Uint8Array<ArrayBuffer>, type: string, headers = {}) =>
  new Response(body, { headers: { "Content-Type": type, ...headers } });
const HTML = "<!doctype html><html><body>Log in</body></html>";
const REFS = "application/x-git-upload-pack-advertisement";

describe("an answer that will be the same again is not asked for twice", () => {
  type Case = readonly [what: string, () => Response, code: string, named: string, isDefault?: boolean];
  const gone = (status: number, headers = {}) => new Response("x", { status, headers });
  const CASES: readonly Case[] = [
    [
      "a login page",
      () => page(HTML, "text/html; charset=utf-8"),
      "CLONE_FAILED",
      "a web page, not git",
      true,
    ],
    ["a compressed web page", () => compressedPage(), "CLONE_FAILED", "a web page, not git"],
    ["a web page with git's content type", () => page(HTML, REFS), "CLONE_FAILED", "a web page, not git"],
    ["JSON", () => Response.json({}), "CLONE_FAILED", "application/json, not git"],
    ["nothing, without a content type", () => new Response(""), "CLONE_FAILED", "not git"],
    [
      "the dumb protocol",
      () => page(`${"1".repeat(40)}\trefs/heads/main\n`, "text/plain"),
      "CLONE_FAILED",
      "dumb",
    ],
    ["410", () => gone(410), "REPO_NOT_FOUND", "does not exist", true],
    ["404 with Retry-After", () => gone(404, { "Retry-After": "1" }), "REPO_NOT_FOUND", "does not exist"],
    ["451", () => gone(451), "REPO_NOT_FOUND", "does not exist"],
    ["401", () => gone(401), "GIT_AUTH", "no git_token"],
    ["403", () => gone(403), "GIT_AUTH", "denies access"],
    [
      "403 with an invalid Retry-After",
      () => gone(403, { "Retry-After": "-3" }),
      "GIT_AUTH",
      "denies access",
    ],
    ["400", () => gone(400), "CLONE_FAILED", "HTTP 400"],
    ["407", () => gone(407), "CLONE_FAILED", "proxy"],
    ["501", () => gone(501), "CLONE_FAILED", "HTTP 501"],
    ["a redirect without a target", () => gone(302), "CLONE_FAILED", "redirects"],
  ];
  for (const [what, answer, code, named, isDefault = false] of CASES)
    inFullCheck(!isDefault).test(what, async () => {
      const { failure, attempts } = await failureWith(answer);
      expect(failure).toMatchObject({ code, retryable: false });
      expect(failure.message).toContain(named);
      expect(failure.message).toContain(git.host);
      expect(attempts).toBe(1);
    });

  inFullCheck().test("also with a cached checkout", async () => {
    const name = repositoryName();
    await git.createRepository(name, { file: "f" });
    const wanted = { url: urlOf(name), branch: "main", ...bench.checkoutCache() };
    await (await bench.cloned(wanted)).end();
    for (const answer of [() => gone(410), () => page(HTML, "text/html")]) {
      const stop = git.intercept(({ path }) => (path.includes(name) ? answer() : undefined));
      const { result, attempts } = await attemptsOf(() => bench.failureOf(wanted)).finally(stop);
      expect(result.retryable).toBe(false);
      expect(attempts).toBe(1);
    }
  });

  test("also for a submodule", async () => {
    const sub = repositoryName();
    const commit = await git.createRepository(sub, { s: "s" });
    const name = await withSubmodule(urlOf(sub), commit);
    const stop = git.intercept(({ path }) => (path.includes(sub) ? gone(410) : undefined));
    const before = git.requests.length;
    const failure = await bench.failureOf({ url: urlOf(name), branch: "main" }).finally(stop);
    expect(failure).toMatchObject({ code: "REPO_NOT_FOUND", retryable: false });
    expect(git.requests.slice(before).filter(({ path }) => path.includes(sub))).toHaveLength(1);
  });
});

function compressedPage(): Response {
  return page(Bun.gzipSync(Buffer.from(HTML)), "text/html", { "Content-Encoding": "gzip" });
}

describe("an answer that may be another one later is asked for again", () => {
  const cut = () => page("001e# service=git-upload-pack\n0000000eversion 2\n", REFS);
  const CASES: readonly (readonly [string, () => Response])[] = [
    ["500", () => new Response("x", { status: 500 })],
    ["a maintenance page with 503", () => new Response(HTML, { status: 503 })],
    ["408", () => new Response("x", { status: 408 })],
    ["429 without Retry-After", () => new Response("x", { status: 429 })],
    ["refs that are cut off", cut],
    ["refs that are empty", () => page("", REFS)],
  ];
  for (const [index, [what, answer]] of CASES.entries())
    inFullCheck(index > 0).test(what, async () => {
      const { failure, attempts } = await failureWith(answer);
      expect(failure).toMatchObject({ code: "CLONE_FAILED", retryable: true });
      expect(attempts).toBe(2);
    });
});

describe("Retry-After", () => {
  for (const status of [429, 403, 503])
    inFullCheck(status !== 429).test(`of ${status} is waited for`, async () => {
      const name = repositoryName();
      await git.createRepository(name, { file: "f" });
      git.failNext(1, status, { "Retry-After": "1" });
      const startMs = performance.now();
      const { lines } = await bench.cloned({ url: urlOf(name), branch: "main" });
      expect(performance.now() - startMs).toBeGreaterThanOrEqual(1000);
      expect(lines).toContain(
        `${urlOf(name)} limits requests (HTTP ${status}) and asks to wait 1 s; trying again in 1 s (the server limits requests)`,
      );
    });

  const throttled = (value: string) => () =>
    new Response("x", { status: 429, headers: { "Retry-After": value } });

  test("that is longer than the time left fails at once", async () => {
    const { failure, attempts } = await failureWith(throttled("3600"));
    expect(failure).toMatchObject({ code: "CLONE_FAILED", retryable: true });
    expect(failure.message).toContain("asks to wait 3600 s, but this attempt has only");
    expect(attempts).toBe(1);
  });

  inFullCheck().test("that is longer than the run's time left fails at once", async () => {
    const wanted = { deadlineMs: performance.now() + 30_000 };
    const { failure, attempts } = await failureWith(throttled("60"), wanted);
    expect(failure.message).toContain("asks to wait 60 s, but this attempt has only");
    expect(attempts).toBe(1);
  });

  inFullCheck().test("is waited for before the pack", async () => {
    const name = repositoryName();
    await git.createRepository(name, { file: "f" });
    let left = 1;
    const stop = git.intercept(({ path }) =>
      path.endsWith("/git-upload-pack") && left-- > 0 ? throttled("1")() : undefined,
    );
    const { lines } = await bench.cloned({ url: urlOf(name), branch: "main" }).finally(stop);
    expect(lines.filter((line) => line.includes("asks to wait 1 s; trying again"))).toHaveLength(1);
  });

  inFullCheck().test("of a date in the past adds no delay", async () => {
    const { failure, attempts } = await failureWith(throttled("Thu, 01 Jan 1970 00:00:00 GMT"));
    expect(failure).toMatchObject({ code: "CLONE_FAILED", retryable: true });
    expect(attempts).toBe(2);
  });

  inFullCheck().test("is waited for with a cached checkout and for a submodule", async () => {
    const sub = repositoryName();
    const commit = await git.createRepository(sub, { s: "s" });
    const name = await withSubmodule(urlOf(sub), commit);
    const wanted = { url: urlOf(name), branch: "main", ...bench.checkoutCache() };
    for (const limited of [name, sub]) {
      let left = 1;
      const stop = git.intercept(({ path }) =>
        path.includes(limited) && left-- > 0 ? throttled("1")() : undefined,
      );
      const done = await bench.cloned(wanted).finally(stop);
      expect(done.lines.filter((line) => line.includes("asks to wait 1 s; trying again"))).toHaveLength(1);
      await done.end();
    }
  });
});

describe("a silent server", () => {
  const IN_PACK = ({ path }: { path: string }) => path.endsWith("/git-upload-pack");
  for (const [where, matches] of [
    ["before the refs", isOfRefs],
    ["before the pack", IN_PACK],
  ] as const)
    inFullCheck(where !== "before the refs").test(`${where} is ended and tried again`, async () => {
      const name = repositoryName();
      await git.createRepository(name, { file: "f" });
      const held = git.hold((request) => request.path.includes(name) && matches(request));
      const lines: string[] = [];
      const wanted = { url: urlOf(name), branch: "main", limits: { silenceTimeoutMs: 1000 } };
      const failure = await bench
        .failureOf({ ...wanted, onLine: (line) => lines.push(line) })
        .finally(() => held.release());
      expect(failure).toMatchObject({ code: "CLONE_FAILED", retryable: true });
      const message = `${urlOf(name)} sent nothing for 1 s (BLACKTREE_GIT_SILENCE_TIMEOUT)`;
      expect(failure.message).toBe(message);
      // Not the requests: git that gets no processor for a second is ended before it has sent one.
      expect(lines.filter((line) => line.includes("trying again"))).toEqual([
        expect.stringContaining(`${message}; trying again`),
      ]);
    });

  inFullCheck().test("is ended with a cached checkout, and for a submodule", async () => {
    const sub = repositoryName();
    const commit = await git.createRepository(sub, { s: "s" });
    const name = await withSubmodule(urlOf(sub), commit);
    const wanted = { url: urlOf(name), branch: "main", ...bench.checkoutCache() };
    await (await bench.cloned(wanted)).end();
    const limits = { silenceTimeoutMs: 1000 };
    for (const silent of [name, sub]) {
      const held = git.hold(({ path }) => path.includes(silent));
      const failure = await bench.failureOf({ ...wanted, limits }).finally(() => held.release());
      expect(failure).toMatchObject({ code: "CLONE_FAILED", retryable: true });
      expect(failure.message).toEndWith(
        `${urlOf(silent)} sent nothing for 1 s (BLACKTREE_GIT_SILENCE_TIMEOUT)`,
      );
    }
  });

  inFullCheck().test("in the middle of a pack is ended", async () => {
    const name = repositoryName();
    await git.createRepository(name, { file: "f" });
    git.keepAlive(1, () => new Promise(() => {}));
    const limits = { silenceTimeoutMs: 1000 };
    const failure = await bench
      .failureOf({ url: urlOf(name), branch: "main", limits })
      .finally(() => git.keepAlive(0, async () => {}));
    expect(failure.message).toContain("BLACKTREE_GIT_SILENCE_TIMEOUT");
  });

  inFullCheck().test("that keeps the connection alive with empty packets is waited for", async () => {
    const name = repositoryName();
    await git.createRepository(name, { file: "f" });
    git.keepAlive(24, () => Bun.sleep(500));
    const limits = { silenceTimeoutMs: 6000 };
    const { lines } = await bench
      .cloned({ url: urlOf(name), branch: "main", limits })
      .finally(() => git.keepAlive(0, async () => {}));
    expect(lines.some((line) => line.includes("trying again"))).toBe(false);
  });
});

describe("redirects", () => {
  /** Redirects every request for `name` to the same request at another base URL or name. */
  const redirecting = (name: string, target: (path: string) => string) =>
    git.intercept(({ path }) =>
      path.includes(`/${name}/`) ? Response.redirect(target(path), 301) : undefined,
    );

  test("in a circle end", async () => {
    const name = repositoryName();
    const stop = redirecting(
      name,
      (path) => `${git.baseUrl}${path.replace(name, `${name}/`).replace("//", "/")}`,
    );
    const { result, attempts } = await attemptsOf(() =>
      bench.failureOf({ url: urlOf(name), branch: "main" }),
    ).finally(stop);
    expect(result).toMatchObject({ code: "CLONE_FAILED", retryable: false });
    expect(result.message).toContain("redirects");
    expect(attempts).toBeLessThan(10);
  });

  test("with a token are followed to the same repository's .git URL only", async () => {
    const [name, other] = [repositoryName(), repositoryName()];
    const token = "the token";
    for (const each of [name, other]) await git.createRepository(each, { file: "f" }, { private: { token } });
    const wanted = { url: urlOf(name), branch: "main", gitToken: token };
    const stopSuffix = redirecting(name, (path) => `${git.baseUrl}${path.replace(name, `${name}.git`)}`);
    expect((await bench.cloned(wanted).finally(stopSuffix)).commit).toMatch(/^[0-9a-f]{40}$/);
    const before = git.requests.length;
    const stopOther = redirecting(name, (path) => `${git.baseUrl}${path.replace(name, other)}`);
    for (const tokenScope of ["repository", "owner"] as const) {
      const failure = await bench.failureOf({ ...wanted, credentials: { tokenScope } });
      expect(failure).toMatchObject({ code: "CLONE_FAILED", retryable: false });
      expect(failure.message).toContain(`redirects to ${urlOf(other)}`);
    }
    stopOther();
    expect(git.requests.slice(before).some(({ path }) => path.includes(other))).toBe(false);
  });
});

describe("the connection", () => {
  test("to a server whose certificate is not trusted is tried once", async () => {
    const tls = { keyPath: join(bench.dir.path, "tls.key"), certPath: join(bench.dir.path, "tls.crt") };
    const key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
    const files = ["-keyout", tls.keyPath, "-out", tls.certPath];
    await run(["openssl", "req", "-x509", ...key, "-days", "2", "-subj", "/CN=untrusted", ...files]);
    const secure = await startGitServer({ tls });
    try {
      const url = `${secure.baseUrl}/acme/app`;
      const failure = await bench.failureOf({ url, branch: "main", baseUrl: secure.baseUrl });
      expect(failure).toMatchObject({ code: "CLONE_FAILED", retryable: false });
      expect(failure.message).toStartWith(`the TLS certificate of ${secure.host} is not valid: `);
      expect(failure.message).not.toContain("/etc/");
    } finally {
      await secure.stop();
    }
  });

  inFullCheck().test("to a server without TLS", async () => {
    const url = `https://${git.host}/acme/app`;
    const failure = await bench.failureOf({ url, branch: "main", allowedHosts: [git.host] });
    expect(failure).toMatchObject({ code: "CLONE_FAILED", retryable: false });
    expect(failure.message).toContain("does not use TLS");
  });

  inFullCheck().test("that is refused may succeed later", async () => {
    const url = `http://127.0.0.1:${await freePort()}/acme/app`;
    expect(await bench.failureOf({ url, branch: "main" })).toMatchObject({
      code: "CLONE_FAILED",
      retryable: true,
    });
  });
});

describe("the user name beside the token", () => {
  test("is that of the host's setting, also for Git LFS", async () => {
    const name = repositoryName();
    const login = { token: "the token", user: "deploy-user" };
    const content = Buffer.from("large");
    const files = { ".gitattributes": "*.bin filter=lfs\n", "f.bin": git.lfs.add(content) };
    await git.createRepository(name, files, { private: login });
    const wanted = { url: urlOf(name), branch: "main", gitToken: login.token };
    const failure = await bench.failureOf(wanted);
    expect(failure).toMatchObject({ code: "GIT_AUTH", retryable: false });
    expect(failure.message).toContain("'x-access-token'");
    expect(failure.message).toContain("BLACKTREE_GIT_USER");
    const credentials = { users: { [git.host]: login.user } };
    const { workspace } = await bench.cloned({ ...wanted, credentials });
    expect(await Bun.file(join(workspace.checkout, "f.bin")).text()).toBe("large");
  });
});

/** A repository with a submodule at `sub`. */
async function withSubmodule(url: string, commit: string, token?: string, owner = "acme"): Promise<string> {
  const name = `${owner}/${crypto.randomUUID()}`;
  await git.createRepository(name, { file: "f" }, token === undefined ? {} : { private: { token } });
  const gitmodules = `[submodule "sub"]\n\tpath = sub\n\turl = ${url}\n`;
  await git.commit(name, { ".gitmodules": gitmodules }, { gitlinks: { sub: commit } });
  return name;
}

describe("a private submodule of the same owner", () => {
  const token = "the token";

  test("is cloned with BLACKTREE_GIT_TOKEN_SCOPE=owner; else the failure says what the token is used for", async () => {
    const sub = repositoryName();
    const commit = await git.createRepository(sub, { s: "s" }, { private: { token } });
    for (const submoduleUrl of [urlOf(sub), `../${sub.replace("acme/", "")}`]) {
      const name = await withSubmodule(submoduleUrl, commit, token);
      const wanted = { url: urlOf(name), branch: "main", gitToken: token };
      const failure = await bench.failureOf(wanted);
      expect(failure).toMatchObject({ code: "GIT_AUTH", retryable: false });
      expect(failure.message).toContain(`the git_token is only used for ${urlOf(name)}`);
      expect(failure.message).not.toContain("no git_token");
      const done = await bench.cloned({ ...wanted, credentials: { tokenScope: "owner" } });
      expect(await Bun.file(join(done.workspace.checkout, "sub", "s")).text()).toBe("s");
    }
  });

  /** URLs of submodules of a repository of `acme`, in which BASE stands for the server's URL. */
  const FOREIGN = [
    "BASE/acme2/app",
    "BASE/Acme/app",
    "BASE/acme/../other/app",
    "BASE/acme/%2e%2e/other/app",
    "BASE/acme%2f..%2fother/app",
    "BASE/acme/..%2fother/app",
    "BASE/acme/%2e%2e%2fother/app",
    "BASE/acme/..%5cother/app",
    "BASE/acme//app",
    "BASE//acme/app",
    "BASE/acme;x/app",
    "BASE/acme/",
    "../../other/app",
    "../../acme2/app",
  ];
  for (const [index, url] of FOREIGN.entries())
    inFullCheck(index > 0).test(`is not ${url}`, async () => {
      const name = await withSubmodule(url.replace("BASE", git.baseUrl), "1".repeat(40), token);
      const before = git.requests.length;
      const wanted = { url: urlOf(name), branch: "main", gitToken: token };
      const failure = await bench.failureOf({ ...wanted, credentials: { tokenScope: "owner" } });
      expect(failure.message).toStartWith("submodule sub: ");
      const others = git.requests.slice(before).filter(({ path }) => !path.includes(name));
      expect(others.length).toBeGreaterThan(0);
      expect(others.some(({ hadAuthorization }) => hadAuthorization)).toBe(false);
    });

  test("is not on another host or port", async () => {
    const other = await startGitServer();
    try {
      const commit = await other.createRepository("acme/app", { s: "s" });
      const name = await withSubmodule(`${other.baseUrl}/acme/app`, commit, token);
      // Http is allowed only for the base URL, so it is the other server's.
      const wanted = { url: urlOf(name), branch: "main", gitToken: token, baseUrl: other.baseUrl };
      await bench.cloned({ ...wanted, credentials: { tokenScope: "owner" } });
      expect(other.requests.length).toBeGreaterThan(0);
      expect(other.requests.some(({ hadAuthorization }) => hadAuthorization)).toBe(false);
    } finally {
      await other.stop();
    }
  });
});
