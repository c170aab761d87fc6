import { describe, expect, test } from "bun:test";
import { toVisibleJson, withVisibleCharacters } from "../../../src/shared/visible-text.ts";

const HIDDEN: readonly (readonly [what: string, text: string, shown: string])[] = [
  ["a right-to-left override", "pass\u202efail", "pass<U+202E>fail"],
  ["a bidirectional isolate", "a\u2066b\u2069c", "a<U+2066>b<U+2069>c"],
  ["zero-width characters", "ad\u200bmin\u200c\u200d\ufeff", "ad<U+200B>min<U+200C><U+200D><U+FEFF>"],
  ["a line separator", "a\u2028b", "a<U+2028>b"],
  ["a tag character", "a\u{e0041}b", "a<U+E0041>b"],
  ["terminal sequences", "\u001b[2Ja\u009b1m\u007f", "<U+001B>[2Ja<U+009B>1m<U+007F>"],
  ["a carriage return", "a\rb", "a<U+000D>b"],
];

describe("withVisibleCharacters", () => {
  for (const [what, text, shown] of HIDDEN)
    test(`shows ${what}`, () => expect(withVisibleCharacters(text)).toBe(shown));

  test("leaves other text as it is", () => {
    const text = "tab\tline\n日本語 العربية עברית é 👩 ✓";
    expect(withVisibleCharacters(text)).toBe(text);
  });
});

test("toVisibleJson shows them without changing the value", () => {
  const value = { lines: HIDDEN.map(([, text]) => text) };
  expect(JSON.parse(toVisibleJson(value))).toEqual(value);
  expect(withVisibleCharacters(toVisibleJson(value))).toBe(toVisibleJson(value));
});
