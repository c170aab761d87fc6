import { mkdir, symlink } from "node:fs/promises";
import { join } from "node:path";
import { cachedFolder } from "../machine/cached-folder.ts";
import { run } from "../machine/processes.ts";

export interface Binaries {
  readonly dir: string;
  readonly orchestrator: string;
  readonly worker: string;
  readonly cli: string;
}

const root = join(import.meta.dir, "../../..");

const binariesIn = (dir: string): Binaries => ({
  dir,
  orchestrator: join(dir, "blacktree-orchestrator"),
  worker: join(dir, "blacktree-worker"),
  cli: join(dir, "blacktree"),
});

async function compile(): Promise<Binaries> {
  const dir = join(root, "dist");
  await mkdir(dir, { recursive: true });
  // Test files of other processes call this at the same time. The kernel releases the lock, however its holder ends.
  await run(["flock", dir, process.execPath, "build.ts", "--if-changed"], { cwd: root, timeoutMs: 300_000 });
  return binariesIn(dir);
}

let compiled: Promise<Binaries> | undefined;

/** The three programs as users have them, compiled from the sources as they are now. */
export function compiledBinaries(): Promise<Binaries> {
  compiled ??= compile();
  return compiled;
}

/** Why the programs of a commit are not available; undefined when they are. */
export async function missingCommit(commit: string): Promise<string | undefined> {
  const { exitCode } = await run(["git", "cat-file", "-e", `${commit}^{commit}`], {
    cwd: root,
    mayFail: true,
  });
  return exitCode === 0 ? undefined : `this checkout's history does not have commit ${commit}`;
}

/** The three programs as of a commit of this project, compiled once and cached. */
export async function formerBinaries(commit: string): Promise<Binaries> {
  const dir = join(root, ".cache", `commit-${commit}`);
  await cachedFolder(dir, "dist/blacktree", (unfinished) => compileCommit(commit, unfinished));
  return binariesIn(join(dir, "dist"));
}

async function compileCommit(commit: string, dir: string): Promise<void> {
  const archive = join(dir, "sources.tar");
  await run(["git", "archive", `--output=${archive}`, commit], { cwd: root });
  await run(["tar", "-xf", archive, "-C", dir]);
  await symlink(join(root, "node_modules"), join(dir, "node_modules"));
  await run([process.execPath, "build.ts"], { cwd: dir, timeoutMs: 300_000 });
}
