import { expect, test } from "bun:test";
import { mkdirSync } from "node:fs";
import { Hono } from "hono";
import pino from "pino";
import { remedyFor } from "../../../src/cli/up-remedy.ts";
import { serveAdmin } from "../../../src/orchestrator/admin/server.ts";

function errorOf(act: () => unknown): unknown {
  try {
    act();
  } catch (error) {
    return error;
  }
  throw new Error("no error");
}

const serve = (port: number) =>
  serveAdmin(new Hono(), { host: "127.0.0.1", port }, pino({ level: "silent" }));

test("an address that cannot be listened on", () => {
  const other = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data: () => undefined } });
  try {
    const remedy = remedyFor(errorOf(() => serve(other.port)));
    expect(remedy).toMatch(
      /on 127\.0\.0\.1:\d+: .*\(EADDRINUSE\)\. Name another address with --admin-listen/,
    );
  } finally {
    other.stop(true);
  }
  // As for a port below 1024.
  const cause = Object.assign(new Error("permission denied"), { code: "EACCES", syscall: "listen" });
  expect(remedyFor(new Error("cannot listen", { cause }))).toContain("--admin-listen");
});

test("a path that this user may not use", () => {
  // Nothing can be created there, by no user.
  const remedy = remedyFor(errorOf(() => mkdirSync("/sys/blacktree")));
  expect(remedy).toMatch(
    /^\/sys\/blacktree cannot be used by this user, uid \d+ \((EPERM|EACCES|EROFS)\)\. .*--work-dir/,
  );
  expect(remedy).not.toContain("--admin-listen");
});

test("other errors are unexpected", () => {
  expect(remedyFor(errorOf(() => mkdirSync("/proc/1/none")))).toBeUndefined();
  expect(remedyFor(new Error("x"))).toBeUndefined();
});
