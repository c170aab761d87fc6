import { expect, test } from "bun:test";
import { findImportProblems } from "../../check/imports.ts";

const FLOW = `# Flow

| folder | purpose | may import |
| --- | --- | --- |
| \`cli\` | commands | \`worker\`, \`shared\` |
| \`worker\` | builds | \`worker/git\` |
| \`worker/git\` | checkouts | \`shared\` |
| \`shared\` | logging | none |

More text, with \`code\` | and a bar.
`;

const CLI_ROW = 5;

const SOURCES = {
  "src/cli/main.ts": `import { start } from "../worker/worker.ts";
import {
  type Logger,
  logTo,
} from "../shared/logging.ts";
import "../shared/logging.ts";
import text from "./help.txt";
import { z } from "zod";
`,
  "src/worker/worker.ts": 'export type { Checkout } from "./git/checkout.ts";\n',
  "src/worker/git/checkout.ts": 'import type { Logger } from "../../shared/logging.ts";\n',
  "src/shared/logging.ts": "",
};

function problemsOf(flow: string, changed: Record<string, string> = {}): string[] {
  const problems = findImportProblems(flow, new Map(Object.entries({ ...SOURCES, ...changed })));
  return problems.map(({ file, line, message }) => `${file}:${line}: ${message}`);
}

test("imports that the table allows are accepted", () => {
  expect(problemsOf(FLOW)).toEqual([]);
});

test.each([
  ['import { a } from "../../worker/worker.ts";', "worker"],
  ['import type { A } from "../../worker/worker.ts";', "worker"],
  ['export * from "../../worker/worker.ts";', "worker"],
  ['import {\n  a,\n} from "../../worker/worker.ts";', "worker"],
  ['import "../../worker/worker.ts";', "worker"],
  ['const a = await import("../../worker/worker.ts");', "worker"],
  ['type A = import("../../worker/worker.ts").A;', "worker"],
  ['import script from "../../worker/scripts/claim.lua";', "worker"],
])("a forbidden import is reported: %s", (statement, folder) => {
  const source = `${SOURCES["src/worker/git/checkout.ts"]}${statement}\n`;
  const line = source.trimEnd().split("\n").length;
  expect(problemsOf(FLOW, { "src/worker/git/checkout.ts": source })).toEqual([
    `src/worker/git/checkout.ts:${line}: worker/git may not import ${folder}: move the code to a folder that both may ` +
      "import, or add `worker` to the row of worker/git in src/FLOW.md",
  ]);
});

test("generated code belongs to the folder that contains its folder", () => {
  const source = 'import { Job } from "../shared/generated/v1/job.ts";\nimport "./git/checkout.ts";\n';
  expect(problemsOf(FLOW, { "src/worker/worker.ts": source })[0]).toStartWith(
    "src/worker/worker.ts:1: worker may not import shared:",
  );
});

test("a folder without a row is reported once", () => {
  const added = { "src/disk/a.ts": 'import "../shared/logging.ts";', "src/disk/b.ts": "" };
  expect(problemsOf(FLOW, added)).toEqual([
    "src/disk/a.ts:1: folder disk has no row in the folder table of src/FLOW.md: " +
      "add one, above the folders that it imports",
  ]);
});

test("a row of a folder that does not exist is reported", () => {
  const flow = FLOW.replace("| `shared` | logging", "| `disk` | space | none |\n| `shared` | logging");
  expect(problemsOf(flow)).toEqual([
    `src/FLOW.md:${CLI_ROW + 3}: folder disk does not exist or has no TypeScript file: remove its row`,
  ]);
});

test("an entry that no file uses is reported", () => {
  const flow = FLOW.replace("`worker/git` |", "`worker/git`, `shared` |");
  expect(problemsOf(flow)).toEqual([
    `src/FLOW.md:${CLI_ROW + 1}: no file of worker imports shared: remove \`shared\` from the row of worker`,
  ]);
});

test("a row that lists a folder of a row above it is reported, as it would allow a circle", () => {
  const flow = FLOW.replace("| logging | none |", "| logging | `worker` |");
  const source = 'import "../worker/worker.ts";';
  expect(problemsOf(flow, { "src/shared/logging.ts": source })).toEqual([
    `src/FLOW.md:${CLI_ROW + 3}: shared may import worker, which is not in a row below it: move the row of shared up; ` +
      "if that is not possible, the two folders import each other, and shared code has to move to a third one",
  ]);
});

test("a text without the table is reported", () => {
  expect(problemsOf("# Flow\n")).toEqual([
    "src/FLOW.md:1: has no folder table; expected a row | folder | purpose | may import |",
  ]);
});
