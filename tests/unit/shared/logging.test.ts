import { expect, test } from "bun:test";
import { join } from "node:path";
import { run } from "../../support/machine/processes.ts";

const MODULE = join(import.meta.dir, "../../../src/shared/logging.ts");

const program = (end: string) => `
  import { createLogger } from ${JSON.stringify(MODULE)};
  const logger = createLogger("test", "info");
  for (let line = 0; line < 500; line++) logger.info({ line, padding: "x".repeat(1000) }, "line");
  logger.error("the last one");
  ${end}
`;

test.each([
  ["process.exit", "process.exit(3);", 3],
  ["an exception", 'setTimeout(() => { throw new Error("broken"); });', 1],
])("%s loses no line", async (_, end, status) => {
  const { stdout, exitCode } = await run([process.execPath, "-e", program(end)], { mayFail: true });
  const lines = stdout.trimEnd().split("\n");
  expect(lines).toHaveLength(501);
  expect(JSON.parse(lines.at(-1) ?? "")).toMatchObject({
    level: "error",
    program: "test",
    msg: "the last one",
  });
  expect(exitCode).toBe(status);
});
