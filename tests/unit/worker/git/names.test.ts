import { expect, test } from "bun:test";
import { fileIn, type GitName, shownName } from "../../../../src/worker/git/names.ts";

const nameOf = (...parts: readonly (string | number[])[]) =>
  Buffer.concat(parts.map((part) => Buffer.from(part as string))).toString("latin1") as GitName;

test.each([
  [nameOf("plain"), "plain"],
  [nameOf("übung/日本.txt 🙂"), "übung/日本.txt 🙂"],
  [nameOf("caf", [0xe9], ".bin"), "caf\\xe9.bin"],
  [nameOf([0xe9], "é", [0xc3]), "\\xe9é\\xc3"],
  [nameOf("a\nb\u202e"), "a\\x0ab\\xe2\\x80\\xae"],
  [nameOf("x".repeat(300)), `${"x".repeat(200)}…`],
])("the name %j is shown as %s", (name, shown) => {
  expect(shownName(name)).toBe(shown);
});

test("a path has the name's bytes", () => {
  expect(fileIn("/ü", nameOf("caf", [0xe9]))).toEqual(Buffer.from([...Buffer.from("/ü/caf"), 0xe9]));
});
