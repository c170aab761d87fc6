import { afterAll, beforeAll, expect, test } from "bun:test";
import { chmod } from "node:fs/promises";
import { join } from "node:path";
import { runLocalGit } from "../../../../src/worker/git/local.ts";
import { makeTempDir, type TempDir } from "../../../support/machine/temp-dir.ts";

const SIGNAL = new AbortController().signal;

let folder: TempDir;

beforeAll(async () => {
  folder = await makeTempDir("local-git");
  await git(["init", "--template="]);
});
afterAll(() => folder.remove());

function git(args: readonly string[], { PATH = process.env.PATH ?? "", signal = SIGNAL } = {}) {
  return runLocalGit({ args, cwd: folder.path, environment: { PATH, HOME: folder.path }, signal });
}

/** A PATH whose git is this shell script. */
async function pathWith(name: string, script: string): Promise<string> {
  const program = join(folder.path, name, "git");
  await Bun.write(program, `#!/bin/sh\n${script}\n`);
  await chmod(program, 0o700);
  return `${join(folder.path, name)}:${process.env.PATH}`;
}

test("reports the exit status and the lines of both streams", async () => {
  const PATH = await pathWith("failing", "echo one; echo two; echo reason >&2; exit 3");
  expect(await git(["show"], { PATH })).toMatchObject({
    exitCode: 3,
    stdoutTail: ["one", "two"],
    stderrTail: ["reason"],
  });
});

test("reports a failure that prints nothing", async () => {
  expect(await git(["config", "lfs.url"])).toMatchObject({ exitCode: 1, stdoutTail: [], stderrTail: [] });
});

test("uses only the worker's configuration, and does not reach any server", async () => {
  const { stdoutTail } = await git(["config", "--list", "--name-only", "--show-scope"]);
  const scopes = new Map(stdoutTail.map((line) => line.split("\t")).map(([scope, name]) => [name, scope]));
  expect(scopes.get("core.hookspath")).toBe("command");
  expect(scopes.get("protocol.allow")).toBe("command");
  expect([...scopes.values()]).not.toContain("global");
  expect([...scopes.values()]).not.toContain("system");
});

test("does not wait for a process that git has left behind with its output open", async () => {
  const PATH = await pathWith("leaving", 'setsid sleep 600 & echo "$!"');
  const { exitCode, stdoutTail } = await git(["show"], { PATH });
  expect(exitCode).toBe(0);
  // Throws if the process is gone: then it would not have kept the output open.
  process.kill(Number(stdoutTail[0]), "SIGKILL");
});

test("an abort ends git with the signal's reason", async () => {
  const PATH = await pathWith("slow", "exec sleep 30");
  const reason = new Error("the run has ended");
  const abort = new AbortController();
  const ended = git(["show"], { PATH, signal: abort.signal });
  abort.abort(reason);
  await expect(ended).rejects.toBe(reason);
  await expect(git(["show"], { signal: abort.signal })).rejects.toBe(reason);
});

test("runs git once more when a signal has ended it", async () => {
  const PATH = await pathWith("interrupted", 'if mkdir "$HOME/once"; then kill -INT $$; fi; echo done');
  expect(await git(["show"], { PATH })).toMatchObject({ exitCode: 0, stdoutTail: ["done"] });
});

test("ends git when its output is too long", async () => {
  const PATH = await pathWith("endless", "exec yes");
  const { exitCode, stderrTail } = await git(["show"], { PATH });
  expect(exitCode).toBe(128);
  expect(stderrTail.join()).toContain("bytes of output");
});
