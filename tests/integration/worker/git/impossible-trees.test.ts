/** Commits that no worker can check out: each fails once, with a message that says what to correct. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { inFullCheck } from "../../../support/machine/full-check.ts";
import { run } from "../../../support/machine/processes.ts";
import { type CloneBench, repositoryName, startCloneBench } from "./clone-bench.ts";

let bench: CloneBench;

beforeAll(async () => {
  bench = await startCloneBench();
});
afterAll(() => bench.stop());

const env = {
  GIT_CONFIG_GLOBAL: "/dev/null",
  GIT_CONFIG_NOSYSTEM: "1",
  ...Object.fromEntries(
    ["AUTHOR", "COMMITTER"].flatMap((who) => [
      [`GIT_${who}_NAME`, "Tests"],
      [`GIT_${who}_EMAIL`, "tests@example.com"],
    ]),
  ),
};

/** The repository of the tests' server, to which any objects can be written. */
interface Raw {
  readonly gitDir: string;
  readonly blob: (content: string) => Promise<string>;
  readonly tree: (...entries: (readonly [mode: string, name: string, id: string])[]) => Promise<string>;
}

const ABSENT = "1".repeat(40);

/** A repository whose branch has a commit with the tree that `make` returns. */
async function repositoryOf(make: (raw: Raw) => Promise<string>): Promise<string> {
  const name = repositoryName();
  await bench.git.createRepository(name, { file: "f" });
  const gitDir = await bench.git.git(name, "rev-parse", "--absolute-git-dir");
  const write = async (type: string, stdin: Uint8Array) => {
    const args = ["hash-object", "-w", "--literally", "--stdin", "-t", type];
    return (await run(["git", ...args], { cwd: gitDir, env, stdin })).stdout.trim();
  };
  const tree = await make({
    gitDir,
    blob: (content) => write("blob", Buffer.from(content)),
    tree: (...entries) => {
      const parts = entries.flatMap(([mode, path, id]) => [
        Buffer.from(`${mode} ${path}\0`),
        Buffer.from(id, "hex"),
      ]);
      return write("tree", Buffer.concat(parts));
    },
  });
  await bench.git.git(name, "update-ref", "refs/heads/intact", "main");
  const { stdout } = await run(["git", "commit-tree", "-m", "A commit", tree], { cwd: gitDir, env });
  await bench.git.git(name, "update-ref", "refs/heads/main", stdout.trim());
  return name;
}

interface Case {
  readonly name: string;
  readonly make: (raw: Raw) => Promise<string>;
  readonly message: string;
}

const notAllowed = (path: string): Case => ({
  name: `the path ${JSON.stringify(path)}`,
  make: async ({ blob, tree }) => tree(["100644", path, await blob("f")]),
  message: `git allows no path '${path}' in a checkout: rename or remove it in the repository`,
});

const KINDS: readonly (readonly [Case, ...Case[]])[] = [
  [
    notAllowed(".git"),
    ...[".GIT", "git~1", ".git ", "..", "."].map(notAllowed),
    {
      name: "a .gitmodules that is a link",
      make: async ({ blob, tree }) => tree(["120000", ".gitmodules", await blob("f")]),
      message: "git allows no path '.gitmodules' in a checkout: rename or remove it in the repository",
    },
  ],
  [
    {
      name: "a name of 256 bytes",
      make: async ({ blob, tree }) => tree(["100644", "x".repeat(256), await blob("f")]),
      message: "is too long for Linux: shorten",
    },
    {
      name: "a link whose target has 5000 bytes",
      make: async ({ blob, tree }) => tree(["120000", "link", await blob("x".repeat(5000))]),
      message: "is too long for Linux: shorten link in the repository",
    },
    {
      name: "a link without a target",
      make: async ({ blob, tree }) => tree(["120000", "link", await blob("")]),
      message: "the symbolic link link has no target: correct it in the repository",
    },
    {
      name: "a path of more than 4096 bytes",
      make: async ({ blob, tree }) => {
        let id = await tree(["100644", "f", await blob("f")]);
        for (let depth = 0; depth < 17; depth++) id = await tree(["40000", "d".repeat(250), id]);
        return id;
      },
      message: "the repository is refused: it has a path of more than 4096 bytes",
    },
  ],
  [
    {
      name: "a file that the server does not have",
      make: ({ tree }) => tree(["100644", "f", ABSENT]),
      message: `has a broken object (fatal: unable to read ${ABSENT}): run git fsck on the server's repository`,
    },
    {
      name: "a folder that the server does not have",
      make: ({ tree }) => tree(["40000", "d", ABSENT]),
      message: `has a broken object (fatal: bad tree object ${ABSENT})`,
    },
    {
      name: "an invalid mode",
      make: async ({ blob, tree }) => tree(["9z", "f", await blob("f")]),
      message: "has a broken object (fatal: malformed mode in tree entry)",
    },
    {
      name: "an empty name",
      make: async ({ blob, tree }) => tree(["100644", "", await blob("f")]),
      message: "has a broken object (fatal: empty filename in tree entry)",
    },
    {
      name: "a damaged file",
      make: async ({ gitDir, blob, tree }) => {
        const id = await blob("to damage");
        const file = join(gitDir, "objects", id.slice(0, 2), id.slice(2));
        await rm(file);
        await Bun.write(file, "damaged");
        return tree(["100644", "f", id]);
      },
      message: "is corrupt): run git fsck on the server's repository",
    },
    {
      name: "a folder in the place of a file",
      make: async ({ blob, tree }) => tree(["100644", "f", await tree(["100644", "inner", await blob("f")])]),
      message: "the repository has a broken object (cannot read object",
    },
  ],
];

for (const kind of KINDS)
  for (const [index, { name, make, message }] of kind.entries())
    inFullCheck(index > 0).test(`${name} fails the clone, also with a cached checkout`, async () => {
      const repository = await repositoryOf(make);
      const wanted = { url: `${bench.git.baseUrl}/${repository}`, branch: "main" };
      const at = bench.checkoutCache();
      await (await bench.cloned({ ...wanted, branch: "intact", ...at })).end();
      for (const cache of [{}, at]) {
        const failure = await bench.failureOf({ ...wanted, ...cache });
        expect(failure).toMatchObject({ code: "CLONE_FAILED", step: "clone", retryable: false });
        expect(failure.message).toContain(message);
      }
    });

test("a submodule's commit that was not pushed: two requests, and no history", async () => {
  const inner = repositoryName();
  await bench.git.createRepository(inner, { file: "f" });
  const name = repositoryName();
  await bench.git.createRepository(name, { file: "f" });
  const innerUrl = `${bench.git.baseUrl}/${inner}`;
  const gitmodules = `[submodule "s"]\n\tpath = lib/sub\n\turl = ${innerUrl}\n`;
  await bench.git.commit(name, { ".gitmodules": gitmodules }, { gitlinks: { "lib/sub": ABSENT } });
  expect(await bench.failureOf({ url: `${bench.git.baseUrl}/${name}`, branch: "main" })).toMatchObject({
    code: "REF_NOT_FOUND",
    retryable: false,
    message: `submodule lib/sub: ${innerUrl} has no commit ${ABSENT}, or does not offer it: push the commit to a branch or tag`,
  });
  expect(bench.git.requests.filter(({ path }) => path.includes(inner))).toHaveLength(2);
});
