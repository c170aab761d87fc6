import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { closeSync, constants, openSync, readSync } from "node:fs";
import { join } from "node:path";
import { LogOutput } from "../../../src/shared/log-output.ts";
import { run } from "../../support/machine/processes.ts";
import { makeTempDir, type TempDir } from "../../support/machine/temp-dir.ts";
import { waitFor } from "../../support/machine/wait-for.ts";

const describeLoss = (count: number, reason: string) => `lost ${count}: ${reason}\n`;
const NOT_TAKEN = "their reader did not take them";

describe("a pipe whose reader may stop", () => {
  let dir: TempDir;
  let reader: number;
  let writer: number;

  beforeEach(async () => {
    dir = await makeTempDir("log-output");
    const path = join(dir.path, "pipe");
    await run(["mkfifo", path]);
    reader = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
    // As a shell opens it: a write to a full pipe waits.
    writer = openSync(path, constants.O_WRONLY);
  });

  afterEach(async () => {
    closeSync(writer);
    closeSync(reader);
    await dir.remove();
  });

  function read(): string {
    const parts: Buffer[] = [];
    for (;;) {
      const part = Buffer.alloc(65_536);
      try {
        const count = readSync(reader, part);
        if (count === 0) break;
        parts.push(part.subarray(0, count));
      } catch {
        break;
      }
    }
    return Buffer.concat(parts).toString();
  }

  async function readUntil(end: string): Promise<string> {
    let text = "";
    await waitFor(
      () => {
        text += read();
        return text.endsWith(end);
      },
      { timeoutMs: 120_000, what: `the pipe to end with ${JSON.stringify(end)}` },
    );
    return text;
  }

  test("gets each line at once", () => {
    const output = new LogOutput({ fd: writer, describeLoss });
    output.write("one\n");
    expect(read()).toBe("one\n");
    output.write("two\n");
    expect(read()).toBe("two\n");
  });

  test("a reader that stops delays nothing; the lines that fit into the buffer come later, and the others are counted", async () => {
    const output = new LogOutput({ fd: writer, describeLoss, bufferBytes: 100_000 });
    const line = (number: number) => `${String(number).padStart(5, "0")}${"x".repeat(9994)}\n`;
    const count = 40;
    for (let number = 0; number < count; number++) output.write(line(number));
    const text = await readUntil(`: ${NOT_TAKEN}\n`);
    const lines = text.trimEnd().split("\n");
    const kept = lines.length - 1;
    expect(lines.slice(0, -1).map((one) => `${one}\n`)).toEqual(
      Array.from({ length: kept }, (_, number) => line(number)),
    );
    expect(lines.at(-1)).toBe(`lost ${count - kept}: ${NOT_TAKEN}`);
    output.write("afterwards\n");
    expect(read()).toBe("afterwards\n");
  });

  test("a loss is reported before the first line that follows it", async () => {
    const output = new LogOutput({ fd: writer, describeLoss, bufferBytes: 1000 });
    const filling = "x".repeat(999_999);
    output.write(`${filling.slice(0, 900)}\n`);
    output.write(`${filling}\n`);
    output.write("late\n");
    expect(await readUntil("late\n")).toBe(`${filling.slice(0, 900)}\nlost 1: ${NOT_TAKEN}\nlate\n`);
  });

  test("a flush waits for a reader that is slow, but not for one that has stopped", async () => {
    const output = new LogOutput({ fd: writer, describeLoss });
    const large = `${"x".repeat(300_000)}\n`;
    output.write(large);
    output.flush(50);
    let text = "";
    while (text.length < large.length) {
      text += read();
      output.flush(1);
    }
    expect(text).toBe(large);
  });

  test("a reader that is gone is an error of no caller, and another one hears of the loss", () => {
    const output = new LogOutput({ fd: writer, describeLoss });
    closeSync(reader);
    output.write("one\n");
    output.write("two\n");
    reader = openSync(join(dir.path, "pipe"), constants.O_RDONLY | constants.O_NONBLOCK);
    output.write("three\n");
    expect(read()).toBe("lost 2: writing them failed: EPIPE\nthree\n");
  });
});

test("a full disk is an error of no caller", () => {
  const full = openSync("/dev/full", "w");
  try {
    const output = new LogOutput({ fd: full, describeLoss });
    for (const line of ["one\n", "two\n"]) output.write(line);
    output.flush(1000);
  } finally {
    closeSync(full);
  }
});
