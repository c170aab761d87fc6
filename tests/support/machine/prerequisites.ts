import { constants } from "node:fs";
import { access } from "node:fs/promises";
import { type DockerEngineName, findDockerPrograms, hasInstalledBuildx } from "../servers/docker-programs.ts";
import { distribution } from "./apt.ts";
import { CommandFailed, run } from "./processes.ts";

/** "try": one real build; "drill" and "bench": all servers and the newer engine; "check": all tests. */
export type Purpose = "try" | "drill" | "bench" | "check";

export type EngineState = "available" | { reason: string };

export interface Prerequisites {
  /** The packages that this call installed; empty when the machine had them all. */
  installed: readonly string[];
  /** Which Docker engines the tests can start here, and if not, why. Empty for "try". */
  engines: Readonly<Partial<Record<DockerEngineName, EngineState>>>;
}

/** Says what is missing and what to do about it; the message can be shown to a user unchanged. */
export class MissingPrerequisite extends Error {
  override readonly name = "MissingPrerequisite";
}

interface Package {
  name: string;
  /** Programs that make the package unnecessary when all of them exist, from any source. */
  programs: readonly string[];
  /** For programs that another package installs in a variant that cannot be used here. */
  isUsable?: () => Promise<boolean>;
}

const forTry: readonly Package[] = [
  { name: "docker.io", programs: ["/usr/bin/docker", "dockerd", "containerd", "runc"] },
  { name: "docker-registry", programs: ["docker-registry"] },
  { name: "apache2-utils", programs: ["htpasswd"] },
  { name: "git", programs: ["git", "/usr/lib/git-core/git-http-backend"] },
  { name: "busybox-static", programs: ["busybox"], isUsable: hasStaticBusybox },
  { name: "iptables", programs: ["iptables"] },
  { name: "iproute2", programs: ["ip"] },
  { name: "util-linux", programs: ["setpriv"] },
];

const forCheck: readonly Package[] = [
  ...forTry,
  { name: "rabbitmq-server", programs: ["/usr/lib/rabbitmq/bin/rabbitmq-server", "erl"] },
  { name: "redis-server", programs: ["redis-server"] },
  { name: "faketime", programs: ["faketime"] },
  { name: "git-lfs", programs: ["git-lfs"] },
  { name: "openssl", programs: ["openssl"] },
  { name: "curl", programs: ["curl"] },
  { name: "wget", programs: ["wget"] },
  { name: "shellcheck", programs: ["shellcheck"] },
  { name: "systemd", programs: ["systemd-analyze"] },
  { name: "systemd-container", programs: ["systemd-nspawn"] },
  { name: "mmdebstrap", programs: ["mmdebstrap"] },
  { name: "ca-certificates", programs: ["update-ca-certificates"] },
  { name: "python3-venv", programs: ["python3"], isUsable: canMakeVenv },
];

// Since Debian 13 the client has a separate package, which docker.io only recommends.
const separateDockerClient: Package = { name: "docker-cli", programs: ["/usr/bin/docker"] };

const systemPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

async function hasProgram(program: string): Promise<boolean> {
  if (!program.startsWith("/"))
    return Bun.which(program, { PATH: `${process.env.PATH}:${systemPath}` }) !== null;
  return access(program, constants.X_OK).then(
    () => true,
    () => false,
  );
}

/** It becomes the only file of an image, so it must not need a shared library. */
async function hasStaticBusybox(): Promise<boolean> {
  const path = Bun.which("busybox");
  if (path === null) return false;
  const head = await Bun.file(path).slice(0, 4096).text();
  return !/\/ld-(linux|musl)/.test(head);
}

/** Debian's python3 alone has the module, but nothing that it could put into a new environment. */
async function canMakeVenv(): Promise<boolean> {
  const { exitCode } = await run(["python3", "-c", "import ensurepip, venv"], { mayFail: true });
  return exitCode === 0;
}

async function isMissing(wanted: Package): Promise<boolean> {
  const present = await Promise.all(wanted.programs.map(hasProgram));
  return present.includes(false) || (await wanted.isUsable?.()) === false;
}

async function missingOf(packages: readonly Package[]): Promise<Package[]> {
  const missing = await Promise.all(packages.map(isMissing));
  return packages.filter((_, index) => missing[index]);
}

async function asRoot(missing: readonly string[]): Promise<readonly string[]> {
  if (process.getuid?.() === 0) return [];
  const remedy = `sudo apt-get install -y --no-install-recommends ${missing.join(" ")}`;
  if (Bun.which("sudo") === null) {
    throw new MissingPrerequisite(`packages are missing, and only root can install them:\n  ${remedy}`);
  }
  const { exitCode } = await run(["sudo", "-n", "true"], { mayFail: true });
  if (exitCode === 0) return ["sudo", "-n"];
  throw new MissingPrerequisite(
    `packages are missing, and sudo needs a password; run this first:\n  ${remedy}`,
  );
}

const servicePolicy = "/usr/sbin/policy-rc.d";

