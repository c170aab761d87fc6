/** Repositories that declare more than any program needs. Each is refused without a stall of the worker's event loop. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { expectToShareEventLoop } from "../../../support/machine/event-loop-lag.ts";
import { type CloneBench, repositoryName, startCloneBench, type Wanted } from "./clone-bench.ts";

let bench: CloneBench;

beforeAll(async () => {
  bench = await startCloneBench();
});
afterAll(() => bench.stop());

async function repository(
  files: Record<string, string>,
  gitlinks: Record<string, string> = {},
): Promise<Wanted> {
  const name = repositoryName();
  await bench.git.createRepository(name, { file: "f" });
  await bench.git.commit(name, files, { gitlinks });
  return { url: `${bench.git.baseUrl}/${name}`, branch: "main" };
}

const numbers = (count: number) => Array.from({ length: count }, (_, index) => index);

const gitlinksOf = (count: number) =>
  Object.fromEntries(numbers(count).map((number) => [`modules/${number}`, "1".repeat(40)]));

/** With `update = none`, so that no submodule is fetched. */
const declarationsOf = (count: number, folder: string) =>
  numbers(count)
    .map((number) => `[submodule "${number}"]\npath=${folder}/${number}\nupdate=none\n`)
    .join("");

test("many submodules and declarations", async () => {
  const pill = await repository({ ".gitmodules": declarationsOf(20_000, "modules") }, gitlinksOf(20_000));
  await expectToShareEventLoop(async () => {
    expect(await bench.failureOf(pill)).toMatchObject({
      code: "CLONE_FAILED",
      retryable: false,
      message: "the repository is refused: it has more than 1000 submodules (BLACKTREE_SUBMODULE_LIMIT)",
    });
  });
});

test("many declarations", async () => {
  const pill = await repository({ ".gitmodules": declarationsOf(10_001, "elsewhere") }, gitlinksOf(1));
  await expectToShareEventLoop(async () => {
    expect((await bench.failureOf(pill)).message).toBe(
      "the repository is refused: a .gitmodules declares more than 10000 submodules (BLACKTREE_SUBMODULE_DECLARATION_LIMIT)",
    );
  });
});

test("as many submodules and declarations as allowed", async () => {
  const most = await repository({ ".gitmodules": declarationsOf(10_000, "modules") }, gitlinksOf(1000));
  await expectToShareEventLoop(() => bench.cloned(most));
});

test("a large file of attributes", async () => {
  const pill = await repository({ "deep/.gitattributes": "*.x filter=y\n".repeat(1_000_000) });
  await expectToShareEventLoop(async () => {
    expect((await bench.failureOf(pill)).message).toBe(
      "the repository is refused: the file deep/.gitattributes has 13000000 bytes, and BLACKTREE_GIT_SETTINGS_FILE_LIMIT is 1000000",
    );
  });
});

test("many files that git assigns to LFS", async () => {
  const files = Object.fromEntries(numbers(20_000).map((number) => [`files/${number}`, "no pointer"]));
  const many = await repository({ ...files, ".gitattributes": "files/* filter=lfs\n" });
  await expectToShareEventLoop(() => bench.cloned(many));
});
