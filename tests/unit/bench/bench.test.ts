/** The command line of `bun run bench`. */
import { expect, test } from "bun:test";
import { join } from "node:path";
import { run } from "../../support/machine/processes.ts";

const bench = (...args: string[]) =>
  run([process.execPath, join(import.meta.dir, "../../bench/bench.ts"), ...args], { mayFail: true });

test.each([
  [[], "no bench is named"],
  [["speed"], "unknown bench speed"],
  [["build", "--rounds", "none"], "--rounds none"],
])("bench: called with %p, it reports the error and starts nothing", async (args, expected) => {
  const { exitCode, stdout, stderr } = await bench(...args);
  expect(exitCode).toBe(2);
  expect(stdout).toBe("");
  expect(stderr).toContain(expected);
  expect(stderr).toContain("bun run bench build [--rounds");
});
