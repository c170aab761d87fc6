/** The files that install.sh writes, keeps, replaces and removes. */
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from "bun:test";
import { appendFile, readdir, stat } from "node:fs/promises";
import { join } from "node:path";
import { writeProgram } from "../../support/installation/commands.ts";
import { makeRelease, type TestRelease } from "../../support/installation/release.ts";
import { type FinishedProcess, run } from "../../support/machine/processes.ts";
import { makeTempDir, type TempDir } from "../../support/machine/temp-dir.ts";
import { writeFiles } from "../../support/machine/write-files.ts";

let release: TestRelease;
let root: TempDir;

beforeAll(async () => {
  release = await makeRelease();
});
afterAll(() => release.remove());
beforeEach(async () => {
  root = await makeTempDir("root");
});
afterEach(() => root.remove());

const install = (...args: string[]): Promise<FinishedProcess> =>
  run(["sh", release.script, ...args, "--root", root.path], { mayFail: true });
const installWorker = (...args: string[]) => install("worker", "--region", "us-east-1", ...args);
const pathOf = (path: string) => join(root.path, path);
const textOf = (path: string) => Bun.file(pathOf(path)).text();
const modeOf = async (path: string) => ((await stat(pathOf(path))).mode & 0o777).toString(8);

const UNIT = "etc/systemd/system/blacktree-worker@.service";
const SETTINGS = "etc/blacktree/worker-us-east-1.env";
const DOCS = "usr/local/share/doc/blacktree";

/** Without the documentation. */
async function installed(): Promise<string[]> {
  const entries = await readdir(root.path, { recursive: true, withFileTypes: true });
  return entries
    .filter((entry) => !entry.isDirectory())
    .map((entry) => join(entry.parentPath, entry.name).slice(root.path.length + 1))
    .filter((path) => !path.startsWith(`${DOCS}/`))
    .sort();
}

test("a worker: programs, unit, target, settings, and the documentation that they name", async () => {
  expect(await installWorker()).toMatchObject({ exitCode: 0, stderr: "" });
  expect(await installed()).toEqual([
    SETTINGS,
    UNIT,
    "etc/systemd/system/blacktree.target",
    "usr/local/bin/blacktree",
    "usr/local/bin/blacktree-worker",
  ]);
  expect(await readdir(pathOf(DOCS))).toContain("blacktreebuilds.slice");
  const [, named = ""] = /(\S+\/settings\.md) explains/.exec(await textOf(SETTINGS)) ?? [];
  expect(await textOf(named)).toStartWith("# Settings");
  expect(await modeOf("etc/blacktree")).toBe("755");
  expect(await modeOf(SETTINGS)).toBe("640");
  expect(await modeOf("usr/local/bin/blacktree-worker")).toBe("755");
  expect(await modeOf(UNIT)).toBe("644");
});

async function installOn(system: string, machine: string): Promise<FinishedProcess> {
  const bin = await makeTempDir("bin");
  try {
    await writeProgram(bin.path, "uname", `case $1 in -s) echo ${system} ;; -m) echo ${machine} ;; esac`);
    const command = ["sh", release.script, "worker", "--region", "us-east-1", "--root", root.path];
    return await run(command, { env: { PATH: `${bin.path}:${process.env.PATH}` }, mayFail: true });
  } finally {
    await bin.remove();
  }
}

test.each([
  ["x86_64", "linux-x64"],
  ["aarch64", "linux-arm64"],
  ["arm64", "linux-arm64"],
])("on %s, the programs for %s", async (machine, platform) => {
  expect(await installOn("Linux", machine)).toMatchObject({ exitCode: 0, stderr: "" });
  expect(await textOf("usr/local/bin/blacktree-worker")).toContain(`for ${platform}`);
});

