/** Logs of the programs that a test file starts: they show why a test failed. */
import { closeSync, mkdirSync, openSync, rmSync, writeSync } from "node:fs";
import { basename, join, relative, resolve } from "node:path";

const root = join(import.meta.dir, "../../..");

/** Each test file has a folder in it, with the logs of the file's last run. */
export const programLogsRoot = join(root, ".cache/test-logs");

export interface ProgramLog {
  write(chunk: Uint8Array): void;
  close(): void;
}

/** The log folder of a test file, or of another script of the tests; `path` may be absolute. */
export function programLogsOf(path: string): string {
  return join(programLogsRoot, relative(root, resolve(root, path)).replaceAll("/", "-"));
}

/** Scripts of `bun -e` have the same path, and several run at the same time: each has a folder of its own. */
const main = () => (basename(Bun.main) === "[eval]" ? `${Bun.main}-${process.pid}` : Bun.main);

/** Of one log; further output is not kept. */
const MAX_LOG_BYTES = 20_000_000;

const counts = new Map<string, number>();

/** A new file for the output of one start of a program, numbered in the order of the starts. */
export function openProgramLog(command: readonly string[]): ProgramLog {
  // In a test process this is the file that it runs at this moment.
  const folder = programLogsOf(main());
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
      if (!isOpen || written > MAX_LOG_BYTES) return;
      written += chunk.byteLength;
      writeSync(file, chunk);
    },
    close() {
      if (isOpen) closeSync(file);
      isOpen = false;
    },
  };
}
