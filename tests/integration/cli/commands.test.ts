/** Commands against a real orchestrator, whose one worker does what the test says. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { ADMIN_TOKEN } from "../../support/blacktree/admin-api.ts";
import { CLI_COMMAND, runCli, startCli } from "../../support/blacktree/cli-source.ts";
import { run, startProcess } from "../../support/machine/processes.ts";
import { screenAfter } from "../../support/machine/screen.ts";
import { makeTempDir } from "../../support/machine/temp-dir.ts";
import { borrowRabbitMq } from "../../support/servers/pool.ts";
import type { RabbitMqServer } from "../../support/servers/rabbitmq.ts";
import { type Redis, startRedis } from "../../support/servers/redis.ts";
import { type OrchestratorSite, startOrchestratorSite } from "../orchestrator/orchestrator-site.ts";
import { INCARNATION, serveWorker, successfulEnd } from "../orchestrator/workers/worker-service.ts";

/** Each command is compiled from source when it starts, which takes seconds on a busy machine. */
const patiently = { timeoutMs: 60_000 };

let rabbitmq: RabbitMqServer;
let redis: Redis;
let site: OrchestratorSite;
let worker: Awaited<ReturnType<typeof serveWorker>>;
/** By the ids of jobs that run until then. */
const mayEnd = new Map(
  ["held", "held-guessed", "held-terminal"].map((id) => [id, Promise.withResolvers<void>()]),
);

beforeAll(async () => {
  [rabbitmq, redis] = await Promise.all([borrowRabbitMq(), startRedis()]);
  worker = await serveWorker(
    async ({ jobId }, reporter) => {
      reporter.state("CLONING");
      reporter.log(`the log of ${jobId}`);
      await mayEnd.get(jobId)?.promise;
      return successfulEnd();
    },
    { keptBytes: 100_000, tail: { lines: 100, bytes: 100_000 } },
    { slots: 8 },
  );
  site = await startOrchestratorSite({ rabbitMqUrl: rabbitmq.url, redisUrl: redis.url });
  await site.addWorker("worker", INCARNATION, worker.port, { slots: 8 });
});

afterAll(async () => {
  for (const { resolve } of mayEnd.values()) resolve();
  await site?.stop();
  await Promise.all([worker?.stop(100), rabbitmq?.stop(), redis?.stop()]);
});

const environment = (api = site.adminUrl) => ({ BLACKTREE_API: api, BLACKTREE_ADMIN_TOKEN: ADMIN_TOKEN });

const cli = (...args: string[]) => runCli(args, { cwd: "/", env: environment() });

/** The port of `discard`, where nothing listens on a machine without that service. */
const NOWHERE = "http://127.0.0.1:9";

const JOB = ["--repo", "owner/name", "--branch", "main", "--version", "v1"];
const TARGET = ["--account", "123456789012", "--ecr-repo", "images"];

test("a job is submitted through the first orchestrator that answers, and followed to its end", async () => {
  const flags = ["--job-id", "followed", "--build-arg", "A=1", "--api", `${NOWHERE},${site.adminUrl}`];
  const { stdout, exitCode } = await cli("submit", "--wait", ...flags, ...JOB, ...TARGET);
  expect(stdout.split("\n")).toEqual(expect.arrayContaining(["job followed", "the log of followed"]));
  expect(stdout).toMatch(/^SUCCESS in /m);
  expect(exitCode).toBe(0);

  const job = await cli("job", "foll");
  expect(job.stdout).toStartWith("followed  SUCCEEDED  owner/name@main as v1\n");
  expect(job.stdout).toMatch(/^build_args +\{"A":"\*+"\}$/m);
  expect(job.stdout).toMatch(/Z {2}\+\d+\.\d s +SUCCEEDED/);
  expect(job.stdout).toMatch(/^timings: queued /m);

  const [matching, others] = [
    await cli("jobs", "--repo", "owner/name"),
    await cli("jobs", "--branch", "none"),
  ];
  expect(matching.stdout).toMatch(/^ID +STATE +AGE +REPOSITORY +BRANCH +VERSION\nfollowed +SUCCEEDED /);
  expect(others.stdout).toStartWith("no jobs match these filters");
});

test("Ctrl-C ends the waiting, not the job", async () => {
  const waiting = startCli(["submit", "--wait", "--job-id", "held", ...JOB, ...TARGET], {
    cwd: "/",
    env: environment(),
  });
  await waiting.waitForLine("--- CLONING", patiently);
  await waiting.waitForLine("the log of held", patiently);
  waiting.signal("SIGINT");
  expect(await waiting.exited).toBe(1);
  expect(waiting.stderrLines.join("\n")).toContain("blacktree logs -f held");
  expect(waiting.stderrLines.join("\n")).toContain("blacktree cancel held");
  expect(JSON.parse((await cli("job", "held", "--json")).stdout).result).toBeNull();
});

test("an error that names a field also names its flag", async () => {
  const { exitCode, stderr } = await cli("submit", ...TARGET, ...JOB, "--repo", "https://evil.example/a/b");
  expect(stderr).toStartWith("blacktree: Bad job: repo_url (--repo): names the host evil.example");
  expect(exitCode).toBe(1);
  const { stderr: listed } = await cli("jobs", "--since", "yesterday");
  expect(listed).toStartWith("blacktree: Bad request: since (--since): expected a time");
});

