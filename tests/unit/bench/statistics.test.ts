import { expect, test } from "bun:test";
import { spreadOf } from "../../bench/statistics.ts";

test("the median of an odd number of values is the one in the middle, in any order", () => {
  expect(spreadOf([30, 10, 20])).toEqual({ median: 20, least: 10, most: 30 });
});

test("the median of an even number of values is halfway between the two in the middle", () => {
  expect(spreadOf([1, 100, 2, 4])).toEqual({ median: 3, least: 1, most: 100 });
});

test("values are compared as numbers", () => {
  expect(spreadOf([9, 10, 100])).toEqual({ median: 10, least: 9, most: 100 });
});

test("no values have no spread", () => {
  expect(spreadOf([])).toBeUndefined();
});
