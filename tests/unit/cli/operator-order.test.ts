import { expect, test } from "bun:test";
import { describeOrder, orderTarget } from "../../../src/cli/operator-order.ts";
import { describeRegions } from "../../../src/cli/regions.ts";

const worker = { kind: "worker", name: "w1" } as const;
const since = "2026-11-26T08:00:00.000Z";
const drained = { kind: "drained", reason: "", since, scope: "worker" } as const;
const regionDrained = { ...drained, scope: "region" } as const;

test("the target is a worker or a region", () => {
  expect(orderTarget("w1", undefined)).toEqual(worker);
  expect(orderTarget(undefined, "us-east-1")).toEqual({ kind: "region", name: "us-east-1" });
  for (const [id, region] of [
    [undefined, undefined],
    ["w1", "us-east-1"],
    ["", undefined],
    [undefined, ""],
  ])
    expect(() => orderTarget(id, region)).toThrow("expected either a worker's id or --region");
});

test.each([
  [
    worker,
    { control: drained, jobs: ["j1"] },
    "w1 is drained: it gets no jobs until it is resumed; 1 job still runs there",
  ],
  [worker, { control: drained }, "w1 is drained: it gets no jobs until it is resumed; no job runs there"],
  [worker, { warning: "forgotten soon" }, "w1 is resumed\nwarning: forgotten soon"],
  [worker, { region: null }, "w1 is resumed\nnote: it is not registered now"],
  [
    worker,
    { control: regionDrained },
    "w1 is resumed\nnote: it gets no jobs until its region is resumed, too: blacktree resume --region us-east-1",
  ],
  [
    { kind: "region", name: "us-east-1" },
    { control: regionDrained, jobs: ["j1", "j2"] },
    "us-east-1 is drained: it gets no jobs until it is resumed; 2 jobs still run there",
  ],
] as const)("the answer for %j is described: %j", (target, answer, described) => {
  expect(
    describeOrder(target, { control: null, jobs: [], warning: null, region: "us-east-1", ...answer }),
  ).toBe(described);
});

test("regions are shown in columns", () => {
  const slots = { total: 3, free: 1 };
  const workers = { FREE: 1, BUSY: 2, DRAINING: 0, LOST: 0 };
  const none = { FREE: 0, BUSY: 0, DRAINING: 0, LOST: 0 };
  const power = { ...regionDrained, reason: "power cut" };
  expect(
    describeRegions([
      { region: "eu-west-1", workers: none, slots: { total: 0, free: 0 }, jobs: [], control: power },
      { region: "us-east-1", workers, slots, jobs: ["j1", "j2"], control: null },
    ]).split("\n"),
  ).toEqual([
    "REGION     WORKERS         SLOTS  FREE  JOBS  OUT OF SERVICE",
    `eu-west-1  none            0      0     0     drained by an operator: power cut (since ${since})`,
    "us-east-1  1 FREE, 2 BUSY  3      1     2",
  ]);
});
