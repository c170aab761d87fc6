/**
 * Compiles the three programs, each into one executable that needs nothing but the C library.
 *
 *   bun run build                 for this machine, into dist/
 *   bun run build --if-changed    only if dist/ was compiled from other sources
 *   bun run build --release DIR   for all platforms, into a folder that install.sh installs from (src/build/release.ts)
 *
 * The same sources produce the same executables on every machine.
 */
import { mkdir, rm } from "node:fs/promises";
import { join, resolve } from "node:path";
import { parseArgs } from "node:util";
import {
  BuildFailed,
  compileFor,
  type Identity,
  identityOfCheckout,
  PROGRAMS,
  ROOT,
} from "./src/build/compile.ts";
import { buildRelease } from "./src/build/release.ts";

/** Hash of everything that the executables are compiled from. */
async function fingerprint(identity: Identity): Promise<string> {
  const { version, commit } = identity;
  const hasher = new Bun.CryptoHasher("sha256").update(
    JSON.stringify([version, commit, Bun.version, process.arch]),
  );
  const paths = ["package.json", "bun.lock", "tsconfig.json", "src/build/compile.ts"];
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

async function buildForThisMachine(identity: Identity, onlyIfChanged: boolean): Promise<void> {
  const dist = join(ROOT, "dist");
  const current = await fingerprint(identity);
  if (onlyIfChanged && (await isCurrent(dist, current))) return;
  await rm(join(dist, ".fingerprint"), { force: true });
  await compileFor(dist, identity);
  await Bun.write(join(dist, ".fingerprint"), current);
  console.log(`compiled ${PROGRAMS.map(({ name }) => `dist/${name}`).join(", ")}`);
}

function parseFlags() {
  try {
    return parseArgs({
      options: { "if-changed": { type: "boolean", default: false }, release: { type: "string" } },
    }).values;
  } catch (error) {
    throw new BuildFailed(`${(error as Error).message}; there are --if-changed and --release DIR`);
  }
}

async function build(startFolder: string): Promise<void> {
  const flags = parseFlags();
  const identity = await identityOfCheckout();
  if (flags.release === undefined) return buildForThisMachine(identity, flags["if-changed"]);
  const { BLACKTREE_BASE_URL, BLACKTREE_SIGNING_KEY } = process.env;
  await buildRelease(
    {
      identity,
      dir: resolve(startFolder, flags.release),
      baseUrl: BLACKTREE_BASE_URL || undefined,
      signingKeyPath: BLACKTREE_SIGNING_KEY && resolve(startFolder, BLACKTREE_SIGNING_KEY),
    },
    (line) => console.log(line),
  );
}

const startFolder = process.cwd();
// Bun writes intermediate files to the current folder, and paths in stack traces are relative to that folder.
await mkdir(join(ROOT, ".cache"), { recursive: true });
process.chdir(join(ROOT, ".cache"));
try {
  await build(startFolder);
} catch (error) {
  if (!(error instanceof BuildFailed)) throw error;
  console.error(`build: ${error.message}`);
  process.exit(1);
}
