import { expect, test } from "bun:test";
import { join } from "node:path";
import { run } from "../../support/machine/processes.ts";

const MODULE = join(import.meta.dir, "../../../src/shared/core-dumps.ts");

/** In a separate process, since it cannot be undone. */
const PROGRAM = `
  import { dlopen, FFIType } from "bun:ffi";
  import { readFileSync } from "node:fs";
  import { protectMemory } from ${JSON.stringify(MODULE)};
  const problems = [];
  protectMemory({ warn: (fields) => problems.push(String(fields.err)) });
  const libc = dlopen("libc.so.6", { prctl: { args: [FFIType.i32, FFIType.u64], returns: FFIType.i32 } });
  const PR_GET_DUMPABLE = 3;
  const limit = /^Max core file size +(\\S+ +\\S+)/m.exec(readFileSync("/proc/self/limits", "utf8"))?.[1];
  console.log(JSON.stringify({ problems, dumpable: libc.symbols.prctl(PR_GET_DUMPABLE, 0), limit }));
`;

test("a process that protects its memory writes no core dump and cannot be read by others of its user", async () => {
  const { stdout } = await run([process.execPath, "-e", PROGRAM]);
  expect(JSON.parse(stdout)).toEqual({
    problems: [],
    dumpable: 0,
    limit: expect.stringMatching(/^0 +0$/),
  });
});
