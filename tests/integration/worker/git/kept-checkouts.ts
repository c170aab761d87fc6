import { expect } from "bun:test";
import { readdir, stat } from "node:fs/promises";
import { join } from "node:path";
import { contentsOf, gitContentsOf } from "./checkout-contents.ts";
import type { CloneBench, Cloned, Wanted } from "./clone-bench.ts";

export async function cachedCheckoutsIn(workDir: string): Promise<string[]> {
  const root = join(workDir, "mirrors", "boot-3");
  const owners = await readdir(root).catch(() => []);
  const names = await Promise.all(
    owners.map(async (owner) => (await readdir(join(root, owner))).map((name) => join(root, owner, name))),
  );
  return names.flat();
}

export async function theCachedCheckout(workDir: string): Promise<string> {
  const found = await cachedCheckoutsIn(workDir);
  expect(found).toHaveLength(1);
  return found[0] ?? "";
}

/** The checkout is identical to one that was cloned from scratch. Ends the run. */
export async function expectAsFresh(bench: CloneBench, done: Cloned, wanted: Wanted): Promise<void> {
  const fresh = await bench.cloned(wanted);
  expect(done.commit).toBe(fresh.commit);
  for (const contents of [gitContentsOf, contentsOf])
    expect(await contents(done.workspace.checkout)).toEqual(await contents(fresh.workspace.checkout));
  await fresh.end();
  await done.end();
}

/** Unchanged when the file was not rewritten. */
export async function timesOf({ workspace }: Cloned, path: string): Promise<readonly [bigint, bigint]> {
  const { ino, mtimeNs } = await stat(join(workspace.checkout, path), { bigint: true });
  return [ino, mtimeNs];
}
