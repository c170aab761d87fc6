import { expect, test } from "bun:test";
import { closeSync, constants, openSync, writeSync } from "node:fs";
import { join } from "node:path";
import { run } from "../../support/machine/processes.ts";
import { makeTempDir } from "../../support/machine/temp-dir.ts";

const MODULE = join(import.meta.dir, "../../../src/cli/json-file.ts");
const SCRIPT = `
const { readJobFile } = await import(${JSON.stringify(MODULE)});
const reading = readJobFile("-", "a job");
console.log("reading");
console.log(JSON.stringify(await reading));`;

test("a job on standard input may arrive later, also through a pipe that does not block", async () => {
  const folder = await makeTempDir("standard-input");
  const fifo = join(folder.path, "fifo");
  await run(["mkfifo", fifo]);
  const reader = openSync(fifo, constants.O_RDONLY | constants.O_NONBLOCK);
  const writer = openSync(fifo, constants.O_WRONLY);
  const child = Bun.spawn([process.execPath, "-e", SCRIPT], { stdin: reader, stdout: "pipe" });
  try {
    let output = "";
    for await (const chunk of child.stdout) {
      output += Buffer.from(chunk).toString();
      if (output !== "reading\n") continue;
      writeSync(writer, '{"branch": "main"}');
      closeSync(writer);
    }
    expect(output).toBe('reading\n{"branch":"main"}\n');
  } finally {
    child.kill();
    closeSync(reader);
    await folder.remove();
  }
});
