/** The same commit is checked out as the same bytes, also of .git, however the server has packed it. */
import { afterAll, beforeAll, expect } from "bun:test";
import { inFullCheck } from "../../../support/machine/full-check.ts";
import { run } from "../../../support/machine/processes.ts";
import { contentsOf } from "./checkout-contents.ts";
import { type CloneBench, repositoryName, startCloneBench } from "./clone-bench.ts";

let bench: CloneBench;

beforeAll(async () => {
  bench = await startCloneBench();
});
afterAll(() => bench.stop());

/** Similar files, which git stores as deltas when it packs the repository. */
const similar = (change: string) =>
  Object.fromEntries(
    Array.from({ length: 20 }, (_, index) => [
      `src/file-${index}`,
      `${"a line that all files have\n".repeat(300)}${index} ${change}\n`,
    ]),
  );

for (const objectFormat of ["sha1", "sha256"] as const)
  inFullCheck(objectFormat === "sha256").test(`in a ${objectFormat} repository`, async () => {
    const { git } = bench;
    const name = repositoryName();
    await git.createRepository(name, similar("first"), { objectFormat });
    await git.commit(name, { ...similar("second"), removed: "r" });
    const inner = repositoryName();
    const innerCommit = await git.createRepository(inner, similar("inner"), { objectFormat });
    const gitmodules = `[submodule "s"]\n\tpath = sub\n\turl = ${git.baseUrl}/${inner}\n`;
    const files = { ...similar("third"), ".gitmodules": gitmodules };
    const gitlinks = { sub: innerCommit };
    await git.commit(name, files, { remove: ["removed"], gitlinks, annotatedTags: ["v1"] });
    const wanted = { url: `${git.baseUrl}/${name}`, branch: "main" };
    const contents: Record<string, string>[] = [];
    const at = bench.checkoutCache();
    for (const isRepacked of [false, true]) {
      if (isRepacked)
        for (const one of [name, inner]) await git.git(one, "repack", "-a", "-d", "-f", "--depth=50");
      const done = await bench.cloned({ ...wanted, ...at });
      contents.push(await contentsOf(done.workspace.checkout));
      await done.end();
      const fresh = await bench.cloned(wanted);
      contents.push(await contentsOf(fresh.workspace.checkout));
      const status = ["--no-optional-locks", "status", "--porcelain", "--ignored"];
      const cwd = fresh.workspace.checkout;
      expect((await run(["git", ...status], { cwd })).stdout).toBe("");
      expect((await run(["git", "fsck", "--no-progress"], { cwd })).stdout).toBe("");
      await fresh.end();
    }
    expect(Object.keys(contents[0] ?? {})).toContain(".git/index");
    for (const other of contents.slice(1)) expect(other).toEqual(contents[0] ?? {});
  });