test.each([
  ["Linux", "riscv64"],
  ["Darwin", "arm64"],
])("on %s on %s, nothing", async (system, machine) => {
  expect(await installOn(system, machine)).toMatchObject({
    exitCode: 1,
    stderr: `install.sh: Blacktree runs on Linux on x86_64 and arm64, and this is ${system} on ${machine}\n`,
  });
  expect(await installed()).toEqual([]);
});

test("an orchestrator: both units, and no worker's files", async () => {
  await install("orchestrator");
  await install("orchestrator", "--region", "eu-west-1");
  expect(await installed()).toEqual([
    "etc/blacktree/orchestrator-eu-west-1.env",
    "etc/blacktree/orchestrator.env",
    "etc/systemd/system/blacktree-orchestrator.service",
    "etc/systemd/system/blacktree-orchestrator@.service",
    "etc/systemd/system/blacktree.target",
    "usr/local/bin/blacktree",
    "usr/local/bin/blacktree-orchestrator",
  ]);
  expect(await textOf("etc/blacktree/orchestrator.env")).toContain("\n#BLACKTREE_REGION=us-east-1\n");
  expect(await textOf("etc/blacktree/orchestrator-eu-west-1.env")).toContain(
    '\nBLACKTREE_REGION="eu-west-1"\n',
  );
});

test("options fill in new settings, and differences from kept settings are named", async () => {
  await installWorker("--orchestrator", "one.example.com:5051,[fd00::1]:5051");
  const settings = await textOf(SETTINGS);
  expect(settings).toContain('\nBLACKTREE_ORCHESTRATOR_ADDR="one.example.com:5051,[fd00::1]:5051"\n');

  expect((await installWorker("--orchestrator", "one.example.com:5051,[fd00::1]:5051")).stderr).toBe("");
  const { exitCode, stdout, stderr } = await installWorker("--orchestrator", "two.example.com:5051");
  expect({ exitCode, stdout }).toEqual({
    exitCode: 0,
    stdout: expect.stringContaining(`kept       ${pathOf(SETTINGS)}`),
  });
  expect(stderr).toContain(
    `BLACKTREE_ORCHESTRATOR_ADDR was given with another value than in ${pathOf(SETTINGS)}, which is kept`,
  );
  expect(await textOf(SETTINGS)).toBe(settings);
});

test("a worker gets the reuse key of the environment, or a new one", async () => {
  await installWorker();
  expect(await textOf(SETTINGS)).toMatch(/^BLACKTREE_REUSE_KEY=[0-9a-f]{64}$/m);
  const key = "0123456789abcdef".repeat(4);
  const command = ["sh", release.script, "worker", "--region", "eu-west-1", "--root", root.path];
  await run(command, { env: { BLACKTREE_REUSE_KEY: key } });
  expect(await textOf("etc/blacktree/worker-eu-west-1.env")).toContain(`\nBLACKTREE_REUSE_KEY="${key}"\n`);
});

