/** Standard output of the commands. Unlike process.stdout and the console, it reports what cannot be written. */
import { writeSync } from "node:fs";
import { waitUntilWritable } from "../shared/poll.ts";
import { toVisibleJson, withVisibleCharacters } from "../shared/visible-text.ts";
import { ApiError } from "./api/error.ts";

const STDOUT = 1;
const WAIT_MS = 60_000;

export class OutputFailed extends Error {
  override readonly name = "OutputFailed";
  /** Nothing reads the rest, as in `blacktree logs ID | head -1`. */
  readonly isReaderGone: boolean;

  constructor(cause: NodeJS.ErrnoException) {
    super(`cannot write to standard output: ${cause.message}`, { cause });
    this.isReaderGone = cause.code === "EPIPE";
  }
}

export function printJson(value: unknown): void {
  printRaw(toVisibleJson(value));
}

/** A repository chooses parts of the text. */
export function printText(text: string): void {
  printRaw(withVisibleCharacters(text));
}

/** A line, or several. @throws OutputFailed */
export function printRaw(text: string): void {
  write(Buffer.from(`${text}\n`));
}

/**
 * Reads no faster than the output is read.
 * @throws ApiError when the body breaks off; OutputFailed
 */
export async function copyToStdout(body: ReadableStream<Uint8Array>): Promise<void> {
  try {
    for await (const chunk of body) write(chunk);
  } catch (cause) {
    if (cause instanceof OutputFailed) throw cause;
    throw new ApiError("lost the connection: the output is not complete", undefined, {}, { cause });
  }
}

/** Waits, without running anything else, until all is written. */
function write(bytes: Uint8Array): void {
  let written = 0;
  while (written < bytes.length) {
    try {
      written += writeSync(STDOUT, bytes, written);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "EAGAIN")
        throw new OutputFailed(error as NodeJS.ErrnoException);
      waitUntilWritable(STDOUT, WAIT_MS);
    }
  }
}
