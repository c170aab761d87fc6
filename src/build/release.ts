/**
 * A release: a folder that install.sh installs from, served over HTTP or copied to a machine.
 *
 *   install.sh                    with the release's version, address and public key in it
 *   SHA256SUMS, SHA256SUMS.sig    checksums of all files below, and their Ed25519 signature
 *   linux-x64/, linux-arm64/      the programs
 *   systemd/, docs/, LICENSE
 *
 * The same commit, key and address produce the same files in every folder.
 */
import { createPrivateKey, createPublicKey, generateKeyPairSync, type KeyObject, sign } from "node:crypto";
import { chmod, cp, readdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { BuildFailed, bunFor, compileFor, type Identity, PLATFORMS, ROOT } from "./compile.ts";

export interface Release {
  readonly identity: Identity;
  /** An absolute path. An earlier release in it is replaced. */
  readonly dir: string;
  /** Where `dir` is going to be served; without it, install.sh installs from the folder that it is in. */
  readonly baseUrl: string | undefined;
  /** PEM file of an Ed25519 private key; without it, a key of this folder is made and kept beside it. */
  readonly signingKeyPath: string | undefined;
}

export async function buildRelease(release: Release, log: (line: string) => void): Promise<void> {
  checkBaseUrl(release.baseUrl);
  await checkFolder(release.dir);
  const key = await signingKey(release, log);
  const unfinished = `${release.dir}.${process.pid}.unfinished`;
  try {
    for (const platform of PLATFORMS) {
      await compileFor(join(unfinished, platform.name), release.identity, {
        target: platform.target,
        executablePath: await bunFor(platform, log),
      });
      log(`compiled the programs for ${platform.name}`);
    }
    await finishRelease(unfinished, release, key);
    await rm(release.dir, { recursive: true, force: true });
    await rename(unfinished, release.dir);
  } finally {
    await rm(unfinished, { recursive: true, force: true });
  }
  log(`${release.dir} is a release; publish it, or install from it:`);
  log(`  sudo ${join(release.dir, "install.sh")} --help`);
}

/** Adds to a folder with the programs of each platform what makes it a release. */
export async function finishRelease(
  dir: string,
  { identity, baseUrl }: Pick<Release, "identity" | "baseUrl">,
  key: KeyObject,
): Promise<void> {
  for (const name of ["systemd", "docs", "LICENSE"]) {
    await cp(join(ROOT, name), join(dir, name), { recursive: true });
  }
  const sums = await checksums(dir);
  await writeFile(join(dir, "SHA256SUMS"), sums);
  await writeFile(join(dir, "SHA256SUMS.sig"), sign(null, Buffer.from(sums), key));
  const script = join(dir, "install.sh");
  await writeFile(script, await installScript(await programMiB(dir), { identity, baseUrl }, key));
  await chmod(script, 0o755);
}

/** These characters need no quoting in a shell. */
const BASE_URL = /^https?:\/\/[A-Za-z0-9.:[\]/_~%-]+$/;

function checkBaseUrl(baseUrl: string | undefined): void {
  if (baseUrl === undefined || BASE_URL.test(baseUrl)) return;
  throw new BuildFailed(
    `BLACKTREE_BASE_URL=${baseUrl} is not a valid address; expected e.g. https://example.com/blacktree`,
  );
}

async function checkFolder(dir: string): Promise<void> {
  const names = await readdir(dir).catch((error: NodeJS.ErrnoException): string[] => {
    if (error.code === "ENOENT") return [];
    throw new BuildFailed(`${dir} cannot be read (${error.code}); name another folder with --release`);
  });
  if (names.length === 0 || names.includes("SHA256SUMS")) return;
  throw new BuildFailed(
    `${dir} has other files than a release; name an empty or a new folder with --release`,
  );
}

async function signingKey({ dir, signingKeyPath }: Release, log: (line: string) => void): Promise<KeyObject> {
  if (signingKeyPath !== undefined) return readKey(signingKeyPath);
  const path = `${dir}.signing-key.pem`;
  if (!(await Bun.file(path).exists())) {
    const { privateKey } = generateKeyPairSync("ed25519");
    await writeFile(path, privateKey.export({ type: "pkcs8", format: "pem" }), { mode: 0o600, flag: "wx" });
    log(`BLACKTREE_SIGNING_KEY is not set: made the key ${path}`);
  }
  log(`signing with ${path}; do not publish it`);
  return readKey(path);
}

async function readKey(path: string): Promise<KeyObject> {
  const expected = "expected the PEM file of an Ed25519 private key (openssl genpkey -algorithm ed25519)";
  let key: KeyObject;
  try {
    key = createPrivateKey(await readFile(path));
  } catch (error) {
    throw new BuildFailed(`signing key ${path} cannot be read: ${(error as Error).message}; ${expected}`);
  }
  if (key.asymmetricKeyType === "ed25519") return key;
  throw new BuildFailed(`signing key ${path} is of the type ${key.asymmetricKeyType}; ${expected}`);
}

/** In the format of `sha256sum -c`. */
async function checksums(dir: string): Promise<string> {
  const paths = await Array.fromAsync(new Bun.Glob("**").scan({ cwd: dir }));
  const lines = paths.sort().map(async (path) => {
    const sha256 = new Bun.CryptoHasher("sha256").update(await Bun.file(join(dir, path)).bytes());
    return `${sha256.digest("hex")}  ${path}\n`;
  });
  return (await Promise.all(lines)).join("");
}

/** Size of the largest program. */
async function programMiB(dir: string): Promise<number> {
  const paths = await Array.fromAsync(new Bun.Glob("linux-*/*").scan({ cwd: dir }));
  return Math.ceil(Math.max(...paths.map((path) => Bun.file(join(dir, path)).size)) / 2 ** 20);
}

const DATA = /(?<=^# release data: begin\n).*(?=^# release data: end$)/ms;
async function installScript(
  programMiB: number,
  { identity, baseUrl = "" }: Pick<Release, "identity" | "baseUrl">,
  key: KeyObject,
): Promise<string> {
  const script = await readFile(join(ROOT, "install.sh"), "utf8");
  if (!DATA.test(script)) throw new BuildFailed("install.sh has no section for the release's data");
  const publicKey = createPublicKey(key).export({ type: "spki", format: "der" }).toString("base64");
  const data = {
    release_version: identity.version,
    release_commit: identity.commit,
    release_time: identity.committedAtSeconds,
    release_base: baseUrl.replace(/\/+$/, ""),
    release_key: publicKey,
    release_program_mib: programMiB,
  };
  const lines = Object.entries(data).map(([name, value]) => `${name}='${value}'\n`);
  return script.replace(DATA, () => lines.join(""));
}
