/**
 * `bun run try`: a first look. Builds one image with `blacktree up` and runs it, on this machine alone: git server,
 * registry and, if none runs here, Docker are started for it and gone afterwards.
 */
import { join, relative } from "node:path";
import { type Binaries, compiledBinaries } from "../support/blacktree/binaries.ts";
import { removeAbandoned } from "../support/machine/abandoned.ts";
import { freePort } from "../support/machine/free-port.ts";
import { ensurePrerequisites } from "../support/machine/prerequisites.ts";
import { startProcess } from "../support/machine/processes.ts";
import { sampleGreeting, sampleRepository } from "../support/machine/sample-repository.ts";
import { makeTempDir } from "../support/machine/temp-dir.ts";
import { waitFor } from "../support/machine/wait-for.ts";
import { startGitServer } from "../support/servers/git-server.ts";
import { type Registry, startRegistry } from "../support/servers/registry.ts";
import { type Engine, privateEngine, runningEngine } from "./engine.ts";
import { nextSteps } from "./next-steps.ts";
import { Interrupted, Steps, say } from "./steps.ts";

const REPOSITORY = "acme/sample";
const VERSION = "v1.0.0";

/** Fit to be shown as it is. */
class TrialFailed extends Error {
  override readonly name = "TrialFailed";
}

interface Result {
  readonly status: string;
  readonly image_url: string;
  readonly image_digest: string;
  readonly error: { readonly code: string; readonly message: string } | null;
}

const steps = new Steps(6);

/** @returns the path of `blacktree`. */
async function trial(): Promise<string> {
  await steps.run("Install what is missing", async (log) => {
    await removeAbandoned();
    const { installed } = await ensurePrerequisites("try", log);
    log(installed.length > 0 ? `installed ${installed.join(", ")}` : "nothing is missing");
  });
  const binaries = await steps.run(
    "Compile blacktree, blacktree-orchestrator and blacktree-worker",
    async (log) => {
      const compiled = await compiledBinaries();
      log(`in ${compiled.dir}`);
      return compiled;
    },
  );
  const surroundings = await steps.run("Start Docker, a registry and a git server", startSurroundings);
  const api = await steps.run("Start blacktree up", () => startBlacktree(binaries, surroundings));
  const result = await steps.run("Submit a job, and follow it", () => submit(binaries.cli, api));
  const printed = await steps.run("Pull the image and run it", () => pullAndRun(result, surroundings));
  console.log(`\nimage    ${result.image_url}\ndigest   ${result.image_digest}\nprinted  ${printed}`);
  return binaries.cli;
}

interface Surroundings {
  readonly engine: Engine;
  readonly registry: Registry;
  readonly gitUrl: string;
}

async function startSurroundings(log: typeof say): Promise<Surroundings> {
  const engine = (await runningEngine()) ?? (await privateEngine());
  steps.afterwards("Docker", engine.stop);
  log(`Docker: ${engine.description}`);
  const registry = await startRegistry();
  steps.afterwards("the registry", registry.stop);
  log(`registry: ${registry.host}, with a password`);
  const git = await startGitServer();
  steps.afterwards("the git server", git.stop);
  await git.createRepository(REPOSITORY, await sampleRepository());
  log(`repository: ${git.baseUrl}/${REPOSITORY}`);
  return { engine, registry, gitUrl: git.baseUrl };
}

/** @returns the URL of its admin API. */
async function startBlacktree(
  { cli }: Binaries,
  { engine, registry, gitUrl }: Surroundings,
): Promise<string> {
  const workDir = await makeTempDir("try");
  steps.afterwards("the work folder", workDir.remove);
  const listen = `127.0.0.1:${await freePort()}`;
  const command = [
    ...["up", "--work-dir", workDir.path, "--admin-listen", listen, "--git-base-url", gitUrl],
    ...["--registry", registry.host, "--registry-username", registry.username],
  ];
  show(`blacktree ${command.join(" ")}`);
  const blacktree = startProcess([cli, ...command], {
    env: { ...withoutSettings(), ...engine.env, BLACKTREE_REGISTRY_PASSWORD: registry.password },
  });
  steps.afterwards("blacktree up", () => blacktree.stop());
  const url = `http://${listen}`;
  const hasWorker = async () => {
    if (blacktree.exitCode !== null) return "ended";
    const response = await fetch(`${url}/api/v1/workers`);
    const { items } = (await response.json()) as { items: unknown[] };
    return items.length > 0 && "ready";
  };
  const state = await waitFor(hasWorker, { timeoutMs: 60_000, what: "a worker to register" }).catch(
    (error) => {
      throw new TrialFailed(`${error.message}; it logged:\n${blacktree.lines.slice(-10).join("\n")}`);
    },
  );
  if (state === "ended") throw new TrialFailed(`it ended:\n${blacktree.lines.slice(-10).join("\n")}`);
  return url;
}

/** What this machine is set up for is not what is tried here. */
function withoutSettings(): Record<string, undefined> {
  const names = Object.keys(process.env).filter((name) => name.startsWith("BLACKTREE_"));
  return Object.fromEntries(names.map((name) => [name, undefined]));
}

