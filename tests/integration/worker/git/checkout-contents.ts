import { createHash } from "node:crypto";
import { lstat, readdir, readlink } from "node:fs/promises";
import { join } from "node:path";
import { run } from "../../../support/machine/processes.ts";

// The machine's git configuration may enable git-lfs, which would write to the checkout.
const env = { GIT_CONFIG_GLOBAL: "/dev/null", GIT_CONFIG_NOSYSTEM: "1" };
const output = async (cwd: string, ...args: string[]) =>
  (await run(["git", ...args], { cwd, env })).stdout.trim();

/** Everything that `COPY . .` would copy from a checkout, by path: modes and contents, also of .git folders. */
export async function contentsOf(folder: string): Promise<Record<string, string>> {
  return entriesOf(folder, "", entriesOf);
}

/** As `contentsOf`, but of .git folders what git finds in packs and index, in whatever form. */
export async function gitContentsOf(folder: string): Promise<Record<string, string>> {
  return entriesOf(folder, "", meaningOf);
}

type EntriesOf = (folder: string, path: string, gitEntriesOf: EntriesOf) => Promise<Record<string, string>>;

async function entriesOf(
  folder: string,
  path: string,
  gitEntriesOf: EntriesOf,
): Promise<Record<string, string>> {
  const found: Record<string, string> = {};
  for (const name of await readdir(join(folder, path))) {
    const inner = join(path, name);
    const entry = await lstat(join(folder, inner));
    const mode = (entry.mode & 0o777).toString(8);
    if (entry.isDirectory()) {
      Object.assign(found, { [`${inner}/`]: mode });
      Object.assign(found, await (name === ".git" ? gitEntriesOf : entriesOf)(folder, inner, gitEntriesOf));
    } else if (entry.isSymbolicLink()) found[inner] = `to ${await readlink(join(folder, inner))}`;
    else found[inner] = `${mode} ${await hashOf(join(folder, inner))}`;
  }
  return found;
}

async function meaningOf(folder: string, path: string): Promise<Record<string, string>> {
  const found = await entriesOf(folder, path, entriesOf);
  for (const name of Object.keys(found))
    if (name.startsWith(`${path}/objects/`) || name === `${path}/index`) delete found[name];
  const checkout = join(folder, path, "..");
  // These git commands must not change the index.
  const ask = (...args: string[]) => output(checkout, "--no-optional-locks", ...args);
  found[`${path}: objects`] = await ask(
    "cat-file",
    "--batch-all-objects",
    "--batch-check=%(objectname) %(objecttype)",
  );
  found[`${path}: index`] = await ask("ls-files", "--stage", "-v");
  found[`${path}: changes`] = await ask("status", "--porcelain", "--ignored");
  return found;
}

async function hashOf(path: string): Promise<string> {
  return createHash("sha256")
    .update(await Bun.file(path).bytes())
    .digest("hex");
}
