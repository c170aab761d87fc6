/** `bun run build --release`: what it refuses, what it makes, and its programs for other processors. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { generateKeyPairSync } from "node:crypto";
import { cp, mkdir, readdir, realpath, rename, stat } from "node:fs/promises";
import { dirname, join } from "node:path";
import type { Binaries } from "../../support/blacktree/binaries.ts";
import { startDeployment } from "../../support/blacktree/deployment.ts";
import { writeProgram } from "../../support/installation/commands.ts";
import { distribution, extractDebianPackages } from "../../support/machine/apt.ts";
import { inFullCheck } from "../../support/machine/full-check.ts";
import { type FinishedProcess, run } from "../../support/machine/processes.ts";
import { sampleRepository } from "../../support/machine/sample-repository.ts";
import { makeTempDir, type TempDir } from "../../support/machine/temp-dir.ts";
import { startBackends } from "../../support/servers/backends.ts";

// Compiling for another platform downloads its Bun.
setDefaultTimeout(600_000);

const PROJECT = join(import.meta.dir, "../../..");
const PROGRAMS = ["blacktree", "blacktree-orchestrator", "blacktree-worker"];

let folder: TempDir;
beforeAll(async () => {
  folder = await makeTempDir("release");
});
afterAll(() => folder.remove());

interface BuildOptions {
  readonly project?: string;
  readonly baseUrl?: string;
  readonly key?: string;
}

function build(
  dir: string,
  { project = PROJECT, baseUrl, key }: BuildOptions = {},
): Promise<FinishedProcess> {
  return run([process.execPath, join(project, "build.ts"), "--release", dir], {
    cwd: folder.path,
    env: { BLACKTREE_BASE_URL: baseUrl, BLACKTREE_SIGNING_KEY: key },
    mayFail: true,
    timeoutMs: 300_000,
  });
}

/** The files of the checkout with its packages: a link to packages elsewhere would lead to other paths in the programs. */
async function copyProject(dir: string): Promise<void> {
  await run(["git", "clone", "--quiet", "--shared", PROJECT, dir]);
  const list = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"];
  const { stdout } = await run(list, { cwd: PROJECT });
  const paths = stdout.split("\0").filter((path) => path !== "" && path !== "node_modules");
  for (const path of paths) await cp(join(PROJECT, path), join(dir, path));
  await run(["cp", "--archive", `${await realpath(join(PROJECT, "node_modules"))}`, dir]);
}

async function writeKey(name: string, type: "ed25519" | "x25519" = "ed25519"): Promise<string> {
  const path = join(folder.path, name);
  const { privateKey } = type === "ed25519" ? generateKeyPairSync(type) : generateKeyPairSync("x25519");
  await Bun.write(path, privateKey.export({ type: "pkcs8", format: "pem" }));
  return path;
}

describe("it refuses", () => {
  test("a folder with other files", async () => {
    const dir = join(folder.path, "documents");
    await Bun.write(join(dir, "letter.txt"), "");
    const { exitCode, stderr } = await build(dir);
    expect({ exitCode, stderr }).toEqual({
      exitCode: 1,
      stderr: expect.stringContaining("has other files than a release"),
    });
    expect(await readdir(dir)).toEqual(["letter.txt"]);
  });

  test("a key that is missing, or of another type", async () => {
    const absent = await build("one", { key: "absent.pem" });
    expect(absent).toMatchObject({
      exitCode: 1,
      stderr: expect.stringMatching(/absent\.pem cannot be read.*; expected the PEM file/),
    });
    const other = await build("one", { key: await writeKey("x25519.pem", "x25519") });
    expect(other).toMatchObject({
      exitCode: 1,
      stderr: expect.stringContaining("is of the type x25519; expected"),
    });
    expect(await readdir(folder.path)).not.toContain("one");
  });

  test("an address that a shell would not take as it stands", async () => {
    const { exitCode, stderr } = await build("one", { baseUrl: "https://example.com/$(id)" });
    expect({ exitCode, stderr }).toEqual({
      exitCode: 1,
      stderr: expect.stringContaining("is not a valid address; expected e.g."),
    });
  });

  test("an unknown flag", async () => {
    const { exitCode, stderr } = await run([process.execPath, join(PROJECT, "build.ts"), "--all"], {
      mayFail: true,
    });
    expect({ exitCode, stderr }).toEqual({
      exitCode: 1,
      stderr: expect.stringContaining("there are --if-changed and --release DIR"),
    });
  });
});

