/** Releases as `bun run build --release` makes them, with stand-ins for the programs or with those of this machine. */
import { generateKeyPairSync, type KeyObject } from "node:crypto";
import { chmod, link, mkdir } from "node:fs/promises";
import { join } from "node:path";
import { PLATFORMS, PROGRAMS } from "../../../src/build/compile.ts";
import { finishRelease } from "../../../src/build/release.ts";
import { compiledBinaries } from "../blacktree/binaries.ts";
import { makeTempDir } from "../machine/temp-dir.ts";
import { writeFiles } from "../machine/write-files.ts";

export interface TestRelease {
  readonly dir: string;
  /** Its install.sh. */
  readonly script: string;
  /** Signs the files as they are now, with the release's key. */
  sign(): Promise<void>;
  remove(): Promise<void>;
}

export interface ReleaseOptions {
  readonly baseUrl?: string;
  /** By default scripts that print their name and platform. */
  readonly programs?: "stand-ins" | "compiled";
  readonly version?: string;
  readonly committedAtSeconds?: number;
  /** More files, by their paths in the release. */
  readonly files?: Readonly<Record<string, string>>;
}

export const thisPlatform = `${process.platform}-${process.arch}`;

export async function makeRelease(options: ReleaseOptions = {}): Promise<TestRelease> {
  const { baseUrl, version = "1.2.3", committedAtSeconds = 0, files = {} } = options;
  const dir = await makeTempDir("release");
  const key: KeyObject = generateKeyPairSync("ed25519").privateKey;
  if (options.programs === "compiled") await linkCompiled(join(dir.path, thisPlatform));
  else for (const { name } of PLATFORMS) await writeStandIns(join(dir.path, name), name);
  await writeFiles(dir.path, files);
  const sign = () =>
    finishRelease(
      dir.path,
      { identity: { version, commit: "0".repeat(40), committedAtSeconds }, baseUrl },
      key,
    );
  await sign();
  return { dir: dir.path, script: join(dir.path, "install.sh"), sign, remove: dir.remove };
}

async function writeStandIns(dir: string, platform: string): Promise<void> {
  const script = (name: string) => `#!/bin/sh\necho ${name} for ${platform}\n`;
  await writeFiles(dir, Object.fromEntries(PROGRAMS.map(({ name }) => [name, script(name)])));
  for (const { name } of PROGRAMS) await chmod(join(dir, name), 0o755);
}

async function linkCompiled(dir: string): Promise<void> {
  const { dir: dist } = await compiledBinaries();
  await mkdir(dir);
  for (const { name } of PROGRAMS) await link(join(dist, name), join(dir, name));
}
