/** How much history the .git of a checkout contains: from scratch, and from cached checkouts with other histories. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { inFullCheck } from "../../../support/machine/full-check.ts";
import { run } from "../../../support/machine/processes.ts";
import type { GitServer } from "../../../support/servers/git-server.ts";
import { gitContentsOf } from "./checkout-contents.ts";
import { type CloneBench, type Cloned, repositoryName, startCloneBench, type Wanted } from "./clone-bench.ts";

let bench: CloneBench;
let git: GitServer;

beforeAll(async () => {
  bench = await startCloneBench();
  ({ git } = bench);
});
afterAll(() => bench.stop());

const urlOf = (name: string) => `${git.baseUrl}/${name}`;

async function said({ workspace }: Cloned, ...args: string[]): Promise<string> {
  const env = { GIT_CONFIG_GLOBAL: "/dev/null", GIT_CONFIG_NOSYSTEM: "1" };
  const { stdout } = await run(["git", ...args], { cwd: workspace.checkout, env, mayFail: true });
  return stdout.trim();
}

const ONE = { depth: 1, tags: false };
const TWO = { depth: 2, tags: false };
const ALL = { depth: 0, tags: false };
const ALL_TAGS = { depth: 0, tags: true };
const THREE_TAGS = { depth: 3, tags: true };
const ONE_TAGS = { depth: 1, tags: true };

/**
 * Main has five commits: 1 with the tag v1 (annotated), 2 with v2 (a tag of a tag) and 3 with v3. Of another branch is
 * a commit with the tag v4.
 */
async function createHistory() {
  const name = repositoryName();
  await git.createRepository(name, { file: "0" });
  const one = await git.commit(name, { file: "1" }, { annotatedTags: ["v1"] });
  const tagger = ["-c", "user.name=T", "-c", "user.email=t@example.com"];
  await git.commit(name, { file: "2" }, { annotatedTags: ["inner"] });
  await git.git(name, ...tagger, "tag", "-a", "-m", "outer", "v2", "inner");
  const three = await git.commit(name, { file: "3" }, { tags: ["v3"] });
  await git.commit(name, { other: "o" }, { branch: "other", annotatedTags: ["v4"] });
  const tip = await git.commit(name, { file: "4" });
  return { name, one, three, tip };
}

/** The checkout is the same: its files, and what git finds and says. */
async function expectSame(cloned: Cloned, fresh: Cloned): Promise<void> {
  expect(await gitContentsOf(cloned.workspace.checkout)).toEqual(
    await gitContentsOf(fresh.workspace.checkout),
  );
  for (const args of [["log", "--format=%H"], ["rev-parse", "--is-shallow-repository"], ["tag"], ["fsck"]])
    expect(await said(cloned, ...args)).toBe(await said(fresh, ...args));
}

describe("a new clone", () => {
  test("has as many commits as the job asks for, and the tags of these commits", async () => {
    const { name, three, tip } = await createHistory();
    const seen = async (history: Wanted["history"], commit?: string) => {
      const done = await bench.cloned({ url: urlOf(name), branch: "main", commit, history });
      expect(await said(done, "status", "--porcelain")).toBe("");
      expect(await said(done, "fsck")).toBe("");
      const answer = {
        commits: (await said(done, "log", "--format=%H")).split("\n").length,
        isShallow: await said(done, "rev-parse", "--is-shallow-repository"),
        tags: (await said(done, "tag")).split("\n").join(" "),
        describe: await said(done, "describe", "--tags"),
      };
      await done.end();
      return answer;
    };
    const short = tip.slice(0, 7);
    expect(await seen(ONE)).toEqual({ commits: 1, isShallow: "true", tags: "", describe: "" });
    expect(await seen(TWO)).toEqual({ commits: 2, isShallow: "true", tags: "", describe: "" });
    expect(await seen(ALL)).toEqual({ commits: 5, isShallow: "false", tags: "", describe: "" });
    expect(await seen(THREE_TAGS)).toEqual({
      commits: 3,
      isShallow: "true",
      tags: "inner v2 v3",
      describe: `v3-1-g${short}`,
    });
    expect(await seen(ALL_TAGS)).toEqual({
      commits: 5,
      isShallow: "false",
      tags: "inner v1 v2 v3",
      describe: `v3-1-g${short}`,
    });
    expect(await seen(ONE_TAGS, three)).toEqual({
      commits: 1,
      isShallow: "true",
      tags: "v3",
      describe: "v3",
    });
    expect(await seen(TWO, three)).toMatchObject({ commits: 2, isShallow: "true" });
  });

  test("of another branch has none of this branch's tags", async () => {
    const { name } = await createHistory();
    const done = await bench.cloned({ url: urlOf(name), branch: "v1", history: ALL_TAGS });
    expect(await said(done, "tag")).toBe("v1");
    await done.end();
  });
});

describe("a cached checkout", () => {
  const cases = [
    [ONE, ALL_TAGS],
    [ALL_TAGS, ONE],
    [ONE, TWO],
    [ALL, TWO],
    [THREE_TAGS, TWO],
    [TWO, THREE_TAGS],
    [TWO, ALL],
    [ALL, ALL_TAGS],
    [THREE_TAGS, THREE_TAGS],
  ] as const;
  for (const [index, [before, after]] of cases.entries())
    inFullCheck(index > 0).test(
      `of ${JSON.stringify(before)} serves a job with ${JSON.stringify(after)} as a new clone does`,
      async () => {
        const { name, one, three } = await createHistory();
        const at = bench.checkoutCache();
        const jobs: Partial<Wanted>[] = [{}, { commit: three }, { commit: one }, { branch: "v2" }];
        for (const job of jobs) {
          const wanted = { url: urlOf(name), branch: "main", history: after, ...job };
          await (await bench.cloned({ ...wanted, ...at, commit: undefined, history: before })).end();
          const cloned = await bench.cloned({ ...wanted, ...at });
          expect(cloned.lines.join("\n")).not.toContain("from scratch");
          const fresh = await bench.cloned(wanted);
          await expectSame(cloned, fresh);
          await fresh.end();
          await cloned.end();
        }
        await git.commit(name, { file: "5" }, { annotatedTags: ["v5"] });
        const wanted = { url: urlOf(name), branch: "main", history: after };
        const cloned = await bench.cloned({ ...wanted, ...at });
        await expectSame(cloned, await bench.cloned(wanted));
        await cloned.end();
      },
    );

  test("gets the tags as they are now", async () => {
    const { name, one, tip } = await createHistory();
    const wanted = { url: urlOf(name), branch: "main", history: ALL_TAGS };
    const at = bench.checkoutCache();
    await (await bench.cloned({ ...wanted, ...at })).end();
    await git.git(name, "tag", "-d", "v1");
    await git.git(name, "tag", "-f", "v3", one);
    await git.git(name, "tag", "new", tip);
    const cloned = await bench.cloned({ ...wanted, ...at });
    expect(await said(cloned, "tag")).toBe("inner\nnew\nv2\nv3");
    expect(await said(cloned, "rev-parse", "v3")).toBe(one);
    await expectSame(cloned, await bench.cloned(wanted));
    await cloned.end();
  });
});
