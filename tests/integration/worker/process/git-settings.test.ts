/** Git in a folder that a repository has filled, as any program may start it. */
import { afterEach, beforeEach, expect, test } from "bun:test";
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { childEnvironment } from "../../../../src/worker/process/child-environment.ts";
import { runInGroup } from "../../../../src/worker/process/process-group.ts";
import { run } from "../../../support/machine/processes.ts";
import { makeTempDir, type TempDir } from "../../../support/machine/temp-dir.ts";
import { writeFiles } from "../../../support/machine/write-files.ts";

let folder: TempDir;

beforeEach(async () => {
  folder = await makeTempDir("git-settings");
  const script = `#!/bin/sh\ntouch ${join(folder.path, "ran")}\nexit 1\n`;
  await writeFiles(folder.path, { "bin/evil.sh": script });
});

afterEach(() => folder.remove());

const didRun = async () => (await readdir(folder.path)).includes("ran");

async function git(environment: Readonly<Record<string, string>>, ...args: string[]) {
  const signal = new AbortController().signal;
  return runInGroup({ argv: ["git", ...args], cwd: join(folder.path, "context"), environment, signal });
}

/** A bare repository whose work tree is its own folder, with a signed commit. */
async function bareContext(): Promise<void> {
  const context = join(folder.path, "context");
  await run(["git", "init", "--quiet", "--bare", context]);
  const evil = join(folder.path, "bin/evil.sh");
  const programs = `[core]\nbare = false\nworktree = .\n[gpg]\nprogram = ${evil}\n[log]\nshowSignature = true\n`;
  await Bun.write(join(context, "config"), programs);
  const person = "One <one@example.com> 1700000000 +0000";
  const tree = (await run(["git", "hash-object", "-t", "tree", "-w", "/dev/null"], { cwd: context })).stdout;
  const signature = "gpgsig -----BEGIN PGP SIGNATURE-----\n \n xxxx\n -----END PGP SIGNATURE-----";
  const commit = `tree ${tree.trim()}\nauthor ${person}\ncommitter ${person}\n${signature}\n\nA commit\n`;
  const stdin = Buffer.from(commit);
  const object = await run(["git", "hash-object", "-t", "commit", "-w", "--stdin"], { cwd: context, stdin });
  await Bun.write(join(context, "HEAD"), object.stdout);
}

test("git runs no program that a folder's configuration names", async () => {
  await bareContext();
  const show = ["show", "--format=%H", "HEAD"];
  expect(await git(childEnvironment(process.env, folder.path), ...show)).toMatchObject({ exitCode: 128 });
  expect(await didRun()).toBe(false);
  await git({ PATH: process.env.PATH ?? "", HOME: folder.path }, ...show);
  expect(await didRun()).toBe(true);
});
