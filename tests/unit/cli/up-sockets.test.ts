import { afterAll, beforeAll, expect, test } from "bun:test";
import { mkdirSync, readdirSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { checkSocketPaths, makeSockets } from "../../../src/cli/up-sockets.ts";
import { makeTempDir, type TempDir } from "../../support/machine/temp-dir.ts";

let folder: TempDir;

beforeAll(async () => {
  folder = await makeTempDir("cli");
});
afterAll(() => folder.remove());

test("the folder of the sockets is the owner's alone, and without those of an earlier start", () => {
  const sockets = join(folder.path, "sockets");
  mkdirSync(sockets, { mode: 0o755 });
  writeFileSync(join(sockets, "worker"), "");
  expect(makeSockets(folder.path).worker.path).toBe(join(sockets, "worker"));
  expect(statSync(sockets).mode & 0o777).toBe(0o700);
  expect(readdirSync(sockets)).toEqual([]);
});

test("a work folder whose path is too long for sockets is refused", () => {
  const ofBytes = (bytes: number) => `/${"w".repeat(bytes - 1)}`;
  expect(checkSocketPaths({ workDir: ofBytes(86) })).toEqual([]);
  expect(checkSocketPaths({ workDir: ofBytes(90) })).toMatchObject([
    { name: "BLACKTREE_WORK_DIR", expected: "a path that is at least 4 bytes shorter" },
  ]);
});
