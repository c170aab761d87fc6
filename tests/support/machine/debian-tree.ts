/** The file system of a newly installed Debian, made once for each release and cached; tests boot copies of it. */
import { createHash } from "node:crypto";
import { arch } from "node:os";
import { join } from "node:path";
import { debianArchive, distribution } from "./apt.ts";
import { cachedFolder, testCacheFolder } from "./cached-folder.ts";
import { run } from "./processes.ts";
import { makeTempDir } from "./temp-dir.ts";

export type DebianRelease = "12" | "13";

interface Release {
  readonly suite: string;
  /** Besides a minimal Debian: what Blacktree's worker needs on its machine. */
  readonly packages: readonly string[];
}

const SYSTEM = ["systemd", "systemd-sysv", "dbus", "ca-certificates", "git"];

const RELEASES: Record<DebianRelease, Release> = {
  // Its client is in the package of the engine.
  "12": { suite: "bookworm", packages: [...SYSTEM, "docker.io"] },
  "13": { suite: "trixie", packages: [...SYSTEM, "docker-cli", "docker-buildx"] },
};

/** Machines of tests use an engine of the tests. */
const UNWANTED_UNITS = ["docker.service", "docker.socket", "containerd.service"];

/** apt's settings for downloads, such as a proxy. */
async function downloadSettings(): Promise<string> {
  const { stdout } = await run(["apt-config", "dump"]);
  return stdout
    .split("\n")
    .filter((line) => /^Acquire::(https?|Retries|ForceIPv)/.test(line))
    .join("\n");
}

async function makeTree({ suite, packages }: Release, tree: string): Promise<void> {
  const machine = await distribution();
  if (machine.id !== "debian") throw new Error(`${machine.name} has no source of Debian packages`);
  const archive = await debianArchive(machine.codename);
  const settings = await makeTempDir("apt");
  try {
    const file = join(settings.path, "apt.conf");
    await Bun.write(file, await downloadSettings());
    const options = ["--variant=minbase", `--include=${packages.join(",")}`, `--aptopt=${file}`];
    await run(["mmdebstrap", "--quiet", ...options, suite, tree, archive], { timeoutMs: 300_000 });
  } finally {
    await settings.remove();
  }
  for (const unit of UNWANTED_UNITS)
    await run(["ln", "-sf", "/dev/null", join(tree, "etc/systemd/system", unit)]);
  // As the engine's package makes it: the engine's socket belongs to this group.
  await run(["chroot", tree, "groupadd", "--system", "--force", "docker"]);
}

/** The folder of the release's file system. Not to be written to. */
export async function debianTree(release: DebianRelease): Promise<string> {
  const wanted = RELEASES[release];
  const version = createHash("sha256").update(JSON.stringify(wanted)).digest("hex").slice(0, 8);
  const tree = join(testCacheFolder(), `debian-${release}-${arch()}-${version}`);
  return cachedFolder(tree, "etc/debian_version", (unfinished) => makeTree(wanted, unfinished));
}
