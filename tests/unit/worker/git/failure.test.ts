import { describe, expect, test } from "bun:test";
import type { NetworkEnd } from "../../../../src/worker/git/command.ts";
import { gitFailure } from "../../../../src/worker/git/failure.ts";
import { GitTrace } from "../../../../src/worker/git/git-trace.ts";

const ATTEMPT = {
  repositoryUrl: "https://git.example/owner/name",
  branch: "main",
  user: undefined,
  withoutToken: "the job has no git_token",
};

/** The failure of a command that printed these lines. */
function failureOf(lines: readonly string[], end: Partial<NetworkEnd> = {}, attempt = {}) {
  const trace = new GitTrace();
  const stderrTail = lines.filter((line) => !trace.read(line));
  const { exchanges } = trace;
  const ended = { exitCode: 128, stdoutTail: [], stderrTail, exchanges, ...end };
  return gitFailure({ ...ATTEMPT, ...attempt }, ended).failure;
}

/** As git traces a request and its answer. */
function traced(request: string, ...answer: readonly string[]): string[] {
  return [
    "12:05:18.085646 http.c:672              => Send header, 0000000231 bytes (0x000000e7)",
    `12:05:18.085649 http.c:684              => Send header: ${request}`,
    ...answer.map((line) => `12:05:18.086192 http.c:684              <= Recv header: ${line}`),
    "12:05:18.086210 http.c:684              <= Recv header:",
    "12:05:18.086215 http.c:725              == Info: Connection #0 to host git.example left intact",
  ];
}

const REFS = "GET /owner/name/info/refs?service=git-upload-pack HTTP/1.1";

describe("a full disk of the worker", () => {
  test.each([
    ["fatal: write error: No space left on device", "fatal: fetch-pack: invalid index-pack output"],
    ["error: unable to write file big", "fatal: unable to checkout working tree"],
    ["error: unable to create file f99: No space left on device", "fatal: unable to checkout working tree"],
  ])("%s", (first, second) => {
    expect(failureOf([first, second])).toMatchObject({ code: "DISK_FULL", retryable: true });
  });

  test("is not reported for a full disk of the server", () => {
    const stderr = ["remote: fatal: No space left on device", "fatal: early EOF"];
    expect(failureOf(stderr).code).toBe("CLONE_FAILED");
  });
});

test("a tag of a folder or a file does not name a commit", () => {
  const stderr = ["error: object 04a6d20a61d2a8a1523f7bdfbd5e5c5f2c95885f is a tree, not a commit"];
  expect(failureOf(stderr)).toMatchObject({ code: "REF_NOT_FOUND", retryable: false });
});

describe("the connection", () => {
  const ACCESS = "fatal: unable to access 'https://git.example/owner/name/'";
  test.each([
    ["server certificate verification failed. CAfile: /etc/ssl/ca.crt CRLfile: none", "certificate", false],
    ["SSL: certificate subject name (wrong) does not match target host name 'git.example'", "(wrong)", false],
    ["server certificate expiration date has passed.", "expiration", false],
    ["SSL certificate problem: self-signed certificate", "self-signed", false],
    ["SSL certificate problem: certificate has expired", "has expired", false],
    ["SSL: no alternative certificate subject name matches target host name 'x'", "host name 'x'", false],
    ["Problem with the SSL CA cert (path? access rights?)", "GIT_SSL_CAINFO", true],
    ["error setting certificate verify locations:  CAfile: /etc/ssl/ca.crt CApath: none", "GIT_SSL", true],
    ["gnutls_handshake() failed: An unexpected TLS packet was received.", "does not use TLS", false],
    ["gnutls_handshake() failed: The TLS connection was non-properly terminated.", "terminated", true],
    ["Failed to connect to git.example port 443 after 0 ms: Couldn't connect to server", "port 443", true],
    ["Could not resolve host: git.example", "resolve", true],
    ["Recv failure: Connection reset by peer", "reset", true],
  ])("%s", (reason, named, retryable) => {
    const failure = failureOf([`${ACCESS}: ${reason}`]);
    expect(failure).toMatchObject({ code: "CLONE_FAILED", retryable });
    expect(failure.message).toContain(named);
    expect(failure.message).not.toContain("/etc/ssl");
  });

  test("a host that does not exist", () => {
    const failure = failureOf([`${ACCESS}: Could not resolve host: git.example`], {
      unknownHost: "git.example",
    });
    expect(failure).toMatchObject({ code: "CLONE_FAILED", retryable: false });
    expect(failure.message).toContain("the host git.example does not exist");
  });

  test("a proxy that refuses", () => {
    const request = "CONNECT git.example:443 HTTP/1.1";
    const stderr = [`${ACCESS}: CONNECT tunnel failed, response 407`];
    const failure = failureOf([...traced(request, "HTTP/1.1 407 Proxy Authentication Required"), ...stderr]);
    expect(failure).toMatchObject({ code: "CLONE_FAILED", retryable: false });
    expect(failure.message).toContain("HTTPS_PROXY");
    const unavailable = failureOf([...traced(request, "HTTP/1.1 503 Unavailable"), ...stderr]);
    expect(unavailable).toMatchObject({ code: "CLONE_FAILED", retryable: true });
  });
});

describe("an answer", () => {
  test.each([
    ["401 Unauthorized", "GIT_AUTH", false, "no git_token"],
    ["403 Forbidden", "GIT_AUTH", false, "denies access"],
    ["404 Not Found", "REPO_NOT_FOUND", false, "does not exist"],
    ["410 Gone", "REPO_NOT_FOUND", false, "does not exist"],
    ["400 Bad Request", "CLONE_FAILED", false, "HTTP 400"],
    ["500 Internal Server Error", "CLONE_FAILED", true, "HTTP 500"],
  ])("%s", (status, code, retryable, named) => {
    const failure = failureOf(traced(REFS, `HTTP/1.1 ${status}`));
    expect(failure).toMatchObject({ code, retryable });
    expect(failure.message).toContain(named);
  });

  test("of HTTP/2 has headers in lower case", () => {
    const failure = failureOf(traced(REFS.replace("/1.1", "/2"), "HTTP/2 403 ", "retry-after: 30"));
    expect(failure).toMatchObject({ code: "CLONE_FAILED", retryable: true });
    expect(failure.message).toContain("asks to wait 30 s");
  });

  test("401 names the user name that was sent", () => {
    const failure = failureOf(traced(REFS, "HTTP/1.1 401 Unauthorized"), {}, { user: "oauth2" });
    expect(failure.message).toContain("'oauth2'");
    expect(failure.message).toContain("BLACKTREE_GIT_USER");
  });
});
