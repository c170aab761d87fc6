/** The expectations are what git-lfs 3.3 does with the same patterns. */
import { expect, test } from "bun:test";
import { pathPatterns } from "../../../../src/worker/git/lfs-path-pattern.ts";

const PATHS = [
  "a",
  "a/b",
  "a/x/b",
  "c/a/b",
  "x.bin",
  "a/x.bin",
  "c/b/x.bin",
  "*.bin",
  "1x",
  "ab",
  "a b",
  "a.b",
  "caf\xe9",
];

const CASES: [value: string, matching: string[]][] = [
  ["*", PATHS],
  ["*.bin", ["x.bin", "a/x.bin", "c/b/x.bin", "*.bin"]],
  ["a", ["a", "a/b", "a/x/b", "c/a/b", "a/x.bin"]],
  ["a/", ["a", "a/b", "a/x/b", "c/a/b", "a/x.bin"]],
  ["a//", ["a", "a/b", "a/x/b", "c/a/b", "a/x.bin"]],
  ["/a", ["a", "a/b", "a/x/b", "a/x.bin"]],
  ["a/b", ["a/b"]],
  ["a\\b", ["a/b"]],
  ["a/*", ["a/b", "a/x/b", "a/x.bin"]],
  ["a/**", ["a/b", "a/x/b", "a/x.bin"]],
  ["**/b", ["a/b", "a/x/b", "c/a/b", "c/b/x.bin"]],
  ["a/**/b", ["a/b", "a/x/b"]],
  ["c , 1x", ["c/a/b", "c/b/x.bin", "1x"]],
  ["\\*.bin", ["*.bin"]],
  ["[ac]/b", ["a/b", "c/b/x.bin"]],
  ["[!a]b", []],
  ["a[^c]", ["ab"]],
  ["[[:digit:]]?", ["1x"]],
  ["a.b", ["a.b"]],
  ["a b", ["a b"]],
  ["caf?", ["caf\xe9"]],
  ["caf\xe9", ["caf\xe9"]],
  ["!a", []],
  ["./a", []],
  [",", []],
  ["/", []],
];

test.each(CASES)("the pattern %j matches %j", (value, matching) => {
  const patterns = pathPatterns(value) ?? [];
  expect(PATHS.filter((path) => patterns.some((pattern) => pattern.test(path)))).toEqual(matching);
});

test("an empty value has no patterns", () => {
  expect(pathPatterns(" ")).toBeUndefined();
});