test("a worker gets the id of the environment; on an image for many machines, each start makes one", async () => {
  await installWorker();
  expect(await textOf(SETTINGS)).toMatch(/^#BLACKTREE_WORKER_ID=\S+$/m);
  const command = ["sh", release.script, "worker", "--region", "eu-west-1", "--root", root.path];
  await run(command, { env: { BLACKTREE_WORKER_ID: "builder-7" } });
  expect(await textOf("etc/blacktree/worker-eu-west-1.env")).toContain('\nBLACKTREE_WORKER_ID="builder-7"\n');
});

test("a second installation replaces programs and units, and keeps settings", async () => {
  await installWorker();
  const files = await installed();
  await appendFile(pathOf(SETTINGS), "BLACKTREE_WORKER_SLOTS=4\n");
  const settings = await textOf(SETTINGS);
  await writeFiles(root.path, { "usr/local/bin/blacktree-worker": "an older one", [UNIT]: "an older one" });

  const { exitCode, stdout } = await installWorker();
  expect(exitCode).toBe(0);
  expect(stdout.match(/^installed .*(bin|systemd).*$/gm)).toHaveLength(2);
  expect(await installed()).toEqual(files);
  expect(await textOf(SETTINGS)).toBe(settings);
  expect(await textOf("usr/local/bin/blacktree-worker")).toContain("echo blacktree-worker");
  expect(await textOf(UNIT)).toContain("[Service]");
});

test("without certificates in its folder, --tls-dir names what is missing", async () => {
  const { exitCode, stderr } = await installWorker("--tls-dir", "/nowhere");
  expect({ exitCode, stderr }).toEqual({
    exitCode: 2,
    stderr: "install.sh: --tls-dir /nowhere: ca.pem not found; expected ca.pem, worker.pem and worker.key\n",
  });
  expect(await installed()).toEqual([]);
});

test("--uninstall keeps the settings, and the programs of the other role", async () => {
  await install("orchestrator");
  await installWorker();
  expect((await install("worker", "--uninstall")).exitCode).toBe(0);
  expect(await installed()).toEqual([
    "etc/blacktree/orchestrator.env",
    SETTINGS,
    "etc/systemd/system/blacktree-orchestrator.service",
    "etc/systemd/system/blacktree-orchestrator@.service",
    "etc/systemd/system/blacktree.target",
    "usr/local/bin/blacktree",
    "usr/local/bin/blacktree-orchestrator",
  ]);
  expect((await install("orchestrator", "--uninstall")).exitCode).toBe(0);
  expect(await installed()).toEqual(["etc/blacktree/orchestrator.env", SETTINGS]);
  expect(await readdir(pathOf("usr/local/share"))).toEqual([]);
  expect((await install("--uninstall")).exitCode).toBe(0);
});

test("--purge removes settings and data of its role, or of one region, or everything", async () => {
  await install("orchestrator");
  await installWorker();
  await install("worker", "--region", "eu-west-1");
  const data = ["us-east-1", "eu-west-1"].flatMap((region) => [
    `var/lib/blacktree/worker-${region}/runs/file`,
    `var/lib/blacktree/orchestrator-${region}/logs/file`,
  ]);
  data.push("var/lib/blacktree/logs/file");
  await writeFiles(root.path, Object.fromEntries(data.map((path) => [path, ""])));

  await install("orchestrator", "--uninstall", "--purge", "--region", "us-east-1");
  const logs = (await installed()).filter((path) => path.includes("/logs/"));
  expect(logs).toEqual(["var/lib/blacktree/logs/file", "var/lib/blacktree/orchestrator-eu-west-1/logs/file"]);
  await install("orchestrator");

  expect((await installWorker("--uninstall", "--purge", "--dry-run")).stdout).toContain(
    `would remove   ${pathOf(SETTINGS)}\n`,
  );
  expect(await installed()).toContain(SETTINGS);
  await installWorker("--uninstall", "--purge");
  const left = await installed();
  expect(left.filter((path) => path.includes("us-east-1"))).toEqual([]);
  expect(left).toContain("etc/blacktree/worker-eu-west-1.env");

  await install("worker", "--uninstall", "--purge");
  expect((await installed()).filter((path) => path.includes("worker"))).toEqual([]);
  expect(await installed()).toContain("etc/blacktree/orchestrator.env");
  await install("--uninstall", "--purge");
  expect(await installed()).toEqual([]);
});

test("a release without the unit of the service is refused", async () => {
  const list = await makeRelease();
  try {
    const sums = await Bun.file(join(list.dir, "SHA256SUMS")).text();
    await Bun.write(join(list.dir, "SHA256SUMS"), sums.replace(/^.*worker@\.service\n/m, ""));
    const finished = await run(
      ["sh", list.script, "worker", "--region", "eu", "--skip-signature", "--root", root.path],
      { mayFail: true },
    );
    expect(finished.exitCode).toBe(1);
    expect(finished.stderr).toContain(
      "does not contain systemd/blacktree-worker@.service; nothing was installed",
    );
    expect(await installed()).toEqual([]);
  } finally {
    await list.remove();
  }
});
