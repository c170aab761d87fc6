import { expect, test } from "bun:test";
import { WrongUsage } from "../../../bench/bench-form.ts";
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
  [["--only", "warm"], "there is no case warm; expected cold, changed"],
  [["--size", "huge"], "there is no size huge; expected small, large"],
  [["--fast"], "--fast"],
  [["twice"], "twice"],
])("bench options: %p is reported as wrong usage", (args, said) => {
  const reading = () => readOptions(args);
  expect(reading).toThrow(WrongUsage);
  expect(reading).toThrow(said);
});
