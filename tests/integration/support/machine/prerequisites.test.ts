import { expect, test } from "bun:test";
import { ensurePrerequisites } from "../../../support/machine/prerequisites.ts";

test("prerequisites: nothing is installed or logged when the machine has everything", async () => {
  const lines: string[] = [];
  expect(await ensurePrerequisites("try", (line) => lines.push(line))).toEqual({
    installed: [],
    engines: {},
  });
  expect(lines).toEqual([]);
});
