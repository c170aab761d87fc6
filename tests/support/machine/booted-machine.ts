/** A Debian machine with systemd, booted in a container on this machine's network. Its programs are real processes. */
import { existsSync } from "node:fs";
import { readdir, readFile } from "node:fs/promises";
import { basename, join, relative } from "node:path";
import { type DebianRelease, debianTree } from "./debian-tree.ts";
import { unmountBelow } from "./mounts.ts";
import { type FinishedProcess, type RunOptions, run, startProcess, type TestProcess } from "./processes.ts";
import { makeTempDir } from "./temp-dir.ts";
import { waitFor } from "./wait-for.ts";

export interface BootOptions {
  readonly release: DebianRelease;
  /** Paths of this machine by their paths on the booted one. */
  readonly binds?: Readonly<Record<string, string>>;
}

export interface BootedMachine {
  /** The machine's root folder, as seen from outside. */
  readonly root: string;
  /** Runs a command there as root. */
  run(
    command: readonly string[],
    options?: Pick<RunOptions, "mayFail" | "timeoutMs">,
  ): Promise<FinishedProcess>;
  reboot(): Promise<void>;
  /** Paths that the machine has created, changed or removed since its installation, but for those of an idle machine. */
  changedPaths(): Promise<string[]>;
  /** Removes it. */
  stop(): Promise<void>;
}

/** Independent of a systemd of this machine. */
const CONTAINER = ["--register=no", "--keep-unit", "--link-journal=no", "--console=pipe"];
const BOOT_TIMEOUT_MS = 240_000;
/** A command may wait for the start or stop of a service. */
const COMMAND_TIMEOUT_MS = 240_000;
/** Its services end in order, which takes a while on a busy machine. */
const STOP_GRACE_MS = 60_000;
/** Debian's daily jobs would change files when a test runs at midnight. */
const WITHOUT_TIMERS = ["systemd.mask=timers.target"];
const ENVIRONMENT = [
  "env",
  "-i",
  "HOME=/root",
  "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
];
/** Written by an idle machine. */
const OWN_PATHS =
  /^(etc\/(machine-id|\.updated|\.pwd\.lock|ld\.so\.cache|resolv\.conf)|var\/(\.updated|log|tmp|cache|lib\/(systemd|dbus|private))|tmp|run|root|media)(\/|$)/;

/** Why no machine can be booted here; undefined when it is possible. */
export async function missingBootedMachines(): Promise<string | undefined> {
  if (process.getuid?.() !== 0) return "only root can boot a container";
  const missing = ["mmdebstrap", "systemd-nspawn"].filter((program) => Bun.which(program) === null);
  if (missing.length > 0) return `${missing.join(" and ")} not found`;
  try {
    const tree = await debianTree("13");
    await run(["systemd-nspawn", "--quiet", `--directory=${tree}`, "--read-only", ...CONTAINER, "true"]);
    return undefined;
  } catch (error) {
    return `Debian does not start in a container here: ${error instanceof Error ? error.message : error}`;
  }
}

export async function bootMachine({ release, binds = {} }: BootOptions): Promise<BootedMachine> {
  const tree = await debianTree(release);
  const dir = await makeTempDir("machine");
  const [root, written, work] = ["root", "written", "work"].map((name) => join(dir.path, name)) as [
    string,
    string,
    string,
  ];
  let container: TestProcess | undefined;

  const inside = async (command: readonly string[], options: RunOptions = {}) => {
    const namespaces = ["--mount", "--pid", "--uts", "--ipc", "--root", "--wd"];
    const enter = ["nsenter", `--target=${await leaderOf(container)}`, ...namespaces, "--"];
    return run([...enter, ...ENVIRONMENT, ...command], { timeoutMs: COMMAND_TIMEOUT_MS, ...options });
  };

  async function boot(): Promise<void> {
    const bound = Object.entries(binds).map(([there, here]) => `--bind=${here}:${there}`);
    const options = [`--directory=${root}`, `--machine=${basename(dir.path)}`, ...CONTAINER, ...bound];
    const started = startProcess(["systemd-nspawn", "--quiet", "--boot", ...options, ...WITHOUT_TIMERS]);
    container = started;
    await waitFor(
      async () => {
        if (started.exitCode !== null) return true;
        const { stdout } = await inside(["systemctl", "is-system-running", "--wait"], { mayFail: true });
        return /^(running|degraded)$/m.test(stdout);
      },
      { timeoutMs: BOOT_TIMEOUT_MS, what: `Debian ${release} to boot` },
    );
    if (started.exitCode !== null)
      throw new Error(`Debian ${release} did not boot:\n${started.lines.slice(-20).join("\n")}`);
  }

  async function stop(): Promise<void> {
    await container?.stop(STOP_GRACE_MS);
    await unmountBelow(dir.path);
    await dir.remove();
  }

  try {
    await run(["mkdir", root, written, work]);
    const layers = `lowerdir=${tree},upperdir=${written},workdir=${work}`;
    await run(["mount", "-t", "overlay", "overlay", "-o", layers, root]);
    await boot();
  } catch (error) {
    await stop();
    throw error;
  }
  return {
    root,
    run: inside,
    async reboot() {
      // Its end is the end of the container, and possibly of this command.
      await inside(["systemctl", "reboot"], { mayFail: true });
      await container?.exited;
      await boot();
    },
    async changedPaths() {
      const entries = await readdir(written, { recursive: true, withFileTypes: true });
      return (
        entries
          .map((entry) => ({
            path: relative(written, join(entry.parentPath, entry.name)),
            isFolder: entry.isDirectory(),
          }))
          // The overlay also has the folders of changed entries.
          .filter(
            ({ path, isFolder }) => !(isFolder && existsSync(join(tree, path))) && !OWN_PATHS.test(path),
          )
          .map(({ path }) => path)
          .sort()
      );
    },
    stop,
  };
}

/** The process id of the container's init. */
async function leaderOf(container: TestProcess | undefined): Promise<number> {
  const pid = container?.pid;
  const children = (await readFile(`/proc/${pid}/task/${pid}/children`, "utf8")).trim().split(" ");
  const leader = Number(children.at(-1));
  if (!leader) throw new Error("the container has no init yet");
  return leader;
}
