import { afterEach, beforeEach, expect, test } from "bun:test";
import { chmodSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { storedReuseKeys, storedToken } from "../../../src/cli/up-secrets.ts";
import { makeTempDir, type TempDir } from "../../support/machine/temp-dir.ts";

let folder: TempDir;

beforeEach(async () => {
  folder = await makeTempDir("cli");
});
afterEach(() => folder.remove());

test("the token is made once, long, and for its owner only", () => {
  const { path, value } = storedToken(folder.path);
  expect(value).toMatch(/^[\w-]{43}$/);
  expect(path).toBe(join(folder.path, "admin-token"));
  expect(statSync(path).mode & 0o777).toBe(0o600);
  expect(storedToken(folder.path)).toEqual({ path, value });
});

test("the reuse key is made once, of 32 bytes, and for its owner only", () => {
  const { path, value } = storedReuseKeys(folder.path);
  expect(value.map((key) => key.length)).toEqual([32]);
  expect(path).toBe(join(folder.path, "reuse-key"));
  expect(statSync(path).mode & 0o777).toBe(0o600);
  expect(storedReuseKeys(folder.path)).toEqual({ path, value });
});

test("a file of another start that was killed does not count", () => {
  writeFileSync(join(folder.path, "admin-token.new"), "incomplete", { mode: 0o644 });
  const { path, value } = storedToken(folder.path);
  expect(value).not.toBe("incomplete");
  expect(statSync(path).mode & 0o777).toBe(0o600);
});

test("a file that other users can read is refused", () => {
  const { path } = storedToken(folder.path);
  chmodSync(path, 0o644);
  expect(() => storedToken(folder.path)).toThrow(`chmod 600 ${path}; or remove it, and a new one is made`);
});
