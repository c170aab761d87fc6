/** Logs in a bucket of S3, or of another server with its protocol (docs/logs.md). */
import { open } from "node:fs/promises";
import { addAbortSignal } from "node:stream";
import {
  AbortMultipartUploadCommand,
  ListMultipartUploadsCommand,
  ListObjectsV2Command,
  type S3Client,
} from "@aws-sdk/client-s3";
import { Upload } from "@aws-sdk/lib-storage";
import type { LogKey, LogStore } from "./log-store.ts";
import { createS3Client } from "./s3-client.ts";
import { s3Failure } from "./s3-failure.ts";
import { objectKey, type S3Location } from "./s3-location.ts";
import { openS3Object } from "./s3-object.ts";

export interface S3Timeouts {
  /** For one part of an upload. */
  readonly partMs: number;
  /** For the beginning of other answers, and for each piece of a download. */
  readonly answerMs: number;
}

const TIMEOUTS: S3Timeouts = { partMs: 60_000, answerMs: 15_000 };

/** A journal of this size or less is one request. S3 accepts no smaller parts. */
const PART_BYTES = 5 * 1024 * 1024;
/** As many are in memory. */
const PARTS_AT_ONCE = 3;

export class S3LogStore implements LogStore {
  readonly #location: S3Location;
  readonly #timeouts: S3Timeouts;
  readonly #client: S3Client;

  constructor(location: S3Location, timeouts = TIMEOUTS) {
    this.#location = location;
    this.#timeouts = timeouts;
    this.#client = createS3Client(timeouts.partMs);
  }

  /** Finds most faults of the settings. @throws LogStoreUnavailable */
  async check(signal: AbortSignal): Promise<void> {
    const { bucket: Bucket, prefix: Prefix } = this.#location;
    const options = { abortSignal: signal, requestTimeout: this.#timeouts.answerMs };
    const inBucket = { Bucket, Prefix };
    await this.#try("s3:ListBucket", signal, () =>
      this.#client.send(new ListObjectsV2Command({ ...inBucket, MaxKeys: 1 }), options),
    );
    await this.#try("s3:ListBucketMultipartUploads", signal, () =>
      this.#client.send(new ListMultipartUploadsCommand({ ...inBucket, MaxUploads: 1 }), options),
    );
  }

  /** After an abort it removes what it has uploaded. @throws LogStoreUnavailable; errors of the local file */
  async put(key: LogKey, journal: string, signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    await using file = await open(journal);
    const { size } = await file.stat();
    const object = { Bucket: this.#location.bucket, Key: objectKey(this.#location, key) };
    if (size > PART_BYTES) await this.#removeEarlierParts(object, signal);
    const body = file.createReadStream({ autoClose: false });
    const upload = new Upload({
      client: this.#client,
      params: { ...object, Body: body, ContentLength: size, ContentType: "application/x-ndjson" },
      partSize: PART_BYTES,
      queueSize: PARTS_AT_ONCE,
    });
    // Ends the upload like an error of the file: `Upload.abort` would not wait until its parts are removed.
    addAbortSignal(signal, body);
    await this.#try("s3:PutObject and s3:AbortMultipartUpload", signal, () => upload.done());
  }

  async read(key: LogKey, signal: AbortSignal): Promise<AsyncIterable<Uint8Array> | undefined> {
    const request = {
      client: this.#client,
      bucket: this.#location.bucket,
      key: objectKey(this.#location, key),
      signal,
      answerTimeoutMs: this.#timeouts.answerMs,
    };
    const reading = <T>(send: () => Promise<T>) => this.#try("s3:GetObject and s3:ListBucket", signal, send);
    const bytes = await reading(() => openS3Object(request));
    return bytes && withFailures(bytes, reading);
  }

  /** Left by an upload of the same journal that a crash or the server's failure ended. Parts are charged for. */
  async #removeEarlierParts(object: { Bucket: string; Key: string }, signal: AbortSignal): Promise<void> {
    const options = { abortSignal: signal, requestTimeout: this.#timeouts.answerMs };
    const actions = "s3:ListBucketMultipartUploads and s3:AbortMultipartUpload";
    await this.#try(actions, signal, async () => {
      const { Bucket, Key } = object;
      const listing = new ListMultipartUploadsCommand({ Bucket, Prefix: Key });
      const { Uploads = [] } = await this.#client.send(listing, options);
      for (const { UploadId } of Uploads.filter((upload) => upload.Key === Key))
        await this.#client.send(new AbortMultipartUploadCommand({ ...object, UploadId }), options);
    });
  }

  /** @throws LogStoreUnavailable; the signal's reason */
  async #try<T>(actions: string, signal: AbortSignal, send: () => Promise<T>): Promise<T> {
    try {
      return await send();
    } catch (error) {
      signal.throwIfAborted();
      throw s3Failure(this.#location, actions, error);
    }
  }
}

/** The same bytes, with each failure to get some of them described by `attempt`. */
async function* withFailures(
  bytes: AsyncIterable<Uint8Array>,
  attempt: <T>(next: () => Promise<T>) => Promise<T>,
): AsyncGenerator<Uint8Array> {
  const iterator = bytes[Symbol.asyncIterator]();
  try {
    for (;;) {
      const { done, value } = await attempt(() => iterator.next());
      if (done) return;
      yield value;
    }
  } finally {
    await iterator.return?.();
  }
}
