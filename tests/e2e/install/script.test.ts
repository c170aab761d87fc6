/** install.sh as a script: its options, an incomplete download, and the rules of its language. */
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { recordPrograms } from "../../support/installation/commands.ts";
import { makeRelease, type TestRelease } from "../../support/installation/release.ts";
import { inFullCheck } from "../../support/machine/full-check.ts";
import { type FinishedProcess, run } from "../../support/machine/processes.ts";
import { makeTempDir, type TempDir } from "../../support/machine/temp-dir.ts";

// Thousands of shells.
setDefaultTimeout(600_000);

let release: TestRelease;
let folder: TempDir;
let root: string;

beforeAll(async () => {
  [release, folder] = await Promise.all([makeRelease(), makeTempDir("script")]);
  root = join(folder.path, "root");
});
afterAll(() => Promise.all([release.remove(), folder.remove()]));

const install = (...args: string[]): Promise<FinishedProcess> =>
  run(["sh", release.script, ...args, "--root", root], { mayFail: true });

/** Cuts that run at the same time. */
const AT_ONCE = 8;

/**
 * Pipes beginnings of the script into a shell whose PATH has only programs that record their calls.
 * @returns lengths of those that ended without an error.
 */
async function runBeginnings(shell: string, programs: string, stepBytes: number): Promise<number[]> {
  const script = await Bun.file(release.script).bytes();
  // The end of line after the closing brace may be missing.
  const lengths = Array.from(
    { length: Math.ceil((script.length - 1) / stepBytes) },
    (_, index) => index * stepBytes,
  );
  lengths.push(...Array.from({ length: 20 }, (_, index) => script.length - 22 + index));
  const accepted: number[] = [];
  const runNext = async (): Promise<void> => {
    const length = lengths.shift();
    if (length === undefined) return;
    const child = Bun.spawn([shell, "-s", "--", "worker", "--region", "eu-west-1", "--root", root], {
      env: { PATH: programs },
      stdin: new Blob([script.subarray(0, length)]),
      stdout: "ignore",
      stderr: "ignore",
      cwd: folder.path,
    });
    if ((await child.exited) === 0) accepted.push(length);
    return runNext();
  };
  await Promise.all(Array.from({ length: AT_ONCE }, runNext));
  return accepted.sort((one, other) => one - other);
}

async function expectNoEffect(shellName: string, stepBytes: number): Promise<void> {
  const shell = Bun.which(shellName);
  if (shell === null) throw new Error(`${shellName} is not installed`);
  const log = join(folder.path, `log-${shellName}`);
  const programs = await recordPrograms(join(folder.path, `programs-${shellName}`), log);
  const accepted = await runBeginnings(shell, programs, stepBytes);
  expect(
    await Bun.file(log)
      .text()
      .catch(() => ""),
  ).toBe("");
  expect(await readdir(folder.path)).not.toContain("root");
  const firstBrace = (await Bun.file(release.script).text()).indexOf("\n{\n");
  // Comments only.
  expect(accepted.filter((length) => length > firstBrace + 1)).toEqual([]);
}

test("a script that is cut at any tenth byte, or within its last lines, runs no program and writes no file", () =>
  expectNoEffect("sh", 10));

inFullCheck().test("it is the same with bash, and at every byte", async () => {
  await expectNoEffect("bash", 10);
  await expectNoEffect("dash", 1);
});

test("the whole script, through a pipe, installs", async () => {
  const target = join(folder.path, "piped");
  const args = ["worker", "--region", "eu-west-1", "--from", release.dir, "--root", target];
  await run(["sh", "-s", "--", ...args], { stdin: await Bun.file(release.script).bytes() });
  expect(await readdir(join(target, "usr/local/bin"))).toEqual(["blacktree", "blacktree-worker"]);
});

test.each([
  [[], "name the daemon to install"],
  [["both"], "unknown argument: both"],
  [["orchestrator", "worker"], "only one of"],
  [["worker"], "needs --region"],
  [["worker", "--region"], "--region needs a value"],
  [["worker", "--region", "../../etc"], "expected letters"],
  [["worker", "--region", "_eu"], "expected letters"],
  [["worker", "--region", "eu", "--orchestrator", "host"], "expected host:port"],
  [["worker", "--region", "eu", "--orchestrator", "host:5051,host:"], "expected host:port"],
  [["worker", "--region", "eu", "--orchestrator", "host:50 51"], "expected host:port"],
  [["orchestrator", "--orchestrator", "host:5051"], "is an option of a worker"],
  [["orchestrator", "--purge"], "only used with --uninstall"],
  [["--uninstall", "--region", "eu"], "needs orchestrator or worker"],
])("%j is wrong usage", async (args, errorText) => {
  const { exitCode, stderr } = await install(...args);
  expect({ exitCode, stderr }).toEqual({ exitCode: 2, stderr: expect.stringContaining(errorText) });
  expect(await readdir(folder.path)).not.toContain("root");
});

test("--version and --help change nothing", async () => {
  expect((await install("--version")).stdout).toBe(
    `install.sh of Blacktree 1.2.3 (commit ${"0".repeat(40)})\n`,
  );
  const help = await install("--help");
  expect(help.stdout).toStartWith("Usage: install.sh");
  // Every option that the script accepts.
  const script = await Bun.file(release.script).text();
  const [, cases = ""] = /^parse_arguments\(\) {\n(.*?)^}/ms.exec(script) ?? [];
  const options = new Set([...cases.matchAll(/(?<=^ +.*)--[a-z-]+(?=[ |)])/gm)].map(([option]) => option));
  expect(options.size).toBeGreaterThan(10);
  for (const option of options) expect(help.stdout).toContain(option);
});

test("--dry-run names every change, and makes none", async () => {
  const dry = await install("worker", "--region", "eu-west-1", "--dry-run");
  expect(dry).toMatchObject({ exitCode: 0, stderr: "" });
  expect(await readdir(folder.path)).not.toContain("root");
  const { stdout } = await install("worker", "--region", "eu-west-1");
  const named = (text: string, verb: string) => text.split("\n").filter((line) => line.startsWith(verb));
  expect(
    named(dry.stdout, "would install  ")
      .map((line) => line.replace("would install  ", ""))
      .sort(),
  ).toEqual(
    named(stdout, "installed  ")
      .map((line) => line.replace("installed  ", ""))
      .sort(),
  );
});
