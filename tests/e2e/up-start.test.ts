/** The first minutes with `blacktree up`: what it prints on a terminal, and what it says when something is missing. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { createServer, type Server } from "node:net";
import { join } from "node:path";
import { compiledBinaries } from "../support/blacktree/binaries.ts";
import { run, startProcess, type TestProcess } from "../support/machine/processes.ts";
import { sampleRepository } from "../support/machine/sample-repository.ts";
import { makeTempDir, type TempDir } from "../support/machine/temp-dir.ts";
import type { DockerEngine } from "../support/servers/docker-engines.ts";
import { type GitServer, startGitServer } from "../support/servers/git-server.ts";
import { borrowDockerEngine } from "../support/servers/pool.ts";
import { type Registry, startRegistry } from "../support/servers/registry.ts";

let blacktree: string;
let docker: DockerEngine;
let registry: Registry;
let git: GitServer;
let folder: TempDir;
let occupied: Server;
let up: TestProcess | undefined;

beforeAll(async () => {
  const credentials = { username: "somebody", password: "of-the-registry" };
  [{ cli: blacktree }, docker, registry, git, folder] = await Promise.all([
    compiledBinaries(),
    borrowDockerEngine("26.1"),
    startRegistry({ credentials }),
    startGitServer(),
    makeTempDir("up-start"),
  ]);
  await git.createRepository("owner/working", await sampleRepository());
  occupied = createServer();
  await new Promise<void>((resolve) => occupied.listen(0, "127.0.0.1", resolve));
});

afterAll(async () => {
  await up?.stop();
  occupied?.close();
  await Promise.all([docker?.stop(), registry?.stop(), git?.stop()]);
  await folder?.remove();
});

/** Without AWS credentials, wherever this machine may have them. */
const NO_CREDENTIALS = {
  AWS_PROFILE: undefined,
  AWS_ACCESS_KEY_ID: undefined,
  AWS_SECRET_ACCESS_KEY: undefined,
  AWS_SHARED_CREDENTIALS_FILE: "/dev/null",
  AWS_CONFIG_FILE: "/dev/null",
  AWS_EC2_METADATA_DISABLED: "true",
};

const workDir = () => join(folder.path, "work");
const withRegistry = () => ["--registry", registry.host, "--registry-username", registry.username];

/** Flags of `up`, variables, and what it says. */
type MissingCase = readonly [
  string,
  () => readonly string[],
  () => Record<string, string | undefined>,
  RegExp,
];

const MISSING: readonly MissingCase[] = [
  [
    "git",
    withRegistry,
    () => ({ PATH: folder.path }),
    /git is not installed, or not in PATH\. Install the package git/,
  ],
  [
    "a Docker that answers",
    withRegistry,
    () => ({ DOCKER_HOST: `unix://${folder.path}/none.sock` }),
    /no docker on this host can build images.*start the engine/,
  ],
  [
    "AWS credentials",
    () => [],
    () => docker.env(),
    /no AWS credentials from .*set AWS_PROFILE.*set --registry/,
  ],
  [
    "a usable work folder",
    () => [...withRegistry(), "--work-dir", "/dev/null"],
    () => docker.env(),
    /the work folder \/dev\/null cannot be used: it is a file\. .*--work-dir/,
  ],
  [
    "a free port",
    () => [...withRegistry(), "--admin-listen", `127.0.0.1:${(occupied.address() as { port: number }).port}`],
    () => docker.env(),
    /cannot listen for the admin API on 127\.0\.0\.1:\d+: .*\(EADDRINUSE\)\. .*--admin-listen/,
  ],
];

test.each(MISSING)(
  "up without %s ends at once, in one line that names the remedy",
  async (_, flags, env, says) => {
    const base = ["--work-dir", workDir(), "--admin-listen", "127.0.0.1:0", "--log-format", "text"];
    const { exitCode, stdout, stderr } = await run([blacktree, "up", ...base, ...flags()], {
      env: { ...NO_CREDENTIALS, BLACKTREE_REGISTRY_PASSWORD: registry.password, ...env() },
      mayFail: true,
    });
    expect(stderr).toMatch(says);
    expect(stderr.trimEnd().split("\n")).toHaveLength(1);
    expect(stdout).not.toContain("    at ");
    expect(exitCode).toBe(1);
  },
);

test("on a terminal, up prints no JSON", async () => {
  const command = `${blacktree} up --work-dir ${workDir()} --admin-listen 127.0.0.1:0 --registry ${registry.host}`;
  const { stdout } = await run(["script", "--quiet", "--return", "--command", command, "/dev/null"], {
    env: { DOCKER_HOST: `unix://${folder.path}/none.sock` },
    mayFail: true,
  });
  expect(stdout).toContain("blacktree starts");
  expect(stdout).toContain("no docker on this host can build images");
  expect(stdout).not.toContain('{"');
});

test("up says when it is ready, and the command that it prints works; Ctrl-C ends it without a complaint", async () => {
  const flags = ["--work-dir", workDir(), "--admin-listen", "127.0.0.1:0", "--git-base-url", git.baseUrl];
  // A ping that a busy machine misses would be a warning.
  const times = ["--ping-interval", "30s", "--lease-ttl", "5m"];
  up = startProcess([blacktree, "up", "--log-format", "text", ...times, ...flags, ...withRegistry()], {
    env: { ...docker.env(), BLACKTREE_REGISTRY_PASSWORD: registry.password },
  });
  await up.waitForLine("Ctrl-C stops after", { timeoutMs: 90_000 });
  const first = up.stdoutLines.findIndex((line) => line.startsWith("Ready."));
  const command = up.stdoutLines.slice(first + 1, first + 3).join("\n");
  const submit = command.replace("OWNER/NAME", "owner/working");
  const submitted = await run(["sh", "-c", submit], { timeoutMs: 120_000 });
  expect(submitted.stdout).toMatch(/^SUCCESS in /m);
  expect(await registry.getManifest("app-images", "v1.0.0")).toBeDefined();

  up.signal("SIGINT");
  expect(await up.exited).toBe(0);
  const output = up.lines.join("\n");
  expect(output).toContain("blacktree stopped");
  expect(output).not.toContain('{"');
  expect(output).not.toMatch(/WARN|ERROR|^ {4}at /m);
});
