import { chmod, cp, mkdir } from "node:fs/promises";
import { basename, join } from "node:path";
import { run, startProcess, type TestProcess } from "../machine/processes.ts";
import { makeTempDir } from "../machine/temp-dir.ts";
import { waitFor } from "../machine/wait-for.ts";
import { type BuildKitPrograms, buildKitVersion, findBuildKitPrograms } from "./buildkit-programs.ts";
import { killProcessesOf, removeEngineFolder } from "./docker-cleanup.ts";
import type { DockerEngine } from "./docker-engines.ts";

/** A buildkitd that does not need an engine. */
export interface BuildKit {
  readonly address: string;
  /** Kills the daemon without a cleanup; its build steps end too. */
  kill(): Promise<void>;
  /** A new daemon on the same cache and address. */
  start(): Promise<void>;
  /** Ends all processes, and removes everything that they have left on the machine. */
  stop(): Promise<void>;
}

/** Why tests of it cannot run here; undefined when they can. */
export async function missingBuildKit(): Promise<string | undefined> {
  const found = await findBuildKitPrograms();
  return found.available ? undefined : found.reason;
}

export const buildKitLabel = "bk";

async function availablePrograms(): Promise<BuildKitPrograms> {
  const found = await findBuildKitPrograms();
  if (!found.available) throw new Error(found.reason);
  return found.programs;
}

/** The root of all its files, as docker-cleanup.ts requires. */
function daemonCommand({ buildkitd, runc }: BuildKitPrograms, dir: string): string[] {
  return [
    buildkitd,
    `--config=${join(dir, "daemon.json")}`,
    `--root=${join(dir, "data/buildkit")}`,
    `--addr=unix://${join(dir, "buildkitd.sock")}`,
    `--oci-worker-binary=${runc}`,
    "--oci-worker-snapshotter=overlayfs",
  ];
}

export async function startBuildKit(): Promise<BuildKit> {
  const programs = await availablePrograms();
  const { path: dir } = await makeTempDir(buildKitLabel);
  const address = `unix://${join(dir, "buildkitd.sock")}`;
  let daemon: TestProcess;

  async function start(): Promise<void> {
    daemon = startProcess(daemonCommand(programs, dir), {
      // buildkitd would use a proxy to connect to a registry on this machine.
      env: { HTTP_PROXY: undefined, HTTPS_PROXY: undefined, http_proxy: undefined, https_proxy: undefined },
    });
    const probe = [programs.buildctl, `--addr=${address}`, "debug", "workers"];
    const answer = await waitFor(
      async () => {
        if (daemon.exitCode !== null) return "ended";
        return (await run(probe, { mayFail: true })).exitCode === 0 ? "answers" : undefined;
      },
      { timeoutMs: 60_000, what: "buildkitd to answer" },
    );
    if (answer === "ended") throw new Error(`buildkitd ended at its start:\n${daemon.lines.join("\n")}`);
  }

  async function stop(): Promise<void> {
    await daemon?.stop(10_000);
    await removeEngineFolder(dir);
  }

  try {
    // Not the configuration of the machine's buildkitd.
    await Bun.write(join(dir, "daemon.json"), "");
    await start();
  } catch (error) {
    await stop();
    throw error;
  }
  return {
    address,
    async kill() {
      await daemon.kill();
      await killProcessesOf(dir);
    },
    start,
    stop,
  };
}

/** An image such as moby/buildkit, which cannot be pulled here; no registry serves its name. */
export async function importBuildKitImage(engine: DockerEngine): Promise<string> {
  const { buildkitd, buildctl, runc } = await availablePrograms();
  const name = `127.0.0.1:1/buildkit:${buildKitVersion}`;
  const tree = await makeTempDir("bkimage");
  try {
    const bin = join(tree.path, "usr/bin");
    await mkdir(bin, { recursive: true });
    await mkdir(join(tree.path, "tmp"));
    for (const program of [buildkitd, buildctl, runc]) await cp(program, join(bin, basename(program)));
    for (const library of await librariesOf(runc)) {
      await cp(library, join(tree.path, library), { dereference: true });
      await chmod(join(tree.path, library), 0o755);
    }
    const archive = join(tree.path, "image.tar");
    await run(["tar", "-C", tree.path, "--exclude=image.tar", "-cf", archive, "."]);
    const changes = ['ENTRYPOINT ["/usr/bin/buildkitd"]', "ENV PATH=/usr/bin"];
    await engine.docker(["import", ...changes.map((change) => `--change=${change}`), archive, name]);
    return name;
  } finally {
    await tree.remove();
  }
}

/** Debian's runc is not static. */
async function librariesOf(program: string): Promise<string[]> {
  const { stdout } = await run(["ldd", program], { mayFail: true });
  return [...stdout.matchAll(/(\/\S+) \(0x/g)].map(([, path]) => path ?? "");
}
