import { afterEach, beforeEach, expect, test } from "bun:test";
import { chmodSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { upToken } from "../../../src/cli/up-token.ts";
import { makeTempDir, type TempDir } from "../../support/machine/temp-dir.ts";

let folder: TempDir;

beforeEach(async () => {
  folder = await makeTempDir("cli");
});
afterEach(() => folder.remove());

test("the token is made once, long, and for its owner only", () => {
  const { path, token } = upToken(folder.path);
  expect(token).toMatch(/^[\w-]{43}$/);
  expect(path).toBe(join(folder.path, "admin-token"));
  expect(statSync(path).mode & 0o777).toBe(0o600);
  expect(upToken(folder.path)).toEqual({ path, token });
});

test("a file of another start that was killed does not count", () => {
  writeFileSync(join(folder.path, "admin-token.new"), "incomplete", { mode: 0o644 });
  const { path, token } = upToken(folder.path);
  expect(token).not.toBe("incomplete");
  expect(statSync(path).mode & 0o777).toBe(0o600);
});

test("a file that other users can read is refused", () => {
  const { path } = upToken(folder.path);
  chmodSync(path, 0o644);
  expect(() => upToken(folder.path)).toThrow(`chmod 600 ${path}; or remove it, and a new one is made`);
});
