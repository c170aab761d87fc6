/**
 * Uploads journals from this machine's folder (directory-store.ts) to a log store that all orchestrators share.
 *
 * The folder decides what is uploaded: `pending()` lists at the start what earlier starts have left, and `add()` adds
 * what is stored later. Each upload is tried until it succeeds or its file does not exist anymore. After a success,
 * `onUploaded` records where the journal is; then `uploaded()` makes the folder forget that it was pending, so that a
 * crash between any of these steps repeats the upload, and loses none.
 */
import type { LogKey } from "./log-store.ts";

export interface PendingUpload {
  readonly key: LogKey;
  /** Of the complete journal. It is not changed anymore, and its removal ends the attempts to upload it. */
  readonly path: string;
}

/** What the folder remembers over restarts, for example with a marker beside each file. */
export interface PendingUploads {
  /** In any order. */
  pending(): AsyncIterable<PendingUpload>;
  /** From now on `pending` does not list it. Called again after an error, and possibly for a removed file. */
  uploaded(key: LogKey): Promise<void>;
}
