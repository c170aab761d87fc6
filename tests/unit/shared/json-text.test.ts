import { expect, test } from "bun:test";
import { readJson } from "../../../src/shared/json-text.ts";

const read = (text: string) => readJson(Buffer.from(text));

test.each([
  ['{"a":1,"b":{"a":2,"c":["a","a"]},"d":[{"a":1},{"a":1}]}'],
  [`${"[".repeat(64)}${"]".repeat(64)}`],
  ['{"text":"\\ud83d\\ude00 😀","__proto__":1}'],
  ["1e400"],
  [" null "],
])("%s is read", (text) => {
  expect(read(text)).toEqual({ value: JSON.parse(text) });
});

test.each([
  ["", "not JSON; expected a JSON object"],
  ['{"a":', "not JSON; expected a JSON object"],
  ["[".repeat(400_000), "not JSON; expected a JSON object"],
  ["{a:1}", "not JSON; expected a JSON object"],
  ['{"a":1} // comment', "not JSON; expected a JSON object"],
  ['{"a":1,"a":1}', "an object has the same name twice; expected it once"],
  ['{"b":[{"a":1,"x":{},"\\u0061":2}]}', "an object has the same name twice; expected it once"],
  [`${"[".repeat(65)}${"]".repeat(65)}`, "nested more than 64 levels"],
  [`${"[".repeat(400_000)}${"]".repeat(400_000)}`, "nested more than 64 levels"],
  ['{"a":"\\ud800"}', "a string has half of a surrogate pair; expected Unicode text"],
  ['{"\\udc00a":1}', "a string has half of a surrogate pair; expected Unicode text"],
])("%p is refused", (text, problem) => {
  expect(read(text)).toEqual({ problem });
});

test("bytes that are not UTF-8 are refused", () => {
  expect(readJson(Buffer.from('{"a":"\xff"}', "latin1"))).toEqual({
    problem: "not UTF-8; expected JSON in UTF-8",
  });
});
