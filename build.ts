/**
 * Compiles the three programs, each into one executable that needs nothing but the C library.
 *
 *   bun run build                 for this machine, into dist/
 *   bun run build --all           also for both Linux architectures, into dist/linux-x64/ and dist/linux-arm64/
 *   bun run build --if-changed    only if dist/ was compiled from other sources
 *
 * Each executable has a `<name>.sha256` beside it, in the format of `sha256sum -c`. The same sources produce the same
 * executables on every machine.
 */
import { chmod, mkdir, rename, rm } from "node:fs/promises";
import { join } from "node:path";

const ROOT = import.meta.dir;

const PROGRAMS = [
  { name: "blacktree-orchestrator", entry: "src/orchestrator/main.ts" },
  { name: "blacktree-worker", entry: "src/worker/main.ts" },
  { name: "blacktree", entry: "src/cli/main.ts" },
] as const;

interface Platform {
  readonly name: string;
  readonly target: Bun.Build.CompileTarget;
  /** The npm package with Bun for this platform; the programs are embedded in its executable. */
  readonly bunPackage: string;
}

const PLATFORMS: readonly Platform[] = [
  { name: "linux-x64", target: "bun-linux-x64", bunPackage: "@oven/bun-linux-x64" },
  { name: "linux-arm64", target: "bun-linux-arm64", bunPackage: "@oven/bun-linux-aarch64" },
];

/** The message is ready to print. */
class BuildFailed extends Error {
  override readonly name = "BuildFailed";
}

interface Manifest {
  readonly version: string;
  readonly devDependencies: { readonly bun: string };
}

interface Identity {
  readonly version: string;
  readonly commit: string;
}

async function readManifest(): Promise<Manifest> {
  const manifest = (await Bun.file(join(ROOT, "package.json")).json()) as Manifest;
  const { bun: pinned } = manifest.devDependencies;
  if (Bun.version === pinned) return manifest;
  throw new BuildFailed(
    `this is Bun ${Bun.version}, and an executable contains the Bun that compiles it; use the project's: npx --yes bun@${pinned} run build`,
  );
}

/** "unknown" outside a checkout of this project, also in a folder inside another project's checkout. */
function commitOfCheckout(): string {
  const git = (...args: string[]) => {
    const { exitCode, stdout } = Bun.spawnSync(["git", ...args], {
      cwd: ROOT,
      stdin: "ignore",
      stderr: "ignore",
    });
    return exitCode === 0 ? stdout.toString().trim() : undefined;
  };
  try {
    const isOurs = git("rev-parse", "--show-prefix") === "";
    return (isOurs && git("rev-parse", "--verify", "HEAD")) || "unknown";
  } catch {
    // git is not installed.
    return "unknown";
  }
}

async function compileFor(
  outDir: string,
  identity: Identity,
  platform?: { target: Bun.Build.CompileTarget; executablePath?: string },
): Promise<void> {
  await mkdir(outDir, { recursive: true });
  // By rename: programs that run keep their old files, and a half-written file is never visible.
  const unfinished = join(outDir, `.unfinished-${process.pid}`);
  try {
    for (const { name, entry } of PROGRAMS) {
      const executable = join(unfinished, name);
      await compile(entry, executable, identity, platform);
      await chmod(executable, 0o755);
      const sha256 = new Bun.CryptoHasher("sha256").update(await Bun.file(executable).bytes()).digest("hex");
      await Bun.write(`${executable}.sha256`, `${sha256}  ${name}\n`);
      await rename(executable, join(outDir, name));
      await rename(`${executable}.sha256`, join(outDir, `${name}.sha256`));
    }
  } finally {
    await rm(unfinished, { recursive: true, force: true });
  }
}

async function compile(
  entry: string,
  outfile: string,
  identity: Identity,
  platform: { target?: Bun.Build.CompileTarget; executablePath?: string } = {},
): Promise<void> {
  const { success, logs } = await Bun.build({
    entrypoints: [join(ROOT, entry)],
    root: ROOT,
    target: "bun",
    format: "esm",
    bytecode: true,
    // Errors are logged with their class names, which Bun's keepNames does not keep.
    minify: { whitespace: true, syntax: true, identifiers: false },
    // Embedded in the executable, so that stack traces name source files and lines.
    sourcemap: "linked",
    // The environment of the compiling machine must not change the program.
    env: "disable",
    define: {
      "process.env.NODE_ENV": JSON.stringify("production"),
      BLACKTREE_BUILD_VERSION: JSON.stringify(identity.version),
      BLACKTREE_BUILD_COMMIT: JSON.stringify(identity.commit),
      // Otherwise the executable would contain this machine's folders of packages that read files beside them.
      __dirname: JSON.stringify("/"),
      __filename: JSON.stringify("/"),
    },
    compile: {
      ...platform,
      outfile,
      // An `.env` in the folder where it starts sets nothing, and a bunfig.toml there runs no code.
      autoloadDotenv: false,
      autoloadBunfig: false,
      autoloadTsconfig: false,
      autoloadPackageJson: false,
    },
    throw: false,
  });
  if (success) return;
  throw new BuildFailed([`${entry} does not compile:`, ...logs.map(String)].join("\n"));
}

