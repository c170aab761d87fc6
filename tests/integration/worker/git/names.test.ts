/** Names that are not UTF-8: of files, folders, links, Git LFS files and submodules. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { lstat, readdir, readFile, readlink } from "node:fs/promises";
import { type CloneBench, type Cloned, repositoryName, startCloneBench } from "./clone-bench.ts";

let bench: CloneBench;

beforeAll(async () => {
  bench = await startCloneBench();
});
afterAll(() => bench.stop());

const urlOf = (name: string) => `${bench.git.baseUrl}/${name}`;

/** The files of a folder with their contents; one character for each byte. */
async function filesIn(folder: Buffer): Promise<Record<string, string>> {
  const files: Record<string, string> = {};
  for (const name of await readdir(folder, "buffer")) {
    const shown = name.toString("latin1");
    if (shown === ".git") continue;
    const path = Buffer.concat([folder, Buffer.from("/"), name]);
    const entry = await lstat(path);
    if (entry.isSymbolicLink()) files[shown] = `to ${(await readlink(path, "buffer")).toString("latin1")}`;
    else if (!entry.isDirectory()) files[shown] = await readFile(path, "latin1");
    else
      for (const [inner, content] of Object.entries(await filesIn(path)))
        files[`${shown}/${inner}`] = content;
  }
  return files;
}

const filesOf = ({ workspace }: Cloned) => filesIn(Buffer.from(workspace.checkout));

const byBytes = { encoding: "latin1" } as const;

test("names are checked out as bytes, also from a cached checkout", async () => {
  const { git } = bench;
  const inner = repositoryName();
  await git.createRepository(inner, { file: "f" });
  const innerCommit = await git.commit(inner, { "i\xe9": "inner" }, byBytes);
  const name = repositoryName();
  await git.createRepository(name, { file: "one" });
  const modules = Buffer.from(`[submodule "s"]\n\tpath = m\xf6d/s\xfcb\n\turl = ${urlOf(inner)}\n`, "latin1");
  const pointer = git.lfs.add(Buffer.from("from LFS"));
  const files = { ".gitattributes": "*.bin filter=lfs\n", ".gitmodules": modules, "caf\xe9.bin": pointer };
  const links = { "l\xefnk": "t\xe4rget" };
  const commit = (file: string) =>
    git.commit(
      name,
      { ...files, file, "d\xe9/f\xe9": file },
      {
        ...byBytes,
        gitlinks: { "m\xf6d/s\xfcb": innerCommit },
        symlinks: links,
      },
    );
  await commit("one");
  const wanted = { url: urlOf(name), branch: "main", ...bench.checkoutCache() };
  const expected = (file: string) => ({
    ".gitattributes": "*.bin filter=lfs\n",
    ".gitmodules": modules.toString("latin1"),
    "caf\xe9.bin": "from LFS",
    "d\xe9/f\xe9": file,
    file,
    "l\xefnk": "to t\xe4rget",
    "m\xf6d/s\xfcb/file": "f",
    "m\xf6d/s\xfcb/i\xe9": "inner",
  });
  const first = await bench.cloned(wanted);
  expect(await filesOf(first)).toEqual(expected("one"));
  expect(first.lines.join("\n")).toContain("cloning submodule m\\xf6d/s\\xfcb: ");
  await first.end();
  await commit("two");
  const second = await bench.cloned(wanted);
  expect(await filesOf(second)).toEqual(expected("two"));
  expect(second.lines.join("\n")).toContain("updating submodule m\\xf6d/s\\xfcb: ");
  expect(second.lines.join("\n")).toContain("1 of them restored from the cached checkout");
  await second.end();
});

test("failures name them with escapes", async () => {
  const { git } = bench;
  const name = repositoryName();
  await git.createRepository(name, { file: "f" });
  const missing = `version https://git-lfs.github.com/spec/v1\noid sha256:${"0".repeat(64)}\nsize 5\n`;
  await git.commit(name, { ".gitattributes": "*.bin filter=lfs\n", "caf\xe9.bin": missing }, byBytes);
  expect(await bench.failureOf({ url: urlOf(name), branch: "main" })).toMatchObject({
    code: "CLONE_FAILED",
    message: "caf\\xe9.bin is not available from Git LFS: no such object (404)",
  });
});
