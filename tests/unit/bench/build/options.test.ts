import { expect, test } from "bun:test";
import { UsageError } from "../../../bench/bench-command.ts";
import { CASES } from "../../../bench/build/cases.ts";
import { readOptions } from "../../../bench/build/options.ts";

test("bench options: by default every case is measured five times", () => {
  expect(readOptions([])).toEqual({
    rounds: 5,
    cases: CASES.map(({ name }) => name),
    sizes: ["small", "large"],
    seed: "blacktree",
    report: undefined,
  });
});

test("bench options: cases and sizes can be selected", () => {
  const args = ["--rounds", "2", "--only", "cold", "--only", "again", "--size", "small"];
  expect(readOptions([...args, "--seed", "other", "--report", "out.json"])).toEqual({
    rounds: 2,
    cases: ["cold", "again"],
    sizes: ["small"],
    seed: "other",
    report: "out.json",
  });
});

test.each([
  [["--rounds", "0"], "--rounds 0"],
  [["--rounds", "many"], "--rounds many"],
  [["--only", "warm"], "unknown case warm; expected cold, changed"],
  [["--size", "huge"], "unknown size huge; expected small, large"],
  [["--fast"], "--fast"],
  [["twice"], "twice"],
])("bench options: %p is reported as wrong usage", (args, expected) => {
  const reading = () => readOptions(args);
  expect(reading).toThrow(UsageError);
  expect(reading).toThrow(expected);
});