async function submit(cli: string, api: string): Promise<Result> {
  const command = [
    ...["submit", "--api", api, "--repo", REPOSITORY, "--branch", "main", "--version", VERSION],
    ...["--account", "1234567890", "--ecr-repo", "app-images", "--wait"],
  ];
  show(`blacktree ${command.join(" ")}`);
  const submitted = Bun.spawn([cli, ...command, "--json"], {
    env: { ...process.env, ...withoutSettings() },
    stdin: "ignore",
    stdout: "pipe",
    stderr: "pipe",
    signal: steps.interrupted,
  });
  const [output] = await Promise.all([new Response(submitted.stdout).text(), sayLines(submitted.stderr)]);
  await submitted.exited;
  steps.interrupted.throwIfAborted();
  if (output === "") throw new TrialFailed("the job was not accepted, or could not be followed");
  const result = JSON.parse(output) as Result;
  if (result.status === "SUCCESS") return result;
  throw new TrialFailed(`the job ended ${result.status}: ${result.error?.code}: ${result.error?.message}`);
}

async function sayLines(stream: ReadableStream<Uint8Array>): Promise<void> {
  const decoder = new TextDecoder();
  let rest = "";
  for await (const chunk of stream) {
    const lines = (rest + decoder.decode(chunk, { stream: true })).split("\n");
    rest = lines.pop() ?? "";
    for (const line of lines) say(line);
  }
  if (rest !== "") say(rest);
}

/** @returns what the container printed. */
async function pullAndRun(result: Result, { engine, registry }: Surroundings): Promise<string> {
  const { image_url: image, image_digest: digest } = result;
  const config = await makeTempDir("login");
  steps.afterwards("the login", config.remove);
  const auth = btoa(`${registry.username}:${registry.password}`);
  await Bun.write(join(config.path, "config.json"), JSON.stringify({ auths: { [registry.host]: { auth } } }));
  const env = { DOCKER_CONFIG: config.path };

  show(`docker pull ${image}`);
  steps.afterwards("the pulled image", () => engine.docker(["image", "rm", "--force", image], { env }));
  await engine.docker(["pull", "--quiet", image], { env, timeoutMs: 120_000 });
  const inspected = await engine.docker(["image", "inspect", "--format", "{{json .RepoDigests}}", image], {
    env,
  });
  if (!inspected.stdout.includes(digest)) {
    throw new TrialFailed(`the pulled image is ${inspected.stdout.trim()}, and not ${digest}`);
  }
  show(`docker run --rm ${image}`);
  const container = `blacktree-try-${crypto.randomUUID().slice(0, 8)}`;
  steps.afterwards("the container", () =>
    engine.docker(["rm", "--force", container], { env, mayFail: true }),
  );
  const ran = await engine.docker(["run", "--rm", "--network", "none", "--name", container, image], { env });
  const printed = ran.stdout.trim();
  say(printed);
  if (printed !== sampleGreeting) throw new TrialFailed(`it should have printed: ${sampleGreeting}`);
  return printed;
}

function show(command: string): void {
  say(`$ ${command}`);
}

/** Only root can start a Docker daemon. What is compiled stays the user's own. */
async function asRoot(): Promise<number | undefined> {
  if (process.getuid?.() === 0 || (await runningEngine())) return undefined;
  if (Bun.which("sudo") === null) {
    throw new TrialFailed(
      "no Docker runs here that lets this user in, and only root can start one; run this as root",
    );
  }
  await ensurePrerequisites("try", say);
  await compiledBinaries();
  console.log(
    "No Docker runs here that lets this user in. Starting one takes root, so this goes on with sudo.",
  );
  const { exited } = Bun.spawn(["sudo", process.execPath, import.meta.path], {
    stdio: ["inherit", "inherit", "inherit"],
  });
  return exited;
}

function reasonOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

async function main(): Promise<number> {
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
    process.on(signal, () => {
      // The second time, what still runs is left to the kernel, which ends it with us.
      if (steps.interrupted.aborted) process.exit(1);
      console.log("\nStopping, and cleaning up. Once more to stop at once.");
      steps.interrupt(new Interrupted("interrupted"));
    });
  }
  let cli = "";
  let failure: string | undefined;
  try {
    const status = await asRoot();
    if (status !== undefined) return status;
    cli = await trial();
  } catch (error) {
    failure = reasonOf(steps.interrupted.aborted ? steps.interrupted.reason : error);
  }
  const left = await steps.cleanUp();
  if (left.length > 0) console.log(`\nThis could not be removed:\n${left.join("\n")}`);
  if (failure === undefined) {
    console.log(`\nBlacktree works here (${steps.elapsed}). Everything that was started has been removed.`);
    console.log(`\n${nextSteps(`./${relative(process.cwd(), cli)}`)}`);
    return 0;
  }
  console.error(`\nThe trial failed after ${steps.elapsed}: ${failure}`);
  return 1;
}

process.exit(await main());
