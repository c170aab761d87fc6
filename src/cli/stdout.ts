/** Standard output for logs of any size. */
import { once } from "node:events";
import { isReaderGone } from "../shared/poll.ts";
import { EXIT } from "../shared/settings/command-line.ts";

const STDOUT = 1;

/** Reads no faster than the output is read. As `blacktree logs ID | head -1`: ends when nothing reads the rest. */
export async function copyToStdout(body: ReadableStream<Uint8Array>): Promise<void> {
  const { stdout } = process;
  stdout.on("error", (error: NodeJS.ErrnoException) => {
    if (error.code !== "EPIPE") console.error(`blacktree: cannot write to standard output: ${error.message}`);
    process.exit(EXIT.failed);
  });
  for await (const chunk of body) if (!stdout.write(chunk)) await once(stdout, "drain");
  await new Promise<void>((resolve) => void stdout.write("", () => resolve()));
}

export function exitIfReaderGone(): void {
  if (isReaderGone(STDOUT)) process.exit(EXIT.failed);
}
