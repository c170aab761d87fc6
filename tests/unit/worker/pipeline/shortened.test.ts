import { expect, test } from "bun:test";
import { shortened } from "../../../../src/worker/pipeline/shortened.ts";

test("what is no longer than allowed stays as it is", () => {
  expect(shortened("", 4)).toBe("");
  expect(shortened("abcd", 4)).toBe("abcd");
});

test("of what is longer the beginning and the end stay", () => {
  expect(shortened("abcde", 4)).toBe("ab… (1 more characters) …de");
  expect(shortened(`${"a".repeat(600_000)}the end`, 14)).toBe("aaaaaaa… (599993 more characters) …the end");
});

test("a character that the cut would halve is left out", () => {
  expect(shortened("a😀😀😀b", 4).isWellFormed()).toBe(true);
});
