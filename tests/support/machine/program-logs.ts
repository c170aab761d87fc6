/** Logs of the programs that a test file starts: they show why a test failed. */
import { closeSync, mkdirSync, openSync, rmSync, writeSync } from "node:fs";
import { basename, join, relative, resolve } from "node:path";

const root = join(import.meta.dir, "../../..");

/** Below it, each test file has a folder of its own, with the logs of its last run. */
export const programLogsRoot = join(root, ".cache/test-logs");

export interface ProgramLog {
  write(chunk: Uint8Array): void;
  close(): void;
}

/** Where the logs of a test file, or of another script of the tests, are kept; `path` may be absolute. */
export function programLogsOf(path: string): string {
  return join(programLogsRoot, relative(root, resolve(root, path)).replaceAll("/", "-"));
}

/** Of one log; what a program prints after that is not kept. */
const MOST_BYTES = 20_000_000;

const counts = new Map<string, number>();

/** A new file for the output of one start of a program, numbered in the order of the starts. */
export function openProgramLog(command: readonly string[]): ProgramLog {
  // In a test process this is the file that it runs at this moment.
  const folder = programLogsOf(Bun.main);
  const number = (counts.get(folder) ?? 0) + 1;
  counts.set(folder, number);
  if (number === 1) rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder, { recursive: true });
  const name = `${String(number).padStart(3, "0")}-${basename(command[0] ?? "")}.log`;
  const file = openSync(join(folder, name), "w");
  let written = 0;
  let isOpen = true;
  return {
    write(chunk) {
      if (!isOpen || written > MOST_BYTES) return;
      written += chunk.byteLength;
      writeSync(file, chunk);
    },
    close() {
      if (isOpen) closeSync(file);
      isOpen = false;
    },
  };
}
