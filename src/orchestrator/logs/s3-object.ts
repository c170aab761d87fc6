/**
 * The bytes of an object in S3, read in ranges: a slow reader keeps no more than one range in memory, and an interrupted
 * download continues where it was.
 */
import { GetObjectCommand, type S3Client } from "@aws-sdk/client-s3";
import { orAbort, sleep } from "../../shared/abort.ts";
import { isTemporary } from "../../shared/aws/errors.ts";
import { Backoff } from "../../shared/backoff.ts";

export interface S3ObjectRequest {
  readonly client: S3Client;
  readonly bucket: string;
  readonly key: string;
  readonly signal: AbortSignal;
  /** For the beginning of an answer, and for each piece of its body. */
  readonly answerTimeoutMs: number;
}

const RANGE_BYTES = 4 * 1024 * 1024;
/** In a row, without a byte between them. */
const MAX_FAILURES = 5;
const RETRY_DELAY = { initialMs: 200, maxMs: 5000 };

/** @returns undefined if there is no such object. @throws errors of the SDK and of the connection */
export async function openS3Object(request: S3ObjectRequest): Promise<AsyncIterable<Uint8Array> | undefined> {
  try {
    return new S3Download(request, await openRange(request, 0)).bytes();
  } catch (error) {
    const { name } = error as Error;
    if (name === "NoSuchKey") return undefined;
    if (name === "InvalidRange") return noBytes();
    throw error;
  }
}

/** No range of an empty object can be requested. */
async function* noBytes(): AsyncGenerator<Uint8Array> {}

/** A part of an object that is being received. */
interface Range {
  readonly body: Pick<ReadableStreamDefaultReader<Uint8Array>, "read" | "cancel">;
  /** The position after its last byte. */
  readonly end: number;
  readonly objectBytes: number;
  readonly etag: string | undefined;
}

class Interrupted extends Error {
  override readonly name = "Interrupted";
}

class S3Download {
  readonly #objectBytes: number;
  /** All ranges are of the same object: it could be replaced meanwhile. */
  readonly #etag: string | undefined;
  readonly #delay = new Backoff(RETRY_DELAY);
  #range: Range | undefined;
  #position = 0;
  #failures = 0;

  constructor(
    private readonly request: S3ObjectRequest,
    first: Range,
  ) {
    this.#range = first;
    this.#objectBytes = first.objectBytes;
    this.#etag = first.etag;
  }

  async *bytes(): AsyncGenerator<Uint8Array> {
    try {
      while (this.#position < this.#objectBytes) {
        const chunk = await this.#nextChunk();
        if (chunk === undefined) continue;
        this.#position += chunk.byteLength;
        yield chunk;
      }
    } finally {
      this.#close();
    }
  }

  /** Undefined at the end of a range, and after an interruption. */
  async #nextChunk(): Promise<Uint8Array | undefined> {
    const { signal, answerTimeoutMs } = this.request;
    try {
      this.#range ??= await openRange(this.request, this.#position, this.#etag);
      const { value } = await inTime(this.#range.body.read(), answerTimeoutMs, signal);
      if (value === undefined) this.#endRange(this.#range);
      else this.#onProgress();
      return value;
    } catch (error) {
      this.#close();
      signal.throwIfAborted();
      this.#failures += 1;
      if (this.#failures === MAX_FAILURES || !isTemporary(error)) throw error;
      await sleep(this.#delay.nextMs(), signal);
      return undefined;
    }
  }

  #endRange({ end }: Range): void {
    if (this.#position < end) throw new Interrupted("the server ended its answer early");
    this.#range = undefined;
  }

  #onProgress(): void {
    this.#failures = 0;
    this.#delay.reset();
  }

  #close(): void {
    // Of a failed body: that failure is known.
    this.#range?.body.cancel().catch(() => undefined);
    this.#range = undefined;
  }
}

async function openRange(request: S3ObjectRequest, position: number, etag?: string): Promise<Range> {
  const { client, bucket, key, signal, answerTimeoutMs } = request;
  const command = new GetObjectCommand({
    Bucket: bucket,
    Key: key,
    Range: `bytes=${position}-${position + RANGE_BYTES - 1}`,
    IfMatch: etag,
  });
  const output = await client.send(command, { abortSignal: signal, requestTimeout: answerTimeoutMs });
  const body = output.Body?.transformToWebStream().getReader();
  // Without this header it is the whole object.
  const [, start, last, objectBytes] = /^bytes (\d+)-(\d+)\/(\d+)$/.exec(output.ContentRange ?? "") ?? [
    "",
    0,
    (output.ContentLength ?? 0) - 1,
    output.ContentLength,
  ];
  if (body !== undefined && Number(start) === position)
    return { body, end: Number(last) + 1, objectBytes: Number(objectBytes), etag: output.ETag };
  void body?.cancel().catch(() => undefined);
  throw new Interrupted("the server sent another range than requested");
}

/** @throws Interrupted when it takes longer; the signal's reason */
async function inTime<T>(promise: Promise<T>, timeoutMs: number, signal: AbortSignal): Promise<T> {
  const { promise: late, reject } = Promise.withResolvers<never>();
  const timer = setTimeout(
    () => reject(new Interrupted(`the server sent nothing for ${timeoutMs / 1000} s`)),
    timeoutMs,
  );
  return orAbort(Promise.race([promise, late]), signal).finally(() => clearTimeout(timer));
}
