/** Decodes the body of a message by its AMQP property `content-encoding`. */
import { gunzipSync } from "node:zlib";

/** The message cannot be decoded. The text says what is wrong and what is expected. */
export class UndecodableBody extends Error {
  override readonly name = "UndecodableBody";
}

const ACCEPTED = "expected gzip, or no content-encoding";
/** Names of text encodings, which some client libraries set here. */
const PLAIN = /^(|identity|utf-?8|us-ascii)$/i;

/** @throws UndecodableBody, also when the body would have more than `maxBytes` */
export function decodedBody(body: Buffer, encoding: string | undefined, maxBytes: number): Buffer {
  const name = encoding?.trim() ?? "";
  if (PLAIN.test(name)) return body;
  if (!/^(x-)?gzip$/i.test(name))
    throw new UndecodableBody(
      `content-encoding: ${JSON.stringify(name.slice(0, 40))} is not supported; ${ACCEPTED}`,
    );
  try {
    return gunzipSync(body, { maxOutputLength: maxBytes });
  } catch (cause) {
    const isTooLarge = (cause as NodeJS.ErrnoException).code === "ERR_BUFFER_TOO_LARGE";
    const problem = isTooLarge
      ? `the message has more than ${maxBytes} bytes after decompression; expected at most ${maxBytes}`
      : "content-encoding: the body is not valid gzip";
    throw new UndecodableBody(problem, { cause });
  }
}
