/** `blacktree up` and its client commands: a whole Blacktree in one process, as for a first trial. */
import { afterAll, afterEach, beforeAll, describe, expect, test } from "bun:test";
import { randomUUID } from "node:crypto";
import { readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { apiRequest } from "../support/blacktree/admin-api.ts";
import { compiledBinaries } from "../support/blacktree/binaries.ts";
import { SUCCESS_SCHEMA } from "../support/blacktree/result-schema.ts";
import { runFolders } from "../support/blacktree/run-folders.ts";
import { commandLines } from "../support/blacktree/running-programs.ts";
import { launchUp, type Up, untilUp } from "../support/blacktree/up.ts";
import { inFullCheck } from "../support/machine/full-check.ts";
import { run, startProcess, type TestProcess } from "../support/machine/processes.ts";
import { sampleRepository } from "../support/machine/sample-repository.ts";
import { makeTempDir, type TempDir } from "../support/machine/temp-dir.ts";
import { waitFor } from "../support/machine/wait-for.ts";
import { type Aws, startAws } from "../support/servers/aws.ts";
import type { DockerEngine } from "../support/servers/docker-engines.ts";
import { type GitServer, startGitServer } from "../support/servers/git-server.ts";
import { borrowDockerEngine } from "../support/servers/pool.ts";
import { type Registry, startRegistry } from "../support/servers/registry.ts";
import { type RegistryProxy, startRegistryProxy } from "../support/servers/registry-proxy.ts";

/** Unique on this machine, since all its processes are searched. */
const SLOW_BUILD_SECONDS = 8 + (process.pid % 100_000) / 1_000_000;
/** Longer than any test waits. */
const ENDLESS_BUILD_SECONDS = 10_000 + SLOW_BUILD_SECONDS;

/** On a busy machine. */
const STEP_TIMEOUT_MS = 90_000;

let blacktree: string;
let registry: Registry;
let git: GitServer;
let docker: DockerEngine;
let folder: TempDir;
const running: TestProcess[] = [];

beforeAll(async () => {
  const credentials = { username: "somebody", password: `registry-${randomUUID()}` };
  [{ cli: blacktree }, registry, git, docker, folder] = await Promise.all([
    compiledBinaries(),
    startRegistry({ credentials }),
    startGitServer(),
    borrowDockerEngine("26.1"),
    makeTempDir("up"),
  ]);
  await git.createRepository("owner/working", await sampleRepository());
  await git.createRepository("owner/failing", await sampleRepository({ variant: "failing" }));
  const slow = await sampleRepository({ variant: "slow", sleepSeconds: SLOW_BUILD_SECONDS });
  const endless = await sampleRepository({ variant: "slow", sleepSeconds: ENDLESS_BUILD_SECONDS });
  await git.createRepository("owner/endless", endless);
  // A repository for each test, since a built step is cached. So may be a cancelled one: BuildKit lets a step end by
  // itself when it is stopped at the moment at which the step's container starts (moby/buildkit#2855).
  await git.createRepository("owner/frozen", { ...slow, greeting: "frozen\n" });
  await git.createRepository("owner/killed", { ...slow, greeting: "killed\n" });
});

afterAll(async () => {
  await Promise.all([registry?.stop(), git?.stop(), docker?.stop()]);
  await folder?.remove();
});

async function untilRunStep(seconds = SLOW_BUILD_SECONDS): Promise<void> {
  await waitFor(() => isSleeping(seconds), { timeoutMs: STEP_TIMEOUT_MS, what: "the RUN step" });
}

async function isSleeping(seconds = SLOW_BUILD_SECONDS): Promise<boolean> {
  return (await commandLines()).some((line) => line.endsWith(`sleep ${seconds}`));
}

const newWorkDir = () => join(folder.path, randomUUID().slice(0, 8));

function plainRegistryEnv(): Record<string, string> {
  return {
    BLACKTREE_REGISTRY_USERNAME: registry.username,
    BLACKTREE_REGISTRY_PASSWORD: registry.password,
  };
}

async function startUp(
  args: readonly string[],
  workDir: string,
  env: Record<string, string> = plainRegistryEnv(),
): Promise<TestProcess> {
  const allArgs = ["--git-base-url", git.baseUrl, ...args];
  const process = await launchUp({ workDir, args: allArgs, env: { ...docker.env(), ...env } });
  running.push(process);
  return process;
}

/** Resolves when its worker is registered. */
async function up(
  args: readonly string[],
  workDir = newWorkDir(),
  env?: Record<string, string>,
): Promise<Up> {
  return untilUp(await startUp(args, workDir, env), workDir);
}

const upWithRegistry = (workDir?: string) => up(["--registry", registry.host], workDir);

async function stopAll(): Promise<void> {
  await Promise.all(running.splice(0).map((process) => process.stop()));
}

function jobFlags(repository: string, version: string): string[] {
  const job = ["--repo", repository, "--branch", "main", "--version", version];
  return [...job, "--account", "1234567890", "--ecr-repo", "app-images"];
}

describe("up with a named registry", () => {
  let started: Up;

  beforeAll(async () => {
    // A worker that misses a ping on a busy machine would be shown as lost.
    started = await up(["--registry", registry.host, "--ping-interval", "30s", "--lease-ttl", "5m"]);
  });
  afterAll(stopAll);

  test("submit --wait follows the log, and succeeds with the job", async () => {
    const { cli, apiUrl, workDir } = started;
    const { exitCode, stdout } = await cli("submit", "--wait", ...jobFlags("owner/working", "v-wait"));
    expect(stdout).toContain("the RUN step works");
    expect(stdout).toMatch(/^--- CLONING$/m);
    expect(stdout).toMatch(/^SUCCESS in /m);
    expect(exitCode).toBe(0);
    const pushed = await registry.getManifest("app-images", "v-wait");
    expect(stdout).toContain(`${registry.host}/app-images:v-wait`);
    expect(stdout).toContain(`${pushed?.digest}`);
    expect((await fetch(`${apiUrl}/readyz`)).status).toBe(200);
    // It contains bodies as they were submitted.
    expect((await stat(join(workDir, "blacktree.db"))).mode & 0o777).toBe(0o600);
    const keyFile = join(workDir, "reuse-key");
    expect((await stat(keyFile)).mode & 0o777).toBe(0o600);
    const key = (await readFile(keyFile, "utf8")).trim();
    expect(key).toMatch(/^[0-9a-f]{64}$/);
    expect(started.process.lines.join("\n")).not.toContain(key);
  });

  inFullCheck().test("a job may reuse the image of another version, also after a restart", async () => {
    const workDir = newWorkDir();
    const digests: (string | undefined)[] = [];
    const outputs: string[] = [];
    for (const deployment_version of ["v-first", "v-reused"]) {
      const { cli, process } = await upWithRegistry(workDir);
      const file = join(folder.path, `${deployment_version}.json`);
      const job = { repo_url: "owner/working", branch: "main", aws_account: "1234567890" };
      const target = { deployment_version, ecr_repo: "reused-images", reuse: "same-commit" };
      await Bun.write(file, JSON.stringify({ ...job, ...target }));
      outputs.push((await cli("submit", "--wait", "--file", file)).stdout);
      digests.push((await registry.getManifest("reused-images", deployment_version))?.digest);
      await process.stop();
    }
    expect(outputs[0]).toContain("--- BUILDING");
    expect(outputs[1]).toMatch(/^SUCCESS in /m);
    expect(outputs[1]).not.toContain("--- BUILDING");
    expect(digests[1]).toBe(`${digests[0]}`);
  });

  test("its reuse key proves an image after a loss of its records; a damaged key is reported, and not replaced", async () => {
    const workDir = newWorkDir();
    const job = jobFlags("owner/working", "v-proven");
    const outputs: string[] = [];
    for (let starts = 0; starts < 2; starts++) {
      const { cli, process } = await upWithRegistry(workDir);
      outputs.push((await cli("submit", "--wait", ...job)).stdout);
      await process.stop();
      for (const suffix of ["", "-wal", "-shm"])
        await rm(join(workDir, `blacktree.db${suffix}`), { force: true });
    }
    expect(outputs[0]).toContain("--- BUILDING");
    expect(outputs[1]).toMatch(/^SUCCESS in /m);
    expect(outputs[1]).not.toContain("--- BUILDING");

    const keyFile = join(workDir, "reuse-key");
    await writeFile(keyFile, "damaged\n");
    const broken = await startUp(["--registry", registry.host], workDir);
    expect(await broken.exited).toBe(1);
    expect(broken.lines.join("\n")).toContain(
      `${keyFile} has a content that has a key with the wrong format`,
    );
    expect(await readFile(keyFile, "utf8")).toBe("damaged\n");
  });

  test("submit --wait fails with the job", async () => {
    const { cli } = started;
    const { exitCode, stdout } = await cli("submit", "--wait", ...jobFlags("owner/failing", "v-failing"));
    expect(stdout).toContain("this step fails");
    expect(stdout).toMatch(/^FAILED in .*: BUILD_FAILED at build: .*exit code: 3$/m);
    expect(exitCode).toBe(1);
  });

  test("submit --wait --json prints the result and nothing else on standard output", async () => {
    const { cli, result } = started;
    const flags = ["--job-id", "json-job", "--json", ...jobFlags("owner/working", "v-json")];
    const { exitCode, stdout, stderr } = await cli("submit", "--wait", ...flags);
    expect(exitCode).toBe(0);
    const printed = SUCCESS_SCHEMA.parse(JSON.parse(stdout));
    expect(printed).toEqual((await result("json-job")) as never);
    expect(stderr).toContain("the RUN step works");
  });

  test("a job from a file, a flag before the file", async () => {
    const { cli } = started;
    const path = join(folder.path, "job.json");
    const job = { repo_url: "owner/working", branch: "main", aws_account: "1", ecr_repo: "app-images" };
    await Bun.write(path, JSON.stringify({ ...job, deployment_version: "of-the-file" }));
    const { exitCode, stdout } = await cli("submit", "--wait", "--file", path, "--version", "of-the-flag");
    expect({ exitCode, stdout }).toMatchObject({ exitCode: 0 });
    expect(await registry.listTags("app-images")).toContain("of-the-flag");
    expect(await registry.listTags("app-images")).not.toContain("of-the-file");
  });

  test("submit, logs -f, job, logs and workers show the job", async () => {
    const { cli } = started;
    const flags = ["--job-id", "looked-at", "--tenant", "acme", ...jobFlags("owner/working", "v-looked-at")];
    expect(await cli("submit", ...flags)).toMatchObject({ exitCode: 0, stdout: "looked-at\n" });
    const followed = await cli("logs", "-f", "looked-at");
    expect(followed).toMatchObject({ exitCode: 0 });
    const log = await cli("logs", "looked-at");
    expect(log.stdout).toContain("the RUN step works");
    expect(log).toEqual(followed);

    const shown = await cli("job", "looked-at");
    expect(shown.exitCode).toBe(0);
    expect(shown.stdout).toMatch(/^looked-at {2}SUCCEEDED {2}owner\/working@main as v-looked-at$/m);
    const job = JSON.parse((await cli("job", "looked-at", "--json")).stdout);
    expect(job).toMatchObject({ job_id: "looked-at", tenant: "acme", state: "SUCCEEDED" });
    expect(job.result).toMatchObject({ tenant: "acme", status: "SUCCESS" });
    expect(job.events.map(({ seq }: { seq: number }) => seq)).toEqual(
      job.events.map((_: unknown, index: number) => index + 1),
    );

    const listed = await cli("jobs", "--state", "succeeded", "--repo", "owner/working", "--since", "1h");
    expect(listed.stdout).toMatch(
      /^looked-at {2,}SUCCEEDED {2,}\d+[sm] {2,}owner\/working {2}main {2,}v-looked-at$/m,
    );
    const others = JSON.parse((await cli("jobs", "--tenant", "acme", "--json")).stdout);
    expect(others).toEqual([
      expect.objectContaining({ job_id: "looked-at", tenant: "acme", state: "SUCCEEDED" }),
    ]);
    expect(others[0].result).toMatchObject({ status: "SUCCESS", image_digest: job.result.image_digest });
    expect((await cli("jobs", "--state", "running")).stderr).toContain(
      "state (--state): expected one or more of QUEUED",
    );

    expect((await cli("status")).stdout).toMatch(/^workers {7}1 (FREE|BUSY)$/m);
    // The slot is released after the result.
    const workers = await waitFor(
      async () => {
        const shown = JSON.parse((await cli("workers", "--json")).stdout);
        return shown[0].status === "FREE" && shown;
      },
      { timeoutMs: STEP_TIMEOUT_MS, what: "the worker to be free" },
    );
    expect(workers).toEqual([expect.objectContaining({ region: "us-east-1", status: "FREE", jobs: [] })]);
    expect((await cli("workers")).stdout).toContain(`${workers[0].id}  us-east-1  `);
  });

  test("cancel ends a running job, and one that waits for its slot", async () => {
    const { cli, result, apiUrl, workDir } = started;
    for (const id of ["runs", "waits"]) {
      expect(
        (await cli("submit", "--job-id", id, ...jobFlags("owner/endless", `v-cancel-${id}`))).exitCode,
      ).toBe(0);
    }
    await untilRunStep(ENDLESS_BUILD_SECONDS);
    expect((await cli("job", "runs")).stdout).toContain("BUILDING");
    const why = await cli("why", "waits");
    expect(why.stdout).toStartWith(
      "waits is QUEUED: all 1 slot for it in us-east-1 is in use, and 0 jobs wait before it\n",
    );
    expect(why.stdout).toMatch(/ {2}us-east-1 {2}BUSY {4}busy with job runs for \d+ s$/m);
    expect((await cli("why", "runs")).stdout).toStartWith("runs is BUILDING: the job is running\n");
    const third = ["submit", "--wait", "--job-id", "third", ...jobFlags("owner/endless", "v-cancel-third")];
    const waiting = startProcess([blacktree, ...third, "--api", apiUrl], {
      env: { BLACKTREE_WORK_DIR: workDir },
    });
    await waiting.waitForLine(
      "third is QUEUED: all 1 slot for it in us-east-1 is in use, and 1 job waits before it",
    );
    expect((await cli("cancel", "third")).exitCode).toBe(0);
    expect(await waiting.exited).toBe(1);
    expect((await cli("cancel", "waits")).stdout).toBe("waits is cancelled\n");
    expect(await cli("cancel", "runs", "--wait", "--reason", "enough")).toMatchObject({ exitCode: 0 });
    expect((await result("runs"))?.error).toMatchObject({ code: "CANCELLED" });
    expect((await result("runs"))?.error?.message).toContain("enough");
    const hasEnded = async () => !(await isSleeping(ENDLESS_BUILD_SECONDS));
    await waitFor(hasEnded, { timeoutMs: STEP_TIMEOUT_MS, what: "the RUN step's end" });
    expect(await result("waits")).toMatchObject({ status: "CANCELLED", attempt: 0 });

    const after = await cli("submit", "--wait", ...jobFlags("owner/working", "v-after-cancel"));
    expect(after.exitCode).toBe(0);
    expect(await registry.listTags("app-images")).not.toContain("v-cancel-waits");
    const unknown = await cli("cancel", "nobody-knows");
    expect(unknown).toMatchObject({ exitCode: 1, stderr: expect.stringContaining("No such job") });
    const late = await cli("cancel", "runs", "--json");
    expect(JSON.parse(late.stdout)).toEqual({ job_id: "runs", state: "CANCELLED" });
  });

  test("a job's secrets are on no disk once it has ended", async () => {
    const { cli, workDir } = started;
    const secrets = [`git-${randomUUID()}`, `secret-${randomUUID()}`];
    const file = join(folder.path, "secret-job.json");
    const target = { aws_account: "1234567890", ecr_repo: "app-images", deployment_version: "v-erased" };
    const job = { repo_url: "owner/working", branch: "main", ...target };
    await Bun.write(file, JSON.stringify({ ...job, git_token: secrets[0], secrets: { npm: secrets[1] } }));
    const { exitCode } = await cli("submit", "--wait", "--file", file);
    expect(exitCode).toBe(0);
    const isErased = async () => {
      const entries = await readdir(workDir, { recursive: true, withFileTypes: true });
      const paths = entries
        .filter((entry) => entry.isFile())
        .map(({ parentPath, name }) => join(parentPath, name));
      const contents = await Promise.all(paths.map((path) => readFile(path).catch(() => Buffer.alloc(0))));
      return !contents.some((content) => secrets.some((secret) => content.includes(secret)));
    };
    await waitFor(isErased, { timeoutMs: STEP_TIMEOUT_MS, what: "the job's secrets to be erased" });
  });

  test("a log cannot look other than it is on a terminal", async () => {
    const files = await sampleRepository();
    const step = `RUN ["/bin/busybox", "echo", "all tests passed\u202e\u200b"]`;
    await git.createRepository("owner/disguised", { ...files, Dockerfile: `${files.Dockerfile}${step}\n` });
    const { cli, apiUrl, token } = started;
    const flags = jobFlags("owner/disguised", "v-disguised");
    const { stdout } = await cli("submit", "--wait", "--job-id", "disguised", ...flags);
    const logs = (await cli("logs", "disguised")).stdout;
    const text = await (await apiRequest(apiUrl, "/api/v1/jobs/disguised/logs", {}, await token())).text();
    for (const shown of [stdout, logs, text]) {
      expect(shown).toContain("all tests passed<U+202E><U+200B>");
      expect(shown).not.toMatch(/[\u202e\u200b]/);
    }
  });

  test("secrets appear in no line of its output", async () => {
    const { cli, process } = started;
    const { exitCode } = await cli("submit", "--wait", ...jobFlags("owner/working", "v-secrets"));
    expect(exitCode).toBe(0);
    expect(process.lines.join("\n")).not.toContain(registry.password);
  });
});

describe("up with ECR", () => {
  afterEach(stopAll);

  let aws: Aws;
  let ecr: RegistryProxy;

  beforeAll(async () => {
    aws = await startAws();
    ecr = await startRegistryProxy(registry, { login: aws.login });
    aws.configure({ proxyEndpoint: ecr.url });
    aws.addRepository("1234567890", "app-images");
  });
  afterAll(async () => {
    await Promise.all([ecr?.stop(), aws?.stop()]);
  });

  test("a job's image is pushed to ECR", async () => {
    const { cli } = await up([], newWorkDir(), aws.env());
    const { exitCode, stdout } = await cli("submit", "--wait", ...jobFlags("owner/working", "v-ecr"));
    expect(stdout).toContain(`image   ${ecr.host}/app-images:v-ecr`);
    expect(exitCode).toBe(0);
    expect(ecr.tagPuts("app-images", "v-ecr")).toHaveLength(1);
  });
});

describe("up when it ends", () => {
  afterEach(stopAll);

  test("it stops in order on SIGTERM", async () => {
    const { process } = await upWithRegistry();
    process.signal("SIGTERM");
    expect(await process.exited).toBe(0);
  });

  inFullCheck().test("frozen for longer than a lease, it continues its run", async () => {
    const times = ["--ping-interval", "500ms", "--lease-ttl", "3s"];
    const { process, cli, result } = await up(["--registry", registry.host, ...times]);
    await cli("submit", "--job-id", "frozen", ...jobFlags("owner/frozen", "v-frozen"));
    await untilRunStep();
    process.pause();
    await waitFor(async () => !(await isSleeping()), {
      timeoutMs: STEP_TIMEOUT_MS,
      what: "the RUN step's end",
    });
    process.resume();
    const ended = await waitFor(() => result("frozen"), { timeoutMs: STEP_TIMEOUT_MS, what: "the result" });
    expect(ended).toMatchObject({ status: "SUCCESS", attempt: 1 });
  });

  test("killed, the running and the waiting job both end after the next start", async () => {
    const killed = await upWithRegistry();
    const submit = (id: string, repository: string) =>
      killed.cli("submit", "--job-id", id, ...jobFlags(repository, `v-${id}`));
    expect(await submit("runs", "owner/killed")).toMatchObject({ exitCode: 0 });
    await untilRunStep();
    expect(await submit("waits", "owner/working")).toMatchObject({ exitCode: 0 });
    await killed.process.kill("SIGKILL");

    const { result } = await upWithRegistry(killed.workDir);
    for (const id of ["runs", "waits"]) {
      const ended = await waitFor(() => result(id), {
        timeoutMs: STEP_TIMEOUT_MS,
        what: `the result of ${id}`,
      });
      expect(ended).toMatchObject({ job_id: id, status: "SUCCESS" });
      const tagged = await registry.getManifest("app-images", `v-${id}`);
      expect(tagged?.digest).toBe(`${ended.image_digest}`);
    }
    expect(await runFolders(killed.workDir)).toEqual([]);
  });

  test("killed, a finished job's result is still known after the next start", async () => {
    const killed = await upWithRegistry();
    const flags = ["--job-id", "remembered", ...jobFlags("owner/working", "v-remembered")];
    expect(await killed.cli("submit", "--wait", ...flags)).toMatchObject({ exitCode: 0 });
    const before = await killed.result("remembered");
    await killed.process.kill("SIGKILL");

    const { cli, result, process } = await upWithRegistry(killed.workDir);
    expect(await result("remembered")).toEqual(before);
    // Submitted again, it does not run a second time.
    expect(await cli("submit", "--wait", ...flags)).toMatchObject({ exitCode: 0 });
    expect(process.lines.join("\n")).not.toContain('"msg":"run started"');
  });
});

describe("up with wrong usage", () => {
  let first: Up;

  beforeAll(async () => {
    first = await upWithRegistry();
  });
  afterAll(stopAll);

  test("a second one on the same folder is refused, and the first one keeps running", async () => {
    const second = await startUp(["--registry", registry.host], first.workDir);
    expect(await second.exited).toBe(1);
    expect(second.lines.join("\n")).toContain("blacktree.db is in use by another process");
    expect((await fetch(`${first.apiUrl}/readyz`)).status).toBe(200);
  });

  test("wrong settings are all named, and the exit status is 2", async () => {
    const process = await startUp(["--worker-slots", "many", "--lease-ttl", "soon"], newWorkDir());
    expect(await process.exited).toBe(2);
    const errorText = process.stderrLines.join("\n");
    expect(errorText).toContain('BLACKTREE_WORKER_SLOTS = "many"');
    expect(errorText).toContain('BLACKTREE_LEASE_TTL = "soon"');
  });

  test.each([
    ["a job without fields", ["submit"], "submit needs --"],
    ["an unknown flag", ["submit", "--no-such-flag"], "--no-such-flag"],
    ["a missing file", ["submit", "--file", "/no/such/job.json"], "/no/such/job.json"],
    ["an invalid address", ["workers", "--api", "localhost"], "--api"],
    ["a job without id", ["job"], "missing required argument"],
    ["an unknown command", ["sumbit"], "unknown command"],
  ] as const)("%s is wrong usage", async (_, args, errorText) => {
    const { exitCode, stdout, stderr } = await run([blacktree, ...args], { mayFail: true });
    expect({ exitCode, stdout }).toEqual({ exitCode: 2, stdout: "" });
    expect(stderr).toContain(errorText);
  });

  test("a job with wrong fields is refused with all of them named", async () => {
    const { exitCode, stderr } = await first.cli(
      "submit",
      "--repo",
      "owner/working",
      "--branch",
      "-x",
      "--version",
      "v1",
    );
    expect(exitCode).toBe(2);
    for (const field of ["branch", "aws_account", "ecr_repo"]) expect(stderr).toContain(`(${field})`);
  });

  test("an unknown job, and an orchestrator that does not answer", async () => {
    const unknown = await first.cli("job", "no-such-job");
    expect(unknown.exitCode).toBe(1);
    expect(unknown.stderr).toContain("no-such-job");
    const absent = await first.cli("workers", "--api", "http://127.0.0.1:1");
    expect(absent.exitCode).toBe(1);
    expect(absent.stderr).toContain("http://127.0.0.1:1");
  });
});
