import { expect, test } from "bun:test";
import { parseEnvironmentFile } from "../../../../src/shared/settings/environment-file.ts";
import { SAMPLE_FILE, SAMPLE_VARIABLES } from "./environment-file-sample.ts";

test("an environment file is read as systemd reads it", () => {
  expect(parseEnvironmentFile(SAMPLE_FILE)).toEqual(SAMPLE_VARIABLES);
});

test.each([
  ["", {}],
  ["A=1", { A: "1" }],
  ["A='1", { A: "1" }],
  ['A="1', { A: "1" }],
  ["A=1\\", { A: "1" }],
  ["A", {}],
  ["\n\n A = 1 \n", { A: "1" }],
  ["A=1\r\nB=2\r\n", { A: "1", B: "2" }],
])("%j", (text, variables) => {
  expect(parseEnvironmentFile(text)).toEqual(variables);
});