/** The running Bun if it is built for `platform`, else the Bun of the npm package, whose hash is in bun.lock. */
async function bunFor(platform: Platform): Promise<string> {
  if (platform.name === `${process.platform}-${process.arch}`) return process.execPath;
  const dir = join(ROOT, ".cache", `${platform.name}-bun-${Bun.version}`);
  const executable = join(dir, "bun");
  if (await Bun.file(executable).exists()) return executable;
  console.log(`fetching ${platform.bunPackage} ${Bun.version}`);
  const unfinished = `${dir}.${process.pid}.unfinished`;
  try {
    await installBun(platform.bunPackage, unfinished);
    await mkdir(dir, { recursive: true });
    await rename(join(unfinished, "node_modules", platform.bunPackage, "bin/bun"), executable);
  } finally {
    await rm(unfinished, { recursive: true, force: true });
  }
  return executable;
}

/** With a lockfile of only this package, so that a download is installed only if it has the hash in bun.lock. */
async function installBun(bunPackage: string, dir: string): Promise<void> {
  const lock = Bun.JSONC.parse(await Bun.file(join(ROOT, "bun.lock")).text()) as {
    lockfileVersion: number;
    configVersion: number;
    packages: Record<string, unknown>;
  };
  const entry = lock.packages[bunPackage];
  if (entry === undefined) throw new BuildFailed(`bun.lock does not name ${bunPackage}`);
  const workspace = { name: "bun-of-another-platform", dependencies: { [bunPackage]: Bun.version } };
  const { lockfileVersion, configVersion } = lock;
  await Bun.write(join(dir, "package.json"), JSON.stringify({ ...workspace, private: true }));
  await Bun.write(
    join(dir, "bun.lock"),
    JSON.stringify(
      { lockfileVersion, configVersion, workspaces: { "": workspace }, packages: { [bunPackage]: entry } },
      undefined,
      2,
    ),
  );
  const { exitCode, stderr } = Bun.spawnSync(
    [process.execPath, "install", "--frozen-lockfile", "--ignore-scripts", "--os=*", "--cpu=*"],
    // Only downloads are compared with the hash, so the machine's package cache is not used.
    { cwd: dir, env: { ...process.env, BUN_INSTALL_CACHE_DIR: join(dir, "cache") }, stdin: "ignore" },
  );
  if (exitCode === 0) return;
  throw new BuildFailed(`${bunPackage} ${Bun.version} cannot be installed:\n${stderr.toString().trim()}`);
}

/** Hash of everything that the executables are compiled from. */
async function fingerprint(identity: Identity): Promise<string> {
  const hasher = new Bun.CryptoHasher("sha256").update(JSON.stringify([identity, Bun.version, process.arch]));
  const paths = ["build.ts", "package.json", "bun.lock", "tsconfig.json"];
  paths.push(...(await Array.fromAsync(new Bun.Glob("src/**").scan({ cwd: ROOT }))).sort());
  for (const path of paths) hasher.update(`\0${path}\0`).update(await Bun.file(join(ROOT, path)).bytes());
  return hasher.digest("hex");
}

async function isCurrent(dist: string, current: string): Promise<boolean> {
  const last = await Bun.file(join(dist, ".fingerprint"))
    .text()
    .catch(() => "");
  if (last !== current) return false;
  const present = await Promise.all(PROGRAMS.map(({ name }) => Bun.file(join(dist, name)).exists()));
  return !present.includes(false);
}

async function build(flags: readonly string[]): Promise<void> {
  const unknown = flags.find((flag) => flag !== "--all" && flag !== "--if-changed");
  if (unknown !== undefined)
    throw new BuildFailed(`unknown flag ${unknown}; there are --all and --if-changed`);
  const identity = { version: (await readManifest()).version, commit: commitOfCheckout() };
  const dist = join(ROOT, "dist");
  const current = await fingerprint(identity);

  if (!flags.includes("--if-changed") || !(await isCurrent(dist, current))) {
    await rm(join(dist, ".fingerprint"), { force: true });
    await compileFor(dist, identity);
    await Bun.write(join(dist, ".fingerprint"), current);
    console.log(`compiled ${PROGRAMS.map(({ name }) => `dist/${name}`).join(", ")}`);
  }
  if (!flags.includes("--all")) return;
  for (const platform of PLATFORMS) {
    const outDir = join(dist, platform.name);
    await compileFor(outDir, identity, {
      target: platform.target,
      executablePath: await bunFor(platform),
    });
    console.log(`compiled dist/${platform.name}/{${PROGRAMS.map(({ name }) => name).join(",")}}`);
  }
}

// Bun writes intermediate files to the current folder, and paths in stack traces are relative to that folder.
await mkdir(join(ROOT, ".cache"), { recursive: true });
process.chdir(join(ROOT, ".cache"));
try {
  await build(process.argv.slice(2));
} catch (error) {
  if (!(error instanceof BuildFailed)) throw error;
  console.error(`build: ${error.message}`);
  process.exit(1);
}
