import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { run } from "./processes.ts";
import { makeTempDir } from "./temp-dir.ts";

export interface Distribution {
  id: string;
  codename: string;
  name: string;
}

export async function distribution(): Promise<Distribution> {
  const text = await readFile("/etc/os-release", "utf8");
  const field = (name: string) => new RegExp(`^${name}="?([^"\\n]*)"?$`, "m").exec(text)?.[1] ?? "";
  return { id: field("ID"), codename: field("VERSION_CODENAME"), name: field("PRETTY_NAME") };
}

/** The mirror of Debian's main archive that this machine uses, as apt reports it from its settings in any format. */
export async function debianArchive(codename: string): Promise<string> {
  const { stdout } = await run([
    "apt-get",
    "indextargets",
    "--format",
    "$(SITE)\t$(RELEASE)\t$(COMPONENT)",
    "Created-By: Packages",
  ]);
  const suites = [codename, "stable", "oldstable", "testing"];
  for (const line of stdout.split("\n")) {
    const [site, suite, component] = line.split("\t");
    if (site && suite && component === "main" && suites.includes(suite)) return site;
  }
  throw new Error(`apt on this machine has no source for Debian's "${codename} main"`);
}

const keyrings = [
  "/usr/share/keyrings/debian-archive-keyring.gpg",
  "/usr/share/keyrings/debian-archive-keyring.pgp",
];

async function firstExisting(paths: readonly string[]): Promise<string | undefined> {
  for (const path of paths) if (await Bun.file(path).exists()) return path;
  return undefined;
}

interface ExtractOptions {
  readonly withDependencies?: boolean;
  /** Debian's name of it; by default this machine's. */
  readonly architecture?: string;
}

/**
 * Downloads packages of another Debian release and unpacks them into a folder. Nothing is installed, and apt's
 * sources, lists and caches are not changed: apt works on private ones, with the machine's mirror and other settings.
 */
export async function extractDebianPackages(
  packages: readonly string[],
  suite: string,
  into: string,
  { withDependencies = false, architecture }: ExtractOptions = {},
): Promise<void> {
  const machine = await distribution();
  if (machine.id !== "debian") throw new Error(`${machine.name} has no source of Debian packages`);
  const archive = await debianArchive(machine.codename);
  const keyring = await firstExisting(keyrings);
  const dir = await makeTempDir("apt");
  try {
    await Bun.write(
      join(dir.path, "sources", "other-release.sources"),
      [
        "Types: deb",
        `URIs: ${archive}`,
        `Suites: ${suite}`,
        "Components: main",
        ...(keyring ? [`Signed-By: ${keyring}`] : []),
        "",
      ].join("\n"),
    );
    // Empty list of installed packages: the candidate is then the suite's, even if older than the installed one.
    await Bun.write(join(dir.path, "status"), "");
    const debs = join(dir.path, "debs");
    await run(["mkdir", "-p", join(dir.path, "lists/partial"), join(debs, "partial")]);
    const apt = [
      "apt-get",
      ...[
        "Dir::Etc::sourcelist=/dev/null",
        `Dir::Etc::sourceparts=${join(dir.path, "sources")}`,
        "Dir::Etc::preferences=/dev/null",
        "Dir::Etc::preferencesparts=/dev/null",
        `Dir::State::status=${join(dir.path, "status")}`,
        `Dir::State::lists=${join(dir.path, "lists")}`,
        `Dir::Cache=${join(dir.path, "cache")}`,
        `Dir::Cache::archives=${debs}`,
        "Acquire::Languages=none",
        "Acquire::Retries=3",
        "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false",
        "APT::Sandbox::User=root",
        ...(architecture ? [`APT::Architecture=${architecture}`, `APT::Architectures=${architecture}`] : []),
      ].flatMap((option) => ["-o", option]),
    ];
    await run([...apt, "update"], { timeoutMs: 180_000 });
    const download = withDependencies
      ? ["install", "--yes", "--download-only", "--no-install-recommends"]
      : ["download"];
    await run([...apt, ...download, ...packages], { cwd: debs, timeoutMs: 300_000 });
    for await (const deb of new Bun.Glob("*.deb").scan({ cwd: debs, absolute: true })) {
      await run(["dpkg-deb", "-x", deb, into]);
    }
  } finally {
    await dir.remove();
  }
}