test("in a git checkout, the job is of the checkout unless a repository is named", async () => {
  const checkout = await makeTempDir("checkout");
  const remote = "https://me:hidden@github.com/owner/guessed.git";
  const identity = ["-c", "user.name=a", "-c", "user.email=a@b"];
  await run(
    [
      "bash",
      "-ec",
      `git init -q -b topic; git ${identity.join(" ")} commit -q --allow-empty -m first
    git remote add origin ${remote}; git update-ref refs/remotes/origin/topic HEAD
    git branch -q --set-upstream-to=origin/topic`,
    ],
    { cwd: checkout.path },
  );
  try {
    const args = ["submit", "--job-id", "held-guessed", "--version", "v1", ...TARGET];
    const options = { cwd: checkout.path, env: environment() };
    const submitted = await runCli(args, options);
    expect(submitted.stderr).toStartWith(
      "blacktree: guessed from the checkout: --repo https://github.com/owner/",
    );
    expect(submitted).toMatchObject({ stdout: "held-guessed\n", exitCode: 0 });
    const { commit, ...job } = JSON.parse((await cli("job", "held-guessed", "--json")).stdout);
    expect(job).toMatchObject({ repo_url: "https://github.com/owner/guessed.git", branch: "topic" });
    expect(commit).toMatch(/^[0-9a-f]{40}$/);
    const { exitCode, stderr } = await runCli([...args, "--no-guess"], options);
    expect(exitCode).toBe(2);
    expect(stderr).toStartWith(
      "blacktree: submit needs --repo (repo_url), --branch (branch), or these fields",
    );
  } finally {
    await checkout.remove();
  }
});

test("missing fields are reported before the request", async () => {
  const { exitCode, stderr } = await cli("submit", "--api", NOWHERE, ...JOB);
  expect(stderr).toContain("submit needs --account (aws_account), --ecr-repo (ecr_repo), or these fields");
  expect(exitCode).toBe(2);
});

test("with --json, an error is one object on standard error", async () => {
  const unknown = await cli("job", "unknown", "--json");
  expect(JSON.parse(unknown.stderr)).toEqual({
    error: expect.stringContaining("No such job: job unknown"),
    status: 404,
  });
  expect(unknown).toMatchObject({ exitCode: 1, stdout: "" });
  const wrong = await cli("jobs", "--json", "--stat", "QUEUED");
  expect(JSON.parse(wrong.stderr)).toEqual({ error: "unknown option '--stat'\n(Did you mean --state?)" });
  expect(wrong.exitCode).toBe(2);
});

test("an API that does not answer is named, with the setting", async () => {
  const { exitCode, stderr } = await cli("status", "--api", NOWHERE);
  expect(stderr).toContain(
    `cannot reach the orchestrator's admin API at ${NOWHERE}: the connection was refused`,
  );
  expect(stderr).toContain("set its URL with --api or BLACKTREE_API");
  expect(exitCode).toBe(1);
});

test("bash completes commands and values, and nothing if the API does not answer", async () => {
  const script = `
    source <(blacktree completion bash)
    complete_line() {
      COMP_LINE="$*" COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
      _blacktree
      echo "\${COMPREPLY[*]}"
    }
    complete_line blacktree lo
    complete_line blacktree jobs --state = QUEUED,CANC
    complete_line blacktree submit --priority ""
    complete_line blacktree job --api=${NOWHERE} ""`;
  const bin = await makeTempDir("bin");
  await writeFile(join(bin.path, "blacktree"), `#!/bin/sh\nexec ${CLI_COMMAND.join(" ")} "$@"\n`, {
    mode: 0o755,
  });
  const env = { ...environment(), PATH: `${bin.path}:${process.env.PATH}` };
  const { stdout, stderr } = await run(["bash", "-c", script], { env }).finally(() => bin.remove());
  expect({ stdout: stdout.split("\n"), stderr }).toEqual({
    stdout: ["logs", "QUEUED,CANCELLED", "low normal high", "", ""],
    stderr: "",
  });
});

test("on a terminal, what runs stays below the log until the job ends", async () => {
  const command = [...CLI_COMMAND, "submit", "--wait", "--job-id", "held-terminal", ...JOB, ...TARGET];
  const terminal = startProcess(
    ["script", "--quiet", "--return", "--command", command.join(" "), "/dev/null"],
    {
      cwd: "/",
      env: { ...environment(), TERM: "xterm", NO_COLOR: "1", SHELL: "/bin/sh" },
    },
  );
  await terminal.waitForLine(/^\d+ s {2}CLONING/, patiently);
  await terminal.waitForLine("the log of held-terminal", patiently);
  mayEnd.get("held-terminal")?.resolve();
  expect(await terminal.exited).toBe(0);
  const screen = screenAfter(terminal.lines.join("\n")).filter((line) => line !== "");
  expect(screen.slice(0, 3)).toEqual(["job held-terminal", "--- CLONING", "the log of held-terminal"]);
  expect(screen.filter((line) => /^\d+ s {2}/.test(line))).toEqual([]);
  expect(screen.join("\n")).toMatch(/^SUCCESS in /m);
});
