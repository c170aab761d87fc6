/** What a job's sender sees of faults of the worker's machine. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { join } from "node:path";
import { type CloneBench, repositoryName, startCloneBench } from "./clone-bench.ts";

let bench: CloneBench;

beforeAll(async () => {
  bench = await startCloneBench();
});
afterAll(() => bench.stop());

async function repositoryUrl(): Promise<string> {
  const name = repositoryName();
  await bench.git.createRepository(name, { file: "f" });
  return `${bench.git.baseUrl}/${name}`;
}

test("an unusable work folder is a failure of the clone that may pass on another worker", async () => {
  const cache = bench.checkoutCache();
  await Bun.write(join(cache.workDir, "mirrors"), "not a folder");
  const failure = await bench.failureOf({ url: await repositoryUrl(), branch: "main", ...cache });
  expect(failure).toMatchObject({ code: "CLONE_FAILED", step: "clone", retryable: true });
  expect(failure.message).toContain("ENOTDIR");
  expect(failure.message).not.toContain(bench.dir.path);
});

test("the log names paths in the repository only", async () => {
  const wanted = { url: await repositoryUrl(), branch: "main", ...bench.checkoutCache() };
  const done = await bench.cloned(wanted);
  // As git leaves it when it is killed.
  await Bun.write(join(done.workspace.checkout, ".git", "index.lock"), "");
  await done.end();
  await bench.git.commit(wanted.url.replace(`${bench.git.baseUrl}/`, ""), { file: "g" });
  const { lines } = await bench.cloned(wanted);
  const unusable = lines.filter((line) => line.startsWith("cached checkout unusable"));
  expect(unusable).toHaveLength(1);
  expect(unusable[0]).toContain("'.git/index.lock'");
  expect(lines.join("\n")).not.toContain(bench.dir.path);
});
