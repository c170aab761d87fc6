/** JSON of the user. It is refused where the API would refuse it. No message shows it: it can contain secrets. */
import { readFileSync } from "node:fs";
import { readJson } from "../shared/json-text.ts";
import type { JobMessage } from "./job-flags.ts";
import { WrongUsage } from "./wrong-usage.ts";

/**
 * @param path as given with --file: `-` is standard input
 * @param expected what the object is, for messages
 */
export async function readJobFile(path: string, expected: string): Promise<JobMessage> {
  const where = `--file ${path}`;
  const value = parsedJson(await contentOf(path, where), where);
  if (typeof value === "object" && value !== null && !Array.isArray(value)) return value as JobMessage;
  throw new WrongUsage(`${where}: not a JSON object; expected ${expected}`);
}

async function contentOf(path: string, where: string): Promise<Uint8Array> {
  try {
    // Unlike a synchronous read, this waits for a program that writes later.
    return path === "-" ? await Bun.stdin.bytes() : readFileSync(path);
  } catch (error) {
    throw new WrongUsage(`${where}: cannot be read (${(error as NodeJS.ErrnoException).code})`);
  }
}

/** @param where names the file in messages */
export function parsedJson(content: Uint8Array, where: string): unknown {
  const read = readJson(content);
  if ("value" in read) return read.value;
  throw new WrongUsage(`${where}: ${read.problem}`);
}
