import { expect, test } from "bun:test";
import { ensurePrerequisites } from "../../../support/machine/prerequisites.ts";

test("a machine that has everything is left alone, and says nothing", async () => {
  const lines: string[] = [];
  expect(await ensurePrerequisites("try", (line) => lines.push(line))).toEqual({
    installed: [],
    engines: {},
  });
  expect(lines).toEqual([]);
});
