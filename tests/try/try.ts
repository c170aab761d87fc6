/**
 * `bun run try`: a first look. Builds one image with `blacktree up` on this machine and runs it. Starts a git server, a
 * registry and, if this user has access to no Docker Engine, one of those, and removes everything at the end.
 */
import { join, relative } from "node:path";
import { type Binaries, compiledBinaries } from "../support/blacktree/binaries.ts";
import { removeAbandoned } from "../support/machine/abandoned.ts";
import { freePort } from "../support/machine/free-port.ts";
import { ensurePrerequisites } from "../support/machine/prerequisites.ts";
import { closeProcessRecords } from "../support/machine/process-records.ts";
import { startProcess } from "../support/machine/processes.ts";
import { sampleGreeting } from "../support/machine/sample-repository.ts";
import { makeTempDir } from "../support/machine/temp-dir.ts";
import { rerunAsRoot } from "./engine.ts";
import { nextSteps } from "./next-steps.ts";
import { messageOf, Steps, say, TrialFailed } from "./steps.ts";
import {
  type Surroundings,
  startSurroundings,
  submitArguments,
  type UpApi,
  upCommand,
  waitForWorker,
  withoutSettings,
} from "./surroundings.ts";

const VERSION = "v1.0.0";
const SHOWN_LOG_LINES = 10;

interface Result {
  readonly status: string;
  readonly image_url: string;
  readonly image_digest: string;
  readonly error: { readonly code: string; readonly message: string } | null;
}

const steps = new Steps(6);

/** @returns the path of `blacktree`. */
async function trial(): Promise<string> {
  await steps.run("Install missing packages", async (log) => {
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
  const surroundings = await steps.run("Start Docker, a registry and a git server", (log) =>
    startSurroundings(steps, log),
  );
  const api = await steps.run("Start blacktree up", () => startBlacktree(binaries, surroundings));
  const result = await steps.run("Submit a job, and follow it", () => submit(binaries.cli, api));
  const printed = await steps.run("Pull the image and run it", () => pullAndRun(result, surroundings));
  console.log(`\nimage    ${result.image_url}\ndigest   ${result.image_digest}\nprinted  ${printed}`);
  return binaries.cli;
}

async function startBlacktree({ cli }: Binaries, surroundings: Surroundings): Promise<UpApi> {
  const workDir = await makeTempDir("try");
  steps.afterwards("the work folder", workDir.remove);
  const listen = `127.0.0.1:${await freePort()}`;
  const { args, env } = upCommand(surroundings, { workDir: workDir.path, listen });
  show(`blacktree ${args.join(" ")}`);
  const blacktree = startProcess([cli, ...args], { env });
  steps.afterwards("blacktree up", () => blacktree.stop());
  const lastLines = () => blacktree.lines.slice(-SHOWN_LOG_LINES).join("\n");
  const api = { api: `http://${listen}`, tokenFile: join(workDir.path, "admin-token") };
  const state = await waitForWorker(api, () => blacktree.exitCode !== null).catch((error) => {
    throw new TrialFailed(`${messageOf(error)}; the end of its log:\n${lastLines()}`);
  });
  if (state === "ended") throw new TrialFailed(`blacktree up ended:\n${lastLines()}`);
  return api;
}

async function submit(cli: string, api: UpApi): Promise<Result> {
  const command = submitArguments(api, VERSION);
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

/** @returns the output of the container. */
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
    throw new TrialFailed(`the pulled image is ${inspected.stdout.trim()}, expected ${digest}`);
  }
  show(`docker run --rm ${image}`);
  const container = `blacktree-try-${crypto.randomUUID().slice(0, 8)}`;
  steps.afterwards("the container", () =>
    engine.docker(["rm", "--force", container], { env, mayFail: true }),
  );
  const ran = await engine.docker(["run", "--rm", "--network", "none", "--name", container, image], { env });
  const printed = ran.stdout.trim();
  say(printed);
  if (printed !== sampleGreeting)
    throw new TrialFailed(`the container printed something else, expected: ${sampleGreeting}`);
  return printed;
}

function show(command: string): void {
  say(`$ ${command}`);
}

async function main(): Promise<number> {
  steps.listenForSignals();
  let cli = "";
  let failure: string | undefined;
  try {
    const status = await rerunAsRoot(import.meta.path, async () => {
      await ensurePrerequisites("try", say);
      await compiledBinaries();
    });
    if (status !== undefined) return status;
    cli = await trial();
  } catch (error) {
    failure = messageOf(steps.interrupted.aborted ? steps.interrupted.reason : error);
  }
  const leftBehind = await steps.cleanUp();
  await closeProcessRecords();
  if (leftBehind.length > 0) console.log(`\nThese could not be removed:\n${leftBehind.join("\n")}`);
  if (failure === undefined) {
    console.log(`\nBlacktree works here (${steps.elapsed}). Everything that was started has been removed.`);
    console.log(`\n${nextSteps(`./${relative(process.cwd(), cli)}`)}`);
    return 0;
  }
  console.error(`\nThe trial failed after ${steps.elapsed}: ${failure}`);
  return 1;
}

process.exit(await main());
