/** Standard output for logs of any size. */
import { once } from "node:events";
import { isReaderGone } from "../shared/poll.ts";
import { EXIT } from "../shared/settings/command-line.ts";
import { ApiError } from "./api-error.ts";

const STDOUT = 1;

/**
 * Reads no faster than the output is read, and ends the process when nothing reads the rest, as in
 * `blacktree logs ID | head -1`.
 * @throws ApiError when the body breaks off
 */
export async function copyToStdout(body: ReadableStream<Uint8Array>): Promise<void> {
  const { stdout } = process;
  stdout.on("error", (error: NodeJS.ErrnoException) => {
    if (error.code !== "EPIPE") console.error(`blacktree: cannot write to standard output: ${error.message}`);
    process.exit(EXIT.failed);
  });
  try {
    for await (const chunk of body) if (!stdout.write(chunk)) await once(stdout, "drain");
  } catch (cause) {
    throw new ApiError("lost the connection: the output is not complete", undefined, {}, { cause });
  } finally {
    await new Promise<void>((resolve) => void stdout.write("", () => resolve()));
  }
}

export function exitIfReaderGone(): void {
  if (isReaderGone(STDOUT)) process.exit(EXIT.failed);
}
