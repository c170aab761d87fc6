import { expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { submitCommand } from "../../../src/cli/submit.ts";
import { upCommand } from "../../../src/cli/up.ts";
import { nextSteps } from "../../try/next-steps.ts";

const text = nextSteps("./dist/blacktree");

test("next steps: a trial ends with pages that exist", () => {
  const pages = text.match(/\bdocs\/\S+\.md\b/g) ?? [];
  expect(pages).toHaveLength(2);
  expect(pages.filter((page) => !existsSync(join(import.meta.dir, "../../..", page)))).toEqual([]);
});

test.each([upCommand, submitCommand])(
  "next steps: a trial ends with commands and flags that exist",
  (make) => {
    const command = make({}, () => undefined);
    const written = new RegExp(`^.* \\./dist/blacktree ${command.name()} (.*(?:\\\\\n.*)*)`, "m").exec(text);
    const flags = written?.[1]?.match(/--[a-z-]+/g) ?? [];
    expect(flags.length).toBeGreaterThan(1);
    expect(flags.filter((flag) => !command.options.some(({ long }) => long === flag))).toEqual([]);
  },
);