inFullCheck().describe("a release", () => {
  let project: string;
  let release: string;
  let key: string;

  beforeAll(async () => {
    project = join(folder.path, "project");
    await copyProject(project);
    release = join(folder.path, "first");
    const { exitCode, stdout, stderr } = await build(release, {
      project,
      baseUrl: "https://example.com/blacktree/",
    });
    expect({ exitCode, stderr }).toEqual({ exitCode: 0, stderr: "" });
    key = `${release}.signing-key.pem`;
    expect(stdout).toContain(`made the key ${key}`);
  });

  test("it contains the programs of both platforms, and a key of it is kept beside it", async () => {
    expect((await readdir(release)).sort()).toEqual([
      "LICENSE",
      "SHA256SUMS",
      "SHA256SUMS.sig",
      "docs",
      "install.sh",
      "linux-arm64",
      "linux-x64",
      "systemd",
    ]);
    for (const platform of ["linux-x64", "linux-arm64"])
      expect((await readdir(join(release, platform))).sort()).toEqual(PROGRAMS);
    expect(((await stat(key)).mode & 0o777).toString(8)).toBe("600");
    await run(["sha256sum", "--check", "--quiet", "--strict", "SHA256SUMS"], { cwd: release });
    expect(await Bun.file(join(release, "install.sh")).text()).toContain(
      "release_base='https://example.com/blacktree'\n",
    );
  });

  test("the same commit and key make the same files in another folder", async () => {
    const moved = join(folder.path, "another/deeper folder");
    await mkdir(dirname(moved));
    await rename(project, moved);
    const second = join(folder.path, "second");
    const built = await build(second, { project: moved, baseUrl: "https://example.com/blacktree", key });
    expect(built).toMatchObject({ exitCode: 0, stderr: "" });
    expect((await run(["diff", "--recursive", release, second], { mayFail: true })).stdout).toBe("");
  });

  describe("on other processors", () => {
    let qemu: TempDir;
    beforeAll(async () => {
      qemu = await makeTempDir("qemu");
      const { codename } = await distribution();
      await extractDebianPackages(["qemu-user-static"], codename, qemu.path);
      const libraries = ["libc6", "libgcc-s1", "libstdc++6"];
      await extractDebianPackages(libraries, codename, join(qemu.path, "arm64"), { architecture: "arm64" });
    });
    afterAll(() => qemu.remove());

    const onArm64 = (name: string) => [
      ...[join(qemu.path, "usr/bin/qemu-aarch64-static"), "-L", join(qemu.path, "arm64")],
      join(release, "linux-arm64", name),
    ];
    // A processor of 2008, without AVX.
    const onNehalem = (name: string) => [
      ...[join(qemu.path, "usr/bin/qemu-x86_64-static"), "-cpu", "Nehalem"],
      join(release, "linux-x64", name),
    ];

    test.each([
      ["arm64", onArm64],
      ["x64 without AVX", onNehalem],
    ])("%s: all programs start, and check their settings", async (_, command) => {
      for (const name of PROGRAMS)
        expect((await run([...command(name), "--version"])).stdout).toStartWith(`${name} `);
      const env = { RABBITMQ_URL: "amqp://localhost", REDIS_URL: "redis://localhost" };
      const orchestrator = ["--admin-listen", "off"];
      const worker = ["--orchestrator-addr", "localhost:5051", "--worker-region", "eu-west-1"];
      for (const [name, settings] of [
        ["blacktree-orchestrator", orchestrator],
        ["blacktree-worker", worker],
      ] as const)
        expect((await run([...command(name), "--check-config", ...settings], { env })).stdout).toContain(
          "BLACKTREE_LOG_LEVEL=info",
        );
    });

    test("arm64: a job passes through an orchestrator", async () => {
      const backends = await startBackends({ engine: "26.1" });
      backends.aws.addRepository("1234567890", "app-images");
      await backends.git.createRepository("owner/app", await sampleRepository());
      const deployment = await startDeployment(backends);
      try {
        const dir = join(folder.path, "arm64");
        const command = onArm64("blacktree-orchestrator")
          .map((word) => `'${word}'`)
          .join(" ");
        const path = await writeProgram(dir, "blacktree-orchestrator", `exec ${command} "$@"`);
        const binaries: Binaries = { dir, orchestrator: path, worker: path, cli: path };
        // Emulation is slow.
        const patience = { BLACKTREE_PING_INTERVAL: "20s", BLACKTREE_LEASE_TTL: "120s" };
        const orchestrator = await deployment.startOrchestrator(patience, binaries);
        await deployment.startWorker(orchestrator);
        const job = { branch: "main", aws_account: "1234567890", ecr_repo: "app-images" };
        await deployment.publish({ ...job, repo_url: "owner/app", deployment_version: "v1" });
        expect(await deployment.nextResult(240_000)).toMatchObject({ status: "SUCCESS", error: null });
      } finally {
        await deployment.stop();
        await backends.stop();
      }
    });
  });
});
