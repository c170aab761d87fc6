import { expect, test } from "bun:test";
import { partitionOf } from "../../../../../src/worker/registry/ecr/partition.ts";

test.each([
  ["us-east-1", "aws"],
  ["eu-central-1", "aws"],
  ["cn-northwest-1", "aws-cn"],
  ["us-gov-east-1", "aws-us-gov"],
  ["us-iso-east-1", "aws-iso"],
  ["us-isob-east-1", "aws-iso-b"],
  ["eusc-de-east-1", "aws-eusc"],
])("%s is in %s", (region, partition) => {
  expect(partitionOf(region)).toBe(partition);
});