/** Debian starts a service when its package is installed, unless this file forbids it. The tests start theirs. */
async function withoutStartingServices(sudo: readonly string[], install: () => Promise<void>): Promise<void> {
  if (await Bun.file(servicePolicy).exists()) return install();
  await run([...sudo, "tee", servicePolicy], { stdin: "#!/bin/sh\nexit 101\n" });
  await run([...sudo, "chmod", "755", servicePolicy]);
  try {
    await install();
  } finally {
    await run([...sudo, "rm", "-f", servicePolicy]);
  }
}

async function aptGet(sudo: readonly string[], args: readonly string[]): Promise<void> {
  const command = [
    ...sudo,
    "env",
    "DEBIAN_FRONTEND=noninteractive",
    "apt-get",
    "-o",
    "DPkg::Lock::Timeout=120",
    "-o",
    "Acquire::Retries=3",
    ...args,
  ];
  const result = await run(command, { timeoutMs: 900_000, mayFail: true });
  if (result.exitCode !== 0) await run(command, { timeoutMs: 900_000 });
}

/** Names of packages that no source of this machine offers. */
async function unknownToApt(names: readonly string[]): Promise<string[]> {
  const { stdout } = await run(["apt-cache", "policy", ...names], { env: { LC_ALL: "C" } });
  const offered = new Set<string>();
  for (const [, name, candidate] of stdout.matchAll(/^(\S+):\n(?: {2}.*\n)*? {2}Candidate: (.*)$/gm)) {
    if (name && candidate !== "(none)") offered.add(name);
  }
  return names.filter((name) => !offered.has(name));
}

async function install(names: readonly string[], log: (line: string) => void): Promise<void> {
  if (Bun.which("apt-get") === null) {
    throw new MissingPrerequisite(
      `missing: ${names.join(", ")}. Automatic installation works only on Debian and Ubuntu; install them and try again`,
    );
  }
  const sudo = await asRoot(names);
  log(`installing with apt: ${names.join(" ")}`);
  // A new machine has no package lists, and old lists name versions that the mirror has removed.
  await aptGet(sudo, ["update"]).catch((error: unknown) => {
    log(`apt-get update failed, using the existing package lists: ${firstLine(error)}`);
  });
  const unknown = await unknownToApt(names);
  if (unknown.length > 0) {
    throw new MissingPrerequisite(
      `apt does not find ${unknown.join(", ")}; enable the component that has it ("universe" on Ubuntu), run apt-get update, and try again`,
    );
  }
  try {
    await withoutStartingServices(sudo, () =>
      aptGet(sudo, ["install", "-y", "--no-install-recommends", ...names]),
    );
  } catch (error) {
    const output = error instanceof CommandFailed ? error.message : String(error);
    throw new MissingPrerequisite(`apt-get failed to install ${names.join(", ")}:\n${output}`, {
      cause: error,
    });
  }
}

function firstLine(error: unknown): string {
  return (error instanceof Error ? error.message : String(error)).split("\n")[0] ?? "";
}

async function installMissing(packages: readonly Package[], log: (line: string) => void): Promise<string[]> {
  const missing = (await missingOf(packages)).map(({ name }) => name);
  if (missing.length > 0) await install(missing, log);
  // Only the distribution's docker.io shows whether the client is in a separate package.
  if (await isMissing(separateDockerClient)) {
    await install([separateDockerClient.name], log);
    missing.push(separateDockerClient.name);
  }
  const stillMissing = await missingOf(packages);
  if (stillMissing.length === 0) return missing;
  const list = stillMissing.map(({ name, programs }) => `${name} (for ${programs.join(", ")})`).join("; ");
  throw new MissingPrerequisite(
    `apt has installed these packages, but their programs are not found: ${list}`,
  );
}

async function probeEngine(engine: DockerEngineName, log: (line: string) => void): Promise<EngineState> {
  const found = await findDockerPrograms(engine);
  if (found.available) return "available";
  log(found.reason);
  return { reason: found.reason };
}

/** Debian's buildx is unpacked only where needed; Ubuntu has a package for its engine, which may be unavailable. */
async function installUbuntuBuildx(log: (line: string) => void): Promise<string[]> {
  if ((await distribution()).id !== "ubuntu" || (await hasInstalledBuildx())) return [];
  return install(["docker-buildx"], log).then(
    () => ["docker-buildx"],
    (error: unknown) => {
      log(`continuing without buildx: ${firstLine(error)}`);
      return [];
    },
  );
}

/** Installs what the purpose needs, or throws a MissingPrerequisite. Returns quickly when nothing is missing. */
export async function ensurePrerequisites(
  what: Purpose,
  log: (line: string) => void,
): Promise<Prerequisites> {
  const installed = await installMissing(what === "try" ? forTry : forCheck, log);
  installed.push(...(await installUbuntuBuildx(log)));
  if (what === "try") return { installed, engines: {} };
  if (what === "check") {
    return {
      installed,
      engines: { "20.10": await probeEngine("20.10", log), "26.1": await probeEngine("26.1", log) },
    };
  }
  return { installed, engines: { "26.1": await probeEngine("26.1", log) } };
}
