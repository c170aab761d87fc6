import { expect, test } from "bun:test";
import { areLabels, workerLabels } from "../../../../src/shared/settings/worker-labels.ts";

test("labels are pairs of key and value, comma separated", () => {
  expect(workerLabels("rack=7, example.com/team=web a=b,empty=")).toEqual({
    rack: "7",
    "example.com/team": "web a=b",
    empty: "",
  });
});

const many = Array.from({ length: 21 }, (_, index) => `k${index}=v`).join(",");
test.each([
  ["rack", 'has "rack", which is not a label'],
  ["=7", 'has "=7", which is not a label'],
  ["r ack=7", 'has "r ack=7", which is not a label'],
  [`${"k".repeat(64)}=7`, "which is not a label"],
  [`rack=${"7".repeat(101)}`, "which is not a label"],
  ["rack=a\u202eb", "which is not a label"],
  ["rack=a\tb", "which is not a label"],
  ["rack=1,rack=2", "has a key twice"],
  [many, "has 21 labels"],
])("%s is refused", (raw, wrong) => {
  expect(() => workerLabels(raw)).toThrow(wrong);
});

test("labels of other programs are checked by the same rules", () => {
  expect(areLabels({ rack: "7" })).toBe(true);
  expect(areLabels({ rack: "a\nb" })).toBe(false);
  expect(areLabels({ "": "7" })).toBe(false);
  expect(areLabels(Object.fromEntries(many.split(",").map((each) => [each.replace("=v", ""), ""])))).toBe(
    false,
  );
});
