import {
  afterAll,
  afterEach,
  beforeAll,
  beforeEach,
  describe,
  expect,
  setDefaultTimeout,
  test,
} from "bun:test";
import { appendFile, mkdir, readdir, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { compiledBinaries } from "../support/blacktree/binaries.ts";
import { type FinishedProcess, run } from "../support/machine/processes.ts";
import { makeTempDir, type TempDir } from "../support/machine/temp-dir.ts";
import { writeFiles } from "../support/machine/write-files.ts";

// The first file that needs the binaries compiles them.
setDefaultTimeout(120_000);

const project = join(import.meta.dir, "../..");
const script = join(project, "install.sh");

let root: TempDir;
beforeEach(async () => {
  root = await makeTempDir("root");
});
afterEach(() => root.remove());

function install(...args: string[]): Promise<FinishedProcess> {
  return run(["sh", script, ...args, "--root", root.path], { cwd: project, mayFail: true });
}

const modeOf = async (path: string) => ((await stat(join(root.path, path))).mode & 0o777).toString(8);
const textOf = (path: string) => Bun.file(join(root.path, path)).text();

async function installed(): Promise<string[]> {
  const entries = await readdir(root.path, { recursive: true, withFileTypes: true });
  return entries
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name).slice(root.path.length + 1))
    .sort();
}

describe("install.sh with the compiled programs", () => {
  let dist: string;
  beforeAll(async () => {
    dist = (await compiledBinaries()).dir;
  });

  test("a worker's program runs, with its unit and settings in place", async () => {
    const { exitCode, stdout } = await install("worker", "--region", "us-east-1", "--from", dist);
    expect(exitCode).toBe(0);
    expect(await installed()).toEqual([
      "etc/blacktree/worker-us-east-1.env",
      "etc/systemd/system/blacktree-worker@.service",
      "etc/systemd/system/blacktree.target",
      "usr/local/bin/blacktree",
      "usr/local/bin/blacktree-worker",
    ]);
    expect(stdout).toContain("worker-us-east-1.env");
    const program = join(root.path, "usr/local/bin/blacktree-worker");
    expect((await run([program, "--version"])).stdout).toStartWith("blacktree-worker ");
  });
});

