import { expect, test } from "bun:test";
import { shortened } from "../../../../src/worker/pipeline/shortened.ts";

test("shortened: a text within the limit stays unchanged", () => {
  expect(shortened("", 4)).toBe("");
  expect(shortened("abcd", 4)).toBe("abcd");
});

test("shortened: a longer text keeps its beginning and its end", () => {
  expect(shortened("abcde", 4)).toBe("ab… (1 more characters) …de");
  expect(shortened(`${"a".repeat(600_000)}the end`, 14)).toBe("aaaaaaa… (599993 more characters) …the end");
});

test("shortened: a character that the cut would split is removed", () => {
  expect(shortened("a😀😀😀b", 4).isWellFormed()).toBe(true);
});
