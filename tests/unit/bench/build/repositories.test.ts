/** The repositories of both sides: equal where required, and different where a cache could favour one side. */
import { expect, test } from "bun:test";
import { builtFrom, changeOf, repositoryOf } from "../../../bench/build/repositories.ts";

const seed = "a seed";
const small = await repositoryOf("small", seed, "one");
const large = await repositoryOf("large", seed, "one");

const sourcesOf = (files: object) => Object.keys(files).filter((path) => path.startsWith("src/"));
const bytesOf = (content: string | Uint8Array | undefined) => content?.length ?? 0;

test("bench repositories: a small one has a few hundred source files, a large one ten thousand", () => {
  expect(sourcesOf(small)).toHaveLength(300);
  expect(sourcesOf(large)).toHaveLength(10_000);
});

test("bench repositories: the same seed makes the same files, except for the salt", async () => {
  const other = await repositoryOf("small", seed, "two");
  expect(other.salt).not.toBe(small.salt);
  expect({ ...other, salt: "" }).toEqual({ ...small, salt: "" });
});

test("bench repositories: another seed makes other sources", async () => {
  const other = await repositoryOf("small", "another seed", "one");
  expect(sourcesOf(other)).toEqual(sourcesOf(small));
  expect(builtFrom(other)).not.toBe(builtFrom(small));
});

test("bench repositories: the salt precedes every slow step, so that layers of another salt cannot be reused", () => {
  const dockerfile = String(large.Dockerfile).split("\n");
  const [salt, firstRun] = ["COPY salt", "RUN"].map((start) =>
    dockerfile.findIndex((line) => line.startsWith(start)),
  );
  expect(salt).toBeGreaterThan(0);
  expect(firstRun).toBeGreaterThan(Number(salt));
});

test("bench repositories: compression reduces the layer of dependencies to a third", () => {
  const library = large["assets/library"] as Uint8Array<ArrayBuffer>;
  expect(Bun.gzipSync(library).length / bytesOf(library)).toBeWithin(0.3, 0.4);
});

test("bench repositories: each change alters another source file, and shows in the built image", () => {
  const first = changeOf(small, seed, 1);
  const second = changeOf(small, seed, 2);
  expect(sourcesOf(first)).toHaveLength(1);
  expect(Object.keys(first)).toEqual(sourcesOf(first));
  expect(Object.keys(first)).not.toEqual(Object.keys(second));
  expect(builtFrom({ ...small, ...first })).not.toBe(builtFrom(small));
  expect(changeOf(small, seed, 1)).toEqual(first);
});
