import { expect, test } from "bun:test";
import { tableOf } from "../../../../src/cli/terminal/table.ts";

const HEADINGS = ["ID", "REPOSITORY", "BRANCH"];

test("columns are as wide as their cells on the terminal, also with wide and invisible characters", () => {
  const rows = [
    ["a", "日本語/名前", "main"],
    ["long-id", "o/n", "x\u202ey"],
    ["b", "two\nlines", "e\u0301"],
  ];
  expect(tableOf(HEADINGS, rows, undefined).split("\n")).toEqual([
    "ID       REPOSITORY   BRANCH",
    "a        日本語/名前  main",
    "long-id  o/n          x<U+202E>y",
    "b        two lines    e\u0301",
  ]);
});

test("on a narrow terminal the widest columns are cut off, and never the first one", () => {
  const rows = [["an-id-that-is-needed-in-whole", "owner/a-rather-long-name", "feature/日本語-long"]];
  const lines = tableOf(HEADINGS, rows, 60).split("\n");
  expect(lines[1]).toStartWith("an-id-that-is-needed-in-whole  owner/");
  expect(lines[1]).toContain("…");
  for (const line of lines) expect(Bun.stringWidth(line)).toBeLessThanOrEqual(60);
  expect(tableOf(HEADINGS, rows, 10).split("\n")[1]).toStartWith("an-id-that-is-needed-in-whole  owner/a-r…");
});

test("more rows than a call may have arguments", () => {
  expect(tableOf(["A"], Array(200_000).fill(["x"]), undefined)).toHaveLength(400_001);
});
