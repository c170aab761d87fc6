import { expect, test } from "bun:test";
import { GitTrace } from "../../../../src/worker/git/git-trace.ts";

const LINES = [
  "12:05:18.085342 http.c:725              == Info:   Trying 127.0.0.1:443...",
  "12:05:18.085649 http.c:684              => Send header: GET /a/b/info/refs?service=git-upload-pack HTTP/2",
  "12:05:18.085661 http.c:684              => Send header: Authorization: Basic <redacted>",
  "12:05:18.086190 http.c:672              <= Recv header, 0000000032 bytes (0x00000020)",
  "12:05:18.086192 http.c:684              <= Recv header: HTTP/2 429 ",
  "12:05:18.086200 http.c:684              <= Recv header: Retry-After: 60",
  "12:05:18.086210 http.c:684              <= Recv header:",
  "12:05:18.086212 pkt-line.c:80           packet:        fetch< 1111111111111111111111111111111111111111 refs/heads/main",
];

test("traces are read and told from git's messages", () => {
  const offers: unknown[] = [];
  const trace = new GitTrace((offer) => offers.push(offer));
  expect(LINES.map((line) => trace.read(line))).toEqual(LINES.map(() => true));
  expect(offers).toEqual([{ id: "1".repeat(40), ref: "refs/heads/main" }]);
  expect(trace.exchanges).toEqual([
    {
      method: "GET",
      path: "/a/b/info/refs?service=git-upload-pack",
      status: 429,
      headers: new Map([["retry-after", "60"]]),
    },
  ]);
});

test("text of the server is not a trace", () => {
  const trace = new GitTrace();
  for (const line of ["fatal: early EOF", `remote: ${LINES[4]}`, "12:05:18 <= Recv header: HTTP/1.1 429"])
    expect(trace.read(line)).toBe(false);
  expect(trace.exchanges).toEqual([]);
});
