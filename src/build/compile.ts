/** Compiles the programs. The same sources produce the same executables on every machine and in every folder. */
import { chmod, mkdir, rename, rm } from "node:fs/promises";
import { join } from "node:path";

export const ROOT = join(import.meta.dir, "../..");

export const PROGRAMS = [
  { name: "blacktree-orchestrator", entry: "src/orchestrator/main.ts" },
  { name: "blacktree-worker", entry: "src/worker/main.ts" },
  { name: "blacktree", entry: "src/cli/main.ts" },
] as const;

export interface Platform {
  readonly name: string;
  readonly target: Bun.Build.CompileTarget;
  /** The npm package with Bun for this platform; the programs are embedded in its executable. */
  readonly bunPackage: string;
}

/** Bun's x64 build runs on processors without AVX2 too: it needs SSE4.2 (Nehalem, 2008), which install.sh checks. */
export const PLATFORMS: readonly Platform[] = [
  { name: "linux-x64", target: "bun-linux-x64", bunPackage: "@oven/bun-linux-x64" },
  { name: "linux-arm64", target: "bun-linux-arm64", bunPackage: "@oven/bun-linux-aarch64" },
];

/** The message is ready to print. */
export class BuildFailed extends Error {
  override readonly name = "BuildFailed";
}

interface Manifest {
  readonly version: string;
  readonly devDependencies: { readonly bun: string };
}

export interface Identity {
  readonly version: string;
  readonly commit: string;
  readonly committedAtSeconds: number;
}

async function readManifest(): Promise<Manifest> {
  const manifest = (await Bun.file(join(ROOT, "package.json")).json()) as Manifest;
  const { bun: pinned } = manifest.devDependencies;
  if (Bun.version === pinned) return manifest;
  throw new BuildFailed(
    `this is Bun ${Bun.version}, and an executable contains the Bun that compiles it; use the project's: npx --yes bun@${pinned} run build`,
  );
}

/** Of the commit that is checked out. "unknown" outside a checkout of this project, also in another project's. */
export async function identityOfCheckout(): Promise<Identity> {
  const { version } = await readManifest();
  const git = (...args: string[]) => {
    const { exitCode, stdout } = Bun.spawnSync(["git", "-c", "log.showSignature=false", ...args], {
      cwd: ROOT,
      stdin: "ignore",
      stderr: "ignore",
    });
    return exitCode === 0 ? stdout.toString().trim() : undefined;
  };
  try {
    const isOurs = git("rev-parse", "--show-prefix") === "";
    const [commit, seconds] =
      (isOurs && git("show", "--no-patch", "--format=%H %ct", "HEAD")?.split(" ")) || [];
    if (commit !== undefined) return { version, commit, committedAtSeconds: Number(seconds) };
  } catch {
    // git is not installed.
  }
  return { version, commit: "unknown", committedAtSeconds: 0 };
}

export async function compileFor(
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
      await rename(executable, join(outDir, name));
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
export async function bunFor(platform: Platform, log: (line: string) => void): Promise<string> {
  if (platform.name === `${process.platform}-${process.arch}`) return process.execPath;
  const dir = join(ROOT, ".cache", `${platform.name}-bun-${Bun.version}`);
  const executable = join(dir, "bun");
  if (await Bun.file(executable).exists()) return executable;
  log(`fetching ${platform.bunPackage} ${Bun.version}`);
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
