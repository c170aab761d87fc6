/** Servers of Debian 13 on an older release: their packages are unpacked into a folder, which becomes their root. */
import { mkdir } from "node:fs/promises";
import { arch, tmpdir } from "node:os";
import { join } from "node:path";
import { extractDebianPackages } from "../machine/apt.ts";
import { cachedFolder, testCacheFolder } from "../machine/cached-folder.ts";
import { run } from "../machine/processes.ts";

/** `launcher` precedes a program and its arguments: see `ProcessOptions.launcher`. */
export type Debian13 =
  | { readonly available: true; readonly launcher: readonly string[] }
  | { readonly available: false; readonly reason: string };

// The first ones are a part of every installation, so no package depends on them.
const PACKAGES = [
  ...["base-files", "dash", "coreutils", "sed", "grep"],
  ...["rabbitmq-server", "redis-server", "valkey-server"],
];

/** A program sees the machine's processes, devices and temporary files; the kernel removes these mounts at its end. */
const ENTER = `
tree=$1 temporary=$2
shift 2
for dir in /proc /dev "$temporary"; do mount --rbind "$dir" "$tree$dir" || exit; done
# The machine's locale does not exist there.
export LC_ALL=C
exec chroot "$tree" "$@"`;

async function unpackedTree(): Promise<string> {
  const tree = join(testCacheFolder(), `servers-debian-13-${arch()}`);
  return cachedFolder(tree, "etc/hosts", async (unfinished) => {
    await extractDebianPackages(PACKAGES, "trixie", unfinished, { withDependencies: true });
    // No maintainer script has run, and a broker looks up the host of its node.
    await Bun.write(join(unfinished, "etc/hosts"), "127.0.0.1 localhost\n");
  });
}

async function find(): Promise<Debian13> {
  try {
    const tree = await unpackedTree();
    await mkdir(join(tree, tmpdir()), { recursive: true });
    const asRoot = process.getuid?.() === 0 ? [] : ["--map-root-user"];
    const unshare = ["unshare", ...asRoot, "--mount", "--propagation", "private"];
    const launcher = [...unshare, "sh", "-c", ENTER, "enter", tree, tmpdir()];
    await run(["redis-server", "--version"], { launcher });
    return { available: true, launcher };
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    return { available: false, reason: `the servers of Debian 13 do not run on this machine: ${reason}` };
  }
}

let found: Promise<Debian13> | undefined;

export function findDebian13(): Promise<Debian13> {
  found ??= find();
  return found;
}

/** Why tests of these servers cannot run here; undefined when they can. */
export async function missingDebian13(): Promise<string | undefined> {
  const debian = await findDebian13();
  return debian.available ? undefined : debian.reason;
}

/** @throws Error where these servers do not run. */
export async function debian13Launcher(): Promise<readonly string[]> {
  const debian = await findDebian13();
  if (!debian.available) throw new Error(debian.reason);
  return debian.launcher;
}