describe("install.sh with stand-ins for the programs", () => {
  const PROGRAMS = ["blacktree", "blacktree-orchestrator", "blacktree-worker"];
  let from: TempDir;

  beforeAll(async () => {
    from = await makeTempDir("from");
  });
  afterAll(() => from.remove());
  beforeEach(() => fill(from.path));

  async function fill(folder: string): Promise<void> {
    await rm(folder, { recursive: true, force: true });
    await mkdir(folder, { recursive: true });
    await writeFiles(folder, Object.fromEntries(PROGRAMS.map((name) => [name, `#!/bin/sh\necho ${name}\n`])));
    for (const name of PROGRAMS) {
      const { stdout } = await run(["sha256sum", name], { cwd: folder });
      await Bun.write(join(folder, `${name}.sha256`), stdout);
    }
  }

  test("only root and the service can read the settings", async () => {
    expect((await install("orchestrator", "--from", from.path)).exitCode).toBe(0);
    expect(await modeOf("etc/blacktree")).toBe("755");
    expect(await modeOf("etc/blacktree/orchestrator.env")).toBe("640");
    expect(await modeOf("usr/local/bin/blacktree-orchestrator")).toBe("755");
    expect(await modeOf("etc/systemd/system/blacktree-orchestrator.service")).toBe("644");
  });

  test("a second installation replaces programs and units, and keeps settings", async () => {
    await install("orchestrator", "--from", from.path);
    const first = await installed();
    await appendFile(join(root.path, "etc/blacktree/orchestrator.env"), "BLACKTREE_REGION=eu-west-1\n");
    const settings = await textOf("etc/blacktree/orchestrator.env");
    await Bun.write(join(root.path, "usr/local/bin/blacktree-orchestrator"), "an older one");
    await Bun.write(join(root.path, "etc/systemd/system/blacktree-orchestrator.service"), "an older one");

    const { exitCode, stdout } = await install("orchestrator", "--from", from.path);
    expect(exitCode).toBe(0);
    expect(stdout).toMatch(/^kept .*orchestrator\.env$/m);
    expect(await installed()).toEqual(first);
    expect(await textOf("etc/blacktree/orchestrator.env")).toBe(settings);
    expect(await textOf("usr/local/bin/blacktree-orchestrator")).toContain("echo blacktree-orchestrator");
    expect(await textOf("etc/systemd/system/blacktree-orchestrator.service")).toContain("[Service]");
  });

  test("programs for this machine's platform are found below the folder", async () => {
    const platform = `${process.platform}-${process.arch}`;
    const folder = join(from.path, "all");
    await fill(join(folder, platform));
    const { exitCode } = await install("worker", "--region", "eu-west-1", "--from", folder);
    expect(exitCode).toBe(0);
    expect(await textOf("usr/local/bin/blacktree-worker")).toContain("echo blacktree-worker");
  });

  const refusals: [string, (folder: string) => Promise<unknown>, string][] = [
    [
      "changed",
      (folder) => appendFile(join(folder, "blacktree-worker"), "#"),
      "blacktree-worker does not match",
    ],
    [
      "without a checksum",
      (folder) => rm(join(folder, "blacktree-worker.sha256")),
      "blacktree-worker.sha256 is missing",
    ],
    [
      "with an empty checksum",
      (folder) => Bun.write(join(folder, "blacktree.sha256"), ""),
      "blacktree does not match",
    ],
    ["missing", (folder) => rm(join(folder, "blacktree-worker")), "blacktree-worker not found"],
  ];
  test.each(refusals)(
    "a program that is %s is refused, and nothing is installed",
    async (_, spoil, errorText) => {
      await spoil(from.path);
      const { exitCode, stderr } = await install("worker", "--region", "us-east-1", "--from", from.path);
      expect(exitCode).toBe(1);
      expect(stderr).toContain(errorText);
      expect(await installed()).toEqual([]);
    },
  );

  test.each([
    [[], "say what to install"],
    [["both"], "unknown argument: both"],
    [["orchestrator", "worker"], "only one of"],
    [["worker"], "needs --region"],
    [["worker", "--region", "../../etc"], "expected letters"],
    [["worker", "--region"], "--region"],
  ])("%j is wrong usage", async (args, errorText) => {
    const { exitCode, stderr } = await install(...args);
    expect(exitCode).toBe(2);
    expect(stderr).toContain(errorText);
    expect(await installed()).toEqual([]);
  });

  test("it works through a pipe, and an incomplete script does nothing", async () => {
    const text = await Bun.file(script).text();
    const pipe = (stdin: string) =>
      run(["sh", "-s", "--", "orchestrator", "--from", from.path, "--root", root.path], {
        cwd: project,
        stdin,
        mayFail: true,
      });
    const lines = text.trimEnd().split("\n");
    expect(lines.at(-1)).toBe('blacktree_install "$@"');
    await pipe(`${lines.slice(0, -1).join("\n")}\n`);
    expect(await installed()).toEqual([]);
    expect((await pipe(text)).exitCode).toBe(0);
    expect(await installed()).toContain("usr/local/bin/blacktree-orchestrator");
  });

  test("after uninstalling, only the settings remain", async () => {
    await install("orchestrator", "--from", from.path);
    await install("worker", "--region", "us-east-1", "--from", from.path);
    expect((await install("orchestrator", "--uninstall")).exitCode).toBe(0);
    expect(await installed()).toContain("usr/local/bin/blacktree");
    expect((await install("worker", "--uninstall")).exitCode).toBe(0);
    expect(await installed()).toEqual([
      "etc/blacktree/orchestrator.env",
      "etc/blacktree/worker-us-east-1.env",
    ]);
    expect((await install("worker", "--uninstall")).exitCode).toBe(0);
  });
});
