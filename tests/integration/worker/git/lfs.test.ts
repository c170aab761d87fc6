/** Git LFS as git-lfs has it. Its pointers are in unit/worker/git/lfs-pointer, hosts and the token in submodules.test. */
import { afterAll, afterEach, beforeAll, describe, expect, test } from "bun:test";
import { lstat, readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { makeCertificates } from "../../../support/machine/certificates.ts";
import { inFullCheck } from "../../../support/machine/full-check.ts";
import { run } from "../../../support/machine/processes.ts";
import type { CommitOptions, GitServer } from "../../../support/servers/git-server.ts";
import type { LfsCall, OfferedObject } from "../../../support/servers/lfs-endpoint.ts";
import { type CloneBench, type Cloned, repositoryName, startCloneBench, type Wanted } from "./clone-bench.ts";

let bench: CloneBench;
let git: GitServer;

beforeAll(async () => {
  bench = await startCloneBench();
  ({ git } = bench);
});
afterEach(() => {
  git.lfs.override = undefined;
});
afterAll(() => bench.stop());

const ATTRIBUTES = "*.bin filter=lfs diff=lfs merge=lfs -text\n";

type Files = Record<string, string | Uint8Array>;

async function repository(files: Files, options: CommitOptions = {}, token?: string) {
  const name = repositoryName();
  const access = token === undefined ? {} : { private: { token } };
  await git.createRepository(name, { ".gitattributes": ATTRIBUTES }, access);
  await git.commit(name, files, options);
  return { name, url: `${git.baseUrl}/${name}`, branch: "main", gitToken: token };
}

const contentOf = async ({ workspace }: Cloned, path: string) =>
  new Uint8Array(await readFile(join(workspace.checkout, path)));
const textOf = async (done: Cloned, path: string) => Buffer.from(await contentOf(done, path)).toString();

/** The calls of the LFS server during a clone. */
async function watched(wanted: Wanted, answer?: (call: LfsCall) => Response | Promise<Response>) {
  const calls: LfsCall[] = [];
  git.lfs.override = (call) => {
    calls.push(call);
    return answer?.(call) ?? call.answer();
  };
  const end = await bench.cloned(wanted).then(
    (done) => ({ done }),
    (error: unknown) => ({ error }),
  );
  const done = () => {
    if ("error" in end) throw end.error;
    return end.done;
  };
  const failure = () => {
    if ("done" in end || !(end.error instanceof Error) || !("failure" in end.error))
      throw new Error("the clone did not fail with a StepFailure", { cause: "error" in end && end.error });
    return end.error.failure as { code: string; message: string; retryable: boolean };
  };
  const batches = calls.filter(({ oid }) => oid === undefined);
  return { calls, batches, downloads: calls.filter(({ oid }) => oid !== undefined), done, failure };
}

const numbered = (count: number) => Array.from({ length: count }, (_, number) => `content ${number}`);
const filesOf = (contents: readonly string[]): Files =>
  Object.fromEntries(contents.map((content, index) => [`${index}.bin`, git.lfs.add(Buffer.from(content))]));

/** Changes the objects of the store's answer to a request for links. */
async function offering(call: LfsCall, change: (object: OfferedObject, index: number) => object) {
  if (call.oid !== undefined) return call.answer();
  const { objects } = (await call.answer().json()) as { objects: OfferedObject[] };
  return Response.json({ objects: objects.map(change) });
}

/** The links of the n-th request end with `?link=n`. */
function withNumberedLinks(call: LfsCall, number: number) {
  return offering(call, (object) => {
    const href = `${object.actions?.download.href}?link=${number}`;
    return { ...object, actions: { download: { href } } };
  });
}

const linkOf = ({ request }: LfsCall) => Number(new URL(request.url).searchParams.get("link"));

describe("the files that git assigns to LFS", () => {
  test("are replaced when git-lfs takes them for pointers, and reported when it does not", async () => {
    const pointer = git.lfs.add(Buffer.from("stored"));
    const files = {
      "plain.bin": pointer,
      "windows.bin": pointer.replaceAll("\n", "\r\n"),
      "old.bin": pointer.replace("git-lfs.github.com", "hawser.github.com"),
      "unfinished.bin": pointer.trimEnd(),
      "empty.bin": pointer.replace(/size \d+/, "size 0"),
      "no bytes.bin": "",
      "text.bin": "a text\n",
      "bom.bin": `\ufeff${pointer}`,
      "large.bin": new Uint8Array(5000),
      "other.dat": pointer,
      ".gitattributes": `${ATTRIBUTES}[attr]stored filter=lfs\n*.stored stored\nkept.bin -filter\nunset.bin !filter\n`,
      "macro.stored": pointer,
      "kept.bin": pointer,
      "unset.bin": pointer,
      "sub/.gitattributes": "*.inner filter=lfs\r\n",
      "sub/one.inner": pointer,
      "one.inner": pointer,
      "sub/converted.txt": pointer,
      "sub/deep/.gitattributes": "converted.txt filter=lfs text eol=crlf\n",
      "sub/deep/converted.txt": pointer,
    };
    const wanted = await repository(files, { symlinks: { "link.bin": "plain.bin" } });
    const done = await bench.cloned(wanted);
    const stored = ["plain.bin", "windows.bin", "old.bin", "unfinished.bin", "macro.stored", "sub/one.inner"];
    for (const path of [...stored, "sub/deep/converted.txt"])
      expect([path, await textOf(done, path)]).toEqual([path, "stored"]);
    for (const path of ["empty.bin", "no bytes.bin"]) expect(await textOf(done, path)).toBe("");
    for (const path of ["other.dat", "kept.bin", "unset.bin", "one.inner", "sub/converted.txt"])
      expect([path, await textOf(done, path)]).toEqual([path, pointer]);
    for (const path of ["text.bin", "bom.bin"])
      expect(await textOf(done, path)).toBe(files[path as "text.bin"]);
    expect((await lstat(join(done.workspace.checkout, "link.bin"))).isSymbolicLink()).toBe(true);
    const warnings = done.lines.filter((line) => line.startsWith("WARNING"));
    expect(warnings).toEqual([
      "WARNING: 3 files are not Git LFS pointers although .gitattributes says filter=lfs; built as committed: bom.bin, large.bin, text.bin",
    ]);
  });

  test("are reported again when the cached checkout needs no change", async () => {
    const wanted = { ...(await repository({ "text.bin": "a text" })), ...bench.checkoutCache() };
    for (let run = 0; run < 2; run++) {
      const done = await bench.cloned(wanted);
      expect(done.lines.filter((line) => line.startsWith("WARNING"))).toHaveLength(1);
      await done.end();
    }
  });

  test("fail the job when they need an extension of git-lfs", async () => {
    const pointer = git.lfs
      .add(Buffer.from("stored"))
      .replace("oid", `ext-0-case sha256:${"0".repeat(64)}\noid`);
    const { failure, calls } = await watched(await repository({ "one.bin": pointer }));
    expect(failure()).toMatchObject({
      code: "UNSUPPORTED",
      retryable: false,
      message: "one.bin uses the Git LFS extension case; extensions are not supported",
    });
    expect(calls).toHaveLength(0);
  });
});

describe("the settings of .lfsconfig", () => {
  test("exclude files, which stay pointers; the log has their number", async () => {
    const pointer = git.lfs.add(Buffer.from("stored"));
    const wanted = await repository({
      ".lfsconfig": "\ufeff[lfs]\r\n\tfetchinclude = data, *.bin\r\n\tfetchexclude = /data/raw/,caf\xe9*\r\n",
      "one.bin": pointer,
      "data/two.bin": pointer,
      "data/raw/three.bin": pointer,
      "data/raw/empty.bin": pointer.replace(/size \d+/, "size 0"),
      "café.bin": pointer,
    });
    const { done, batches } = await watched(wanted);
    for (const path of ["one.bin", "data/two.bin"]) expect(await textOf(done(), path)).toBe("stored");
    for (const path of ["data/raw/three.bin", "café.bin"]) expect(await textOf(done(), path)).toBe(pointer);
    expect(await textOf(done(), "data/raw/empty.bin")).toBe("");
    expect(batches).toHaveLength(1);
    expect(done().lines).toContain(
      "2 files stay Git LFS pointers: .lfsconfig excludes them (lfs.fetchinclude, lfs.fetchexclude)",
    );
  });

  const UNREADABLE: [what: string, content: string | Uint8Array][] = [
    ["a syntax error", "[lfs\n\turl = https://127.0.0.1/lfs\n"],
    ["UTF-16", Buffer.from("\ufeff[lfs]\n\turl = https://127.0.0.1/lfs\n", "utf16le")],
    ["a key without a value", "[lfs]\n\turl\n"],
  ];
  UNREADABLE.forEach(([what, content], index) => {
    inFullCheck(index > 0).test(`fail the job with ${what}, and are not ignored`, async () => {
      const files = { ".lfsconfig": content, "one.bin": git.lfs.add(Buffer.from("1")) };
      const { calls, failure } = await watched(await repository(files));
      expect(failure()).toMatchObject({ code: "CLONE_FAILED", retryable: false });
      expect(failure().message).toStartWith("git cannot read the repository's .lfsconfig: ");
      expect(failure().message).not.toContain(bench.dir.path);
      expect(calls).toEqual([]);
    });
  });

  const URLS: [what: string, config: (url: string) => string][] = [
    ["remote.origin.lfsurl", (url) => `[remote "origin"]\n\tlfsurl = ${url}\n`],
    [
      "lfs.url before remote.origin.lfsurl",
      (url) => `[remote "origin"]\n\tlfsurl = ${url}x\n[lfs]\n\turl = ${url}/\n`,
    ],
    ["the last lfs.url", (url) => `[lfs]\n\turl = ${url}x\n\turl = ${url}\n`],
  ];
  URLS.forEach(([what, config], index) => {
    inFullCheck(index > 0).test(`set the URL with ${what}`, async () => {
      const other = await repository({});
      const files = {
        ".lfsconfig": config(`${other.url}.git/info/lfs`),
        "one.bin": git.lfs.add(Buffer.from("1")),
      };
      const { batches, done } = await watched(await repository(files));
      expect(await textOf(done(), "one.bin")).toBe("1");
      expect(batches.map(({ request }) => request.url)).toEqual([`${other.url}.git/info/lfs/objects/batch`]);
    });
  });

  inFullCheck().test("of remotes other than origin count for a tag with remote.lfsdefault", async () => {
    const other = await repository({});
    const lfsconfig = `[remote]\n\tlfsdefault = x\n[remote "x"]\n\tlfsurl = ${other.url}.git/info/lfs\n`;
    const files = { ".lfsconfig": lfsconfig, "one.bin": git.lfs.add(Buffer.from("1")) };
    const wanted = await repository(files, { tags: ["v1"] });
    for (const [branch, repository] of [
      ["main", wanted],
      ["v1", other],
    ] as const) {
      const { batches } = await watched({ ...wanted, branch });
      expect(batches.map(({ request }) => request.url)).toEqual([
        `${repository.url}.git/info/lfs/objects/batch`,
      ]);
    }
  });

  const REFUSED: [value: string, message: string][] = [
    [
      "ssh://git@127.0.0.1/x",
      "the lfs.url of .lfsconfig is not an http or https URL; other URLs are not supported",
    ],
    [
      "git@127.0.0.1:x",
      "the lfs.url of .lfsconfig is not an http or https URL; other URLs are not supported",
    ],
    ["/etc", "the lfs.url of .lfsconfig is not an http or https URL; other URLs are not supported"],
    ["", "the lfs.url of .lfsconfig is not an http or https URL; other URLs are not supported"],
    [
      "https://user:word@127.0.0.1/x",
      "the lfs.url of .lfsconfig contains a user name or a password; expected a URL without them",
    ],
  ];
  REFUSED.forEach(([value, message], index) => {
    inFullCheck(index > 0).test(`do not set the URL '${value}'`, async () => {
      const files = { ".lfsconfig": `[lfs]\n\turl = ${value}\n`, "one.bin": git.lfs.add(Buffer.from("1")) };
      expect(await bench.failureOf(await repository(files))).toMatchObject({
        code: "UNSUPPORTED",
        message,
        retryable: false,
      });
    });
  });
});

describe("downloads", () => {
  test("are requested for at most 100 objects, and at most 8 run at the same time", async () => {
    const contents = numbered(210);
    let running = 0;
    let most = 0;
    const eight = Promise.withResolvers<void>();
    const { batches, downloads, done } = await watched(await repository(filesOf(contents)), async (call) => {
      if (call.oid === undefined) return call.answer();
      running += 1;
      most = Math.max(most, running);
      if (running === 8) eight.resolve();
      await eight.promise;
      await Bun.sleep(1);
      running -= 1;
      return call.answer();
    });
    expect(await textOf(done(), "209.bin")).toBe("content 209");
    expect(batches.map(({ objects }) => objects.length)).toEqual([100, 100, 10]);
    expect(downloads).toHaveLength(210);
    expect(most).toBe(8);
  });

  test("are made once for all files with the same content", async () => {
    const pointer = git.lfs.add(Buffer.from("shared"));
    const paths = Array.from({ length: 300 }, (_, number) => `folder/${number}.bin`);
    const files = Object.fromEntries(paths.map((path) => [path, pointer]));
    const { batches, downloads, done } = await watched(
      await repository({ ...files, "bin/tool.bin": pointer }),
    );
    expect(batches.map(({ objects }) => objects.length)).toEqual([1]);
    expect(downloads).toHaveLength(1);
    for (const path of paths) expect(await textOf(done(), path)).toBe("shared");
    const [tool, one] = await Promise.all(
      ["bin/tool.bin", "folder/1.bin"].map((path) => lstat(join(done().workspace.checkout, path))),
    );
    expect([tool?.mode, one?.mode, tool?.nlink]).toEqual([0o100755, 0o100644, 1]);
    expect(await readdir(done().workspace.aside)).toEqual([]);
  });

  const ENDED: [what: string, status: number][] = [
    ["403", 403],
    ["401", 401],
    ["404", 404],
    ["410", 410],
  ];
  ENDED.forEach(([what, status], index) => {
    inFullCheck(index > 0).test(`continue with new links when the server answers ${what}`, async () => {
      const contents = numbered(30);
      let requests = 0;
      const used = new Map<number, number>();
      const { batches, downloads, done } = await watched(await repository(filesOf(contents)), (call) => {
        if (call.oid === undefined) return withNumberedLinks(call, ++requests);
        // The links of a request serve ten downloads.
        const count = (used.get(linkOf(call)) ?? 0) + 1;
        used.set(linkOf(call), count);
        return count > 10 ? new Response(null, { status }) : call.answer();
      });
      for (const [index, content] of contents.entries())
        expect(await textOf(done(), `${index}.bin`)).toBe(content);
      expect(batches.length).toBeGreaterThanOrEqual(3);
      expect(downloads.length).toBeGreaterThan(30);
    });
  });

  const ENDS: [what: string, end: (atMs: number) => object][] = [
    ["expires_in", (atMs) => ({ expires_in: (atMs - Date.now()) / 1000 })],
    ["expires_at", (atMs) => ({ expires_at: new Date(atMs).toISOString() })],
  ];
  ENDS.forEach(([what, end], index) => {
    inFullCheck(index > 0).test(`do not use a link after its ${what}`, async () => {
      const contents = numbered(20);
      let requests = 0;
      let endsAtMs = 0;
      const { batches, downloads, done } = await watched(
        await repository(filesOf(contents)),
        async (call) => {
          if (call.oid !== undefined) {
            // No download ends before the links.
            if (linkOf(call) === 1) await Bun.sleep(Math.max(0, endsAtMs + 50 - Date.now()));
            return call.answer();
          }
          const number = ++requests;
          if (number === 1) endsAtMs = Date.now() + 1000;
          const ends = number === 1 ? end(endsAtMs) : {};
          return offering(call, (object) => {
            const href = `${object.actions?.download.href}?link=${number}`;
            return { ...object, actions: { download: { href, ...ends } } };
          });
        },
      );
      for (const [index, content] of contents.entries())
        expect(await textOf(done(), `${index}.bin`)).toBe(content);
      expect(batches).toHaveLength(2);
      expect(downloads).toHaveLength(20);
      expect(downloads.filter((call) => linkOf(call) === 1).length).toBeLessThanOrEqual(8);
    });
  });

  inFullCheck().test("use a link whose end is in the past at once, since clocks differ", async () => {
    const ends = { expires_at: "2000-01-01T00:00:00Z" };
    const { batches, done } = await watched(await repository(filesOf(numbered(12))), (call) =>
      offering(call, ({ actions, ...object }) => ({
        ...object,
        actions: { download: { ...actions?.download, ...ends } },
      })),
    );
    expect(await textOf(done(), "11.bin")).toBe("content 11");
    expect(batches).toHaveLength(1);
  });

  const content = crypto.getRandomValues(new Uint8Array(300_000));

  /** Half of the content, without its length. */
  const halfOf = (bytes: Uint8Array) =>
    new Response(new Blob([bytes.subarray(0, bytes.length / 2)]).stream());

  inFullCheck().test("follow redirects without the token", async () => {
    const { url: other } = await repository({});
    const wanted = await repository({ "one.bin": git.lfs.add(content) }, {}, "the token");
    let sent = 0;
    const { calls, done } = await watched(wanted, (call) => {
      const { url } = call.request;
      if (url.startsWith(wanted.url)) {
        const headers = { Location: url.replace(wanted.url, other) };
        return new Response(null, { status: 307, headers });
      }
      if (call.oid !== undefined) return ++sent === 1 ? halfOf(content) : call.answer();
      return offering(call, ({ oid, size }) => {
        const href = `${wanted.url}.git/info/lfs/objects/${oid}`;
        return { oid, size, actions: { download: { href } } };
      });
    });
    expect(await contentOf(done(), "one.bin")).toEqual(content);
    const shown = calls.map(({ oid, request: { url, headers } }) => [
      oid === undefined ? "batch" : "object",
      url.startsWith(wanted.url) ? "own" : "other",
      headers.has("authorization"),
      headers.get("range"),
    ]);
    const batch = [
      ["batch", "own", true, null],
      ["batch", "other", false, null],
    ];
    const objects = (range: string | null) => [
      ["object", "own", true, range],
      ["object", "other", false, range],
    ];
    expect(shown).toEqual([...batch, ...objects(null), ...batch, ...objects("bytes=150000-")]);
  });

  inFullCheck().test("continue after a broken connection", async () => {
    const wanted = await repository({ "one.bin": git.lfs.add(content) });
    let count = 0;
    const { done } = await watched(wanted, (call) => {
      count += call.oid === undefined ? 0 : 1;
      if (call.oid === undefined || count > 1) return call.answer();
      const body = new ReadableStream({
        start: (controller) => controller.enqueue(content.subarray(0, 150_000)),
        pull: (controller) => controller.error(new Error("the test breaks off this answer")),
      });
      return new Response(body);
    });
    expect(await contentOf(done(), "one.bin")).toEqual(content);
    expect(count).toBe(2);
  });

  const RESUMPTIONS: [what: string, answer: (call: LfsCall) => Response, ranges: (string | null)[]][] = [
    ["resumed", (call) => call.answer(), [null, "bytes=150000-"]],
    ["begun again when the server ignores the range", () => new Response(content), [null, "bytes=150000-"]],
    [
      "begun again when the server refuses the range",
      ({ request, answer }) =>
        request.headers.has("range") ? new Response(null, { status: 416 }) : answer(),
      [null, "bytes=150000-", null],
    ],
    [
      "begun again when the server sends another range",
      ({ request, answer }) => {
        if (!request.headers.has("range")) return answer();
        const headers = { "Content-Range": "bytes 10-299999/300000" };
        return new Response(content.subarray(10), { status: 206, headers });
      },
      [null, "bytes=150000-", null],
    ],
    [
      "begun again when the other part is from another content",
      ({ request, answer }) => {
        if (!request.headers.has("range")) return answer();
        const headers = { "Content-Range": "bytes 150000-299999/300000" };
        return new Response(new Uint8Array(150_000), { status: 206, headers });
      },
      [null, "bytes=150000-", null],
    ],
  ];
  test("end with the clone's time limit", async () => {
    for (const isBatch of [true, false]) {
      const wanted = { ...(await repository(filesOf(["1"]))), limits: { timeoutMs: 2000 } };
      const { failure } = await watched(wanted, (call) =>
        (call.oid === undefined) === isBatch ? new Promise<Response>(() => {}) : call.answer(),
      );
      expect(failure()).toMatchObject({
        message: "cloning timed out after 2 s (BLACKTREE_GIT_TIMEOUT)",
        retryable: true,
      });
    }
  });

  inFullCheck().test("continue when the server is silent", async () => {
    const wanted = {
      ...(await repository({ "one.bin": git.lfs.add(content) })),
      limits: { silenceTimeoutMs: 3000 },
    };
    let count = 0;
    const { downloads, done } = await watched(wanted, (call) => {
      count += call.oid === undefined ? 0 : 1;
      if (call.oid === undefined || count > 2) return call.answer();
      if (count === 1) return new Promise<Response>(() => {});
      return new Response(
        new ReadableStream({ start: (controller) => controller.enqueue(content.subarray(0, 100_000)) }),
      );
    });
    expect(await contentOf(done(), "one.bin")).toEqual(content);
    expect(downloads.map(({ request }) => request.headers.get("range"))).toEqual([
      null,
      null,
      "bytes=100000-",
    ]);
    expect(done().lines.join("\n")).toMatch(/no answer for 3 s[\s\S]*was silent for 3 s/);
  });

  RESUMPTIONS.forEach(([what, answer, ranges], index) => {
    inFullCheck(index > 0).test(`that end early are ${what}`, async () => {
      const wanted = await repository({ "one.bin": git.lfs.add(content) });
      let count = 0;
      const { downloads, done } = await watched(wanted, (call) => {
        if (call.oid === undefined) return call.answer();
        count += 1;
        return count === 1 ? halfOf(content) : answer(call);
      });
      expect(await contentOf(done(), "one.bin")).toEqual(content);
      expect(downloads.map(({ request }) => request.headers.get("range"))).toEqual(ranges);
    });
  });
});

describe("a server that asks to wait", () => {
  const CASES: [what: string, isBatch: boolean, status: number, wait: () => string][] = [
    ["for seconds", true, 429, () => "1"],
    ["with its downloads", false, 503, () => "1"],
    ["until a date", true, 503, () => new Date(Date.now() + 2000).toUTCString()],
    ["with a refusal", false, 403, () => "1"],
  ];
  CASES.forEach(([what, isBatch, status, wait], index) => {
    inFullCheck(index > 0).test(`${what} is waited for`, async () => {
      const times: number[] = [];
      const { done } = await watched(await repository(filesOf(["1"])), (call) => {
        if ((call.oid === undefined) !== isBatch) return call.answer();
        times.push(performance.now());
        const headers = { "Retry-After": wait() };
        return times.length === 1 ? new Response(null, { status, headers }) : call.answer();
      });
      expect(await textOf(done(), "0.bin")).toBe("1");
      const [first = 0, second = 0] = times;
      expect(times).toHaveLength(2);
      expect(second - first).toBeGreaterThan(950);
    });
  });

  test("longer than the clone may take is not waited for", async () => {
    for (const isBatch of [true, false]) {
      const { failure, calls } = await watched(await repository(filesOf(["1"])), (call) => {
        const headers = { "Retry-After": "99999999999" };
        return (call.oid === undefined) === isBatch
          ? new Response(null, { status: 429, headers })
          : call.answer();
      });
      expect(failure()).toMatchObject({ code: "CLONE_FAILED", retryable: true });
      expect(failure().message).toContain("asks to wait 99999999999 s, but this attempt has only");
      expect(calls.filter(({ oid }) => (oid === undefined) === isBatch)).toHaveLength(1);
    }
  });
});

describe("a failure has the server's reason:", () => {
  const json = (status: number, message: string) => Response.json({ message }, { status });
  type Expected = { code?: string; retryable?: boolean; message: string; tries?: number };
  const BATCH: [what: string, answer: (call: LfsCall) => Response, expected: Expected][] = [
    [
      "an exhausted quota",
      () => json(403, "This repository is over its data quota."),
      { message: "HTTP 403: This repository is over its data quota." },
    ],
    [
      "missing credentials",
      () => json(401, "Credentials needed"),
      { code: "GIT_AUTH", message: "(401): Credentials needed; the job has no git_token" },
    ],
    ["a denied access", () => json(403, "Forbidden"), { code: "GIT_AUTH", message: "(403): Forbidden" }],
    [
      "a rate limit",
      () => json(403, "API rate limit exceeded"),
      { retryable: true, tries: 2, message: "rate limit" },
    ],
    ["404", () => json(404, "Not Found"), { message: "answered with HTTP 404: Not Found" }],
    ["413", () => json(413, "too many"), { message: "answered with HTTP 413: too many" }],
    ["422", () => json(422, "not valid"), { message: "answered with HTTP 422: not valid" }],
    [
      "429",
      () => json(429, "slow down"),
      { retryable: true, tries: 2, message: "limits requests (HTTP 429): slow down" },
    ],
    ["500", () => json(500, "oops"), { retryable: true, tries: 2, message: "answered with HTTP 500: oops" }],
    ["501", () => json(501, "no LFS"), { message: "answered with HTTP 501: no LFS" }],
    ["507", () => json(507, "full"), { message: "answered with HTTP 507: full" }],
    ["509", () => json(509, "too much"), { message: "answered with HTTP 509: too much" }],
    [
      "a page",
      () => new Response("<html>secret</html>", { status: 502, headers: { "Content-Type": "text/html" } }),
      { retryable: true, tries: 2, message: /answered with HTTP 502$/ as unknown as string },
    ],
    [
      "a long text with hidden characters",
      () =>
        new Response(`a\u001b[31m\u202eb\nc${"x".repeat(100_000)}`.slice(0, 60_000), {
          status: 400,
          headers: { "Content-Type": "text/plain" },
        }),
      { message: /HTTP 400: a<U\+001B>\[31m<U\+202E>b cx{270}/ as unknown as string },
    ],
    [
      "a page instead of JSON",
      () => new Response("<html></html>", { headers: { "Content-Type": "text/html" } }),
      { message: "does not answer as a Git LFS server: expected JSON, got text/html" },
    ],
    ["no objects", () => Response.json({}), { message: "does not answer as a Git LFS server: objects: " }],
    [
      "objects of another form",
      () => Response.json({ objects: [{ oid: 5 }] }),
      { message: "does not answer as a Git LFS server: objects.0.oid: " },
    ],
    [
      "another object",
      () => Response.json({ objects: [{ oid: "0".repeat(64), size: 1 }] }),
      { message: "did not answer for the Git LFS file 0.bin" },
    ],
    [
      "another hash",
      () => Response.json({ hash_algo: "sha512", objects: [] }),
      { code: "UNSUPPORTED", message: "uses the hash algorithm sha512" },
    ],
  ];
  BATCH.forEach(([what, answer, { code = "CLONE_FAILED", retryable = false, tries = 1, message }], index) => {
    inFullCheck(index > 4).test(`${what}, from the batch API`, async () => {
      const { failure, batches } = await watched(await repository(filesOf(["1"])), (call) =>
        call.oid === undefined ? answer(call) : call.answer(),
      );
      expect(failure()).toMatchObject({ code, retryable });
      expect(failure().message).toMatch(message);
      expect(failure().message.length).toBeLessThan(600);
      expect(batches).toHaveLength(tries);
    });
  });

  const OBJECTS: [what: string, change: Partial<Record<keyof OfferedObject, unknown>>, expected: Expected][] =
    [
      [
        "a refused object",
        { error: { code: 410, message: "removed by\u202e the owner" } },
        { message: "0.bin is not available from Git LFS: removed by<U+202E> the owner (410)" },
      ],
      ["a denied object", { error: { code: 403, message: "no" } }, { code: "GIT_AUTH", message: "no (403)" }],
      [
        "an object over quota",
        { error: { code: 509, message: "Bandwidth limit exceeded" } },
        { message: "Bandwidth limit exceeded (509)" },
      ],
      [
        "an object that fails",
        { error: { code: 503 } },
        { retryable: true, tries: 2, message: "no reason (503)" },
      ],
      ["no link", { actions: {} }, { message: "returned no download URL for 0.bin" }],
      [
        "a relative link",
        { actions: { download: { href: "/objects/1" } } },
        { message: "the Git LFS server names a URL that is not an http or https URL" },
      ],
      [
        "a link with a password",
        { actions: { download: { href: "https://user:word@github.com/1" } } },
        { message: "a Git LFS URL at github.com contains a user name or a password" },
      ],
      [
        "a link to another host",
        { actions: { download: { href: "https://elsewhere.example/1" } } },
        { message: "Git LFS uses https://elsewhere.example, which is not one of the hosts" },
      ],
      [
        "an invalid header",
        { actions: { download: { href: "https://github.com/1", header: { X: "a\nb" } } } },
        { message: "returned an invalid header for the download of 0.bin" },
      ],
      [
        "a header that is not a text",
        { actions: { download: { href: "https://github.com/1", header: { X: 5 } } } },
        { message: "objects.0.actions.download.header.X" },
      ],
    ];
  OBJECTS.forEach(
    ([what, change, { code = "CLONE_FAILED", retryable = false, tries = 1, message }], index) => {
      inFullCheck(index > 0).test(`${what}, from the batch API`, async () => {
        const wanted = { ...(await repository(filesOf(["1"]))), allowedHosts: ["github.com"] };
        const { failure, batches } = await watched(wanted, (call) =>
          offering(call, ({ actions, ...object }) => ({ ...object, actions, ...change })),
        );
        expect(failure()).toMatchObject({ code, retryable });
        expect(failure().message).toContain(message);
        expect(failure().message).not.toContain("user:word");
        expect(batches).toHaveLength(tries);
      });
    },
  );

  inFullCheck().test("a certificate that is not trusted, and a server that does not exist", async () => {
    const { server } = await makeCertificates(bench.dir.path);
    const other = Bun.serve({
      hostname: "127.0.0.1",
      port: 0,
      tls: { cert: Bun.file(server.certPath), key: Bun.file(server.keyPath) },
      fetch: () => new Response(null, { status: 500 }),
    });
    try {
      for (const host of [`127.0.0.1:${other.port}`, "server.invalid"]) {
        const files = { ...filesOf(["1"]), ".lfsconfig": `[lfs]\n\turl = https://${host}/lfs\n` };
        const wanted = { ...(await repository(files)), allowedHosts: [host] };
        const { failure } = await watched(wanted);
        expect(failure()).toMatchObject({ code: "CLONE_FAILED", retryable: false });
        expect(failure().message).toMatch(
          /^the request for the repository's Git LFS files failed: \S+: [A-Z_]+$/,
        );
      }
    } finally {
      await other.stop(true);
    }
  });

  const DOWNLOAD: [what: string, answer: () => Response, expected: Expected][] = [
    [
      "other contents",
      () => new Response("contenX 0"),
      { message: "has other contents for 0.bin than its pointer: the sha256 differs" },
    ],
    [
      "a page",
      () => new Response("<html></html>", { headers: { "Content-Type": "text/html" } }),
      { message: "has other contents for 0.bin than its pointer: 13 bytes of type text/html instead of 9" },
    ],
    [
      "longer contents",
      () => new Response(new Blob([new Uint8Array(100_000)]).stream()),
      { message: "has other contents for 0.bin than its pointer: more than 9 bytes" },
    ],
    ["an exhausted quota", () => json(509, "too much"), { message: "answered with HTTP 509: too much" }],
    [
      "an unavailable store",
      () => json(500, "oops"),
      { retryable: true, tries: 2, message: "HTTP 500: oops" },
    ],
    [
      "a refused link",
      () =>
        new Response("<Error><Code>X</Code><Message>Request has expired</Message></Error>", {
          status: 403,
          headers: { "Content-Type": "application/xml" },
        }),
      { tries: 2, message: "the download of 0.bin failed: HOST answered with HTTP 403: Request has expired" },
    ],
    ["a lost object", () => json(404, "gone"), { tries: 2, message: "answered with HTTP 404: gone" }],
  ];
  DOWNLOAD.forEach(
    ([what, answer, { code = "CLONE_FAILED", retryable = false, tries = 1, message }], index) => {
      inFullCheck(index > 0).test(`${what}, from a download`, async () => {
        const { failure, downloads } = await watched(await repository(filesOf(["content 0"])), (call) =>
          call.oid === undefined ? call.answer() : answer(),
        );
        expect(failure()).toMatchObject({ code, retryable });
        expect(failure().message.replace(git.host, "HOST")).toContain(message);
        expect(downloads).toHaveLength(tries);
      });
    },
  );

  inFullCheck().test(
    "another kind of transfer is taken as git-lfs takes it, with its basic one",
    async () => {
      const { done } = await watched(await repository(filesOf(["1"])), async (call) => {
        if (call.oid !== undefined) return call.answer();
        return Response.json({ ...((await call.answer().json()) as object), transfer: "tus" });
      });
      expect(await textOf(done(), "0.bin")).toBe("1");
    },
  );
});

/** The files of a clone that git has made with git-lfs; the settings of the machine do not count. */
async function clonedByGitLfs(url: string, into: string): Promise<void> {
  const settings = {
    "filter.lfs.process": "git-lfs filter-process",
    "filter.lfs.smudge": "git-lfs smudge -- %f",
    "filter.lfs.required": "true",
  };
  const options = Object.entries(settings).flatMap(([key, value]) => ["-c", `${key}=${value}`]);
  const env = { GIT_CONFIG_GLOBAL: "/dev/null", GIT_CONFIG_NOSYSTEM: "1", HOME: bench.dir.path };
  await run(["git", ...options, "clone", "--quiet", url, into], { env });
}

inFullCheck().test("a checkout has the same files as one of git-lfs", async () => {
  const pointer = git.lfs.add(Buffer.from("stored"));
  const other = git.lfs.add(crypto.getRandomValues(new Uint8Array(100_000)));
  const contents: Files = {
    plain: pointer,
    other,
    windows: pointer.replaceAll("\n", "\r\n"),
    old: pointer.replace("git-lfs.github.com", "hawser.github.com"),
    first: pointer.replace("https://git-lfs.github.com/spec/v1", "http://git-media.io/v/2"),
    unfinished: pointer.trimEnd(),
    spaces: `\n ${pointer}\n \n`,
    plus: pointer.replace("size ", "size +0"),
    zero: pointer.replace(/size \d+/, "size 0"),
    empty: "",
    white: " \n",
    text: "text\n",
    bom: `\ufeff${pointer}`,
    upper: pointer.replace(/[a-f]/g, (letter) => letter.toUpperCase()),
    extra: `${pointer}key value\n`,
    negative: pointer.replace("size ", "size -"),
    large: new Uint8Array(5000),
  };
  const folders = ["", "data/", "data/raw/", "a b/", "x/data/", "é/"];
  const files: Files = Object.fromEntries(
    folders.flatMap((folder) =>
      Object.entries(contents).map(([name, content]) => [`${folder}${name}.bin`, content]),
    ),
  );
  const wanted = await repository({
    ...files,
    ".gitattributes": `${ATTRIBUTES}[attr]stored filter=lfs\n*.stored stored\nkept.bin -filter\n"a b/old.bin" !filter\n`,
    ".lfsconfig": "\ufeff[lfs]\r\n\tfetchexclude = data/raw, /x/data/plain.*, é/*\r\n\tfetchinclude = *\r\n",
    "kept.bin": pointer,
    "macro.stored": pointer,
    "data/.gitattributes": "\ufeffwindows.bin -filter\r\nconverted filter=lfs text eol=crlf\r\n",
    "data/converted": pointer,
  });
  const reference = join(bench.dir.path, "by-git-lfs");
  await clonedByGitLfs(wanted.url, reference);
  const done = await bench.cloned(wanted);
  const shown = async (folder: string) => {
    const paths = (await readdir(folder, { recursive: true })).filter((path) => !/^\.git(\/|$)/.test(path));
    const files: Record<string, string> = {};
    for (const path of paths.sort())
      if ((await lstat(join(folder, path))).isFile())
        files[path] = await readFile(join(folder, path), "latin1");
    return files;
  };
  expect(await shown(done.workspace.checkout)).toEqual(await shown(reference));
});
