/**
 * `bun run dev`: `blacktree up` from source on this machine, restarted when a source file changes, with a registry and
 * a git server. Ctrl-C stops it and removes everything that it started.
 */
import { watch } from "node:fs";
import { join, relative } from "node:path";
import { signalGroup } from "../../src/worker/process/process-group.ts";
import { removeAbandoned } from "../support/machine/abandoned.ts";
import { freePort } from "../support/machine/free-port.ts";
import { ensurePrerequisites } from "../support/machine/prerequisites.ts";
import { closeProcessRecords, ownerMark, recordProcessGroup } from "../support/machine/process-records.ts";
import { makeTempDir } from "../support/machine/temp-dir.ts";
import { rerunAsRoot } from "./engine.ts";
import { messageOf, Steps, say, TrialFailed } from "./steps.ts";
import {
  startSurroundings,
  submitArguments,
  type UpApi,
  type UpCommand,
  upCommand,
  waitForWorker,
} from "./surroundings.ts";

const ROOT = join(import.meta.dir, "../..");
const MAIN = "src/cli/main.ts";
const SOURCE_FILE = /\.(?:ts|lua|binpb)$/;
/** An editor or git may write several files at once. */
const CHANGE_SETTLE_MS = 200;
const STOP_TIMEOUT_MS = 10_000;

const steps = new Steps(2);

async function develop(): Promise<void> {
  const surroundings = await steps.run("Start Docker, a registry and a git server", async (log) => {
    await removeAbandoned();
    await ensurePrerequisites("try", log);
    return startSurroundings(steps, log);
  });
  const workDir = await makeTempDir("dev");
  steps.afterwards("the work folder", workDir.remove);
  const listen = `127.0.0.1:${await freePort()}`;
  const api = { api: `http://${listen}`, tokenFile: join(workDir.path, "admin-token") };
  const command = upCommand(surroundings, { workDir: workDir.path, listen });
  const blacktree = await steps.run("Start blacktree up from source", async (log) => {
    log(`$ bun ${[MAIN, ...command.args].join(" ")}`);
    const started = new Blacktree(command);
    steps.afterwards("blacktree up", () => started.stop());
    const state = await waitForWorker(api, () => started.hasEnded);
    if (state === "ended") throw new TrialFailed("blacktree up ended, see its log above");
    return started;
  });
  console.log(describe(api));
  const watcher = watch(join(ROOT, "src"), { recursive: true }, (_, file) => {
    if (file !== null && SOURCE_FILE.test(file)) blacktree.restart(file);
  });
  await new Promise<void>((resolve) =>
    steps.interrupted.addEventListener("abort", () => resolve(), { once: true }),
  );
  watcher.close();
}

function describe(api: UpApi): string {
  const [bun, main] = ["node_modules/.bin/bun", MAIN].map((path) =>
    relative(process.cwd(), join(ROOT, path)),
  );
  // A new version for each job: the same version of the same commit would not be built again.
  const submit = submitArguments(api, '"v$(date +%s)"').join(" ");
  return `
Ready. A change in src/ restarts blacktree up. Submit a job from another terminal:

  ${bun} ${main} ${submit}

Ctrl-C stops everything and removes it.
`;
}

/**
 * The running `blacktree up`. Each restart is a new process: `bun --watch` would keep the process id, by which crash
 * recovery recognizes the files and processes of earlier runs.
 */
class Blacktree {
  #process: Bun.Subprocess;
  #settling: Timer | undefined;
  /** Restarts and the stop run one after the other. */
  #changes = Promise.resolve();

  constructor(private readonly command: UpCommand) {
    this.#process = this.#start();
  }

  get hasEnded(): boolean {
    return this.#process.exitCode !== null;
  }

  restart(changed: string): void {
    clearTimeout(this.#settling);
    this.#settling = setTimeout(() => {
      this.#changes = this.#changes.then(async () => {
        console.log(`\nsrc/${changed} changed, restarting blacktree up\n`);
        await this.#end();
        this.#process = this.#start();
      });
    }, CHANGE_SETTLE_MS);
  }

  async stop(): Promise<void> {
    clearTimeout(this.#settling);
    await this.#changes;
    await this.#end();
  }

  /** In a separate process group: Ctrl-C reaches only this process, which stops it before the servers. */
  #start(): Bun.Subprocess {
    const { args, env } = this.command;
    const child = Bun.spawn([process.execPath, MAIN, ...args], {
      cwd: ROOT,
      env: { ...process.env, ...ownerMark(), ...env },
      stdio: ["ignore", "inherit", "inherit"],
      detached: true,
    });
    void child.exited.then(recordProcessGroup(child.pid));
    return child;
  }

  /** The second SIGTERM cancels running jobs; the next start runs them again. */
  async #end(): Promise<void> {
    const { pid, exited } = this.#process;
    signalGroup(pid, "SIGTERM");
    const again = setTimeout(() => signalGroup(pid, "SIGTERM"), 100);
    const timeout = setTimeout(() => signalGroup(pid, "SIGKILL"), STOP_TIMEOUT_MS);
    await exited;
    clearTimeout(again);
    clearTimeout(timeout);
    signalGroup(pid, "SIGKILL");
  }
}

async function main(): Promise<number> {
  steps.listenForSignals();
  let failure: string | undefined;
  try {
    const status = await rerunAsRoot(import.meta.path, () => ensurePrerequisites("try", say));
    if (status !== undefined) return status;
    await develop();
  } catch (error) {
    if (!steps.interrupted.aborted) failure = messageOf(error);
  }
  const leftBehind = await steps.cleanUp();
  await closeProcessRecords();
  if (leftBehind.length > 0) console.log(`\nThese could not be removed:\n${leftBehind.join("\n")}`);
  if (failure !== undefined) console.error(`\nbun run dev failed: ${failure}`);
  return failure === undefined && leftBehind.length === 0 ? 0 : 1;
}

process.exit(await main());
