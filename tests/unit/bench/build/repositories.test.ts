/** The repositories that both sides build: alike where they should be, and apart where a cache could give one away. */
import { expect, test } from "bun:test";
import { builtFrom, changeOf, repositoryOf } from "../../../bench/build/repositories.ts";

const seed = "a seed";
const small = await repositoryOf("small", seed, "one");
const large = await repositoryOf("large", seed, "one");

const sourcesOf = (files: object) => Object.keys(files).filter((path) => path.startsWith("src/"));
const bytesOf = (content: string | Uint8Array | undefined) => content?.length ?? 0;

test("a small one has a few hundred source files, a large one ten thousand", () => {
  expect(sourcesOf(small)).toHaveLength(300);
  expect(sourcesOf(large)).toHaveLength(10_000);
});

test("the same seed gives the same files, but for the salt", async () => {
  const other = await repositoryOf("small", seed, "two");
  expect(other.salt).not.toBe(small.salt);
  expect({ ...other, salt: "" }).toEqual({ ...small, salt: "" });
});

test("another seed gives other sources", async () => {
  const other = await repositoryOf("small", "another seed", "one");
  expect(sourcesOf(other)).toEqual(sourcesOf(small));
  expect(builtFrom(other)).not.toBe(builtFrom(small));
});

test("the salt comes before everything that takes time, so that no layer of another salt is of use", () => {
  const dockerfile = String(large.Dockerfile).split("\n");
  const [salt, firstRun] = ["COPY salt", "RUN"].map((start) =>
    dockerfile.findIndex((line) => line.startsWith(start)),
  );
  expect(salt).toBeGreaterThan(0);
  expect(firstRun).toBeGreaterThan(Number(salt));
});

test("compression makes a third of the layer of dependencies", () => {
  const library = large["assets/library"] as Uint8Array<ArrayBuffer>;
  expect(Bun.gzipSync(library).length / bytesOf(library)).toBeWithin(0.3, 0.4);
});

test("a change is one source file, another one each time, and shows in what is built", () => {
  const first = changeOf(small, seed, 1);
  const second = changeOf(small, seed, 2);
  expect(sourcesOf(first)).toHaveLength(1);
  expect(Object.keys(first)).toEqual(sourcesOf(first));
  expect(Object.keys(first)).not.toEqual(Object.keys(second));
  expect(builtFrom({ ...small, ...first })).not.toBe(builtFrom(small));
  expect(changeOf(small, seed, 1)).toEqual(first);
});
