/**
 * Where the journals of ended attempts are kept (shared/log-journal.ts). A folder (directory-store.ts) and an
 * S3-compatible bucket (s3-store.ts) implement this interface, and both pass
 * tests/integration/orchestrator/logs/log-store-contract.ts.
 */
import type { RunRef } from "../../shared/job.ts";

/** A tenant's logs have a common prefix. Job ids and tenants are valid (job/fields.ts), but may be `.` or `..`. */
export interface LogKey extends RunRef {
  readonly tenant: string;
}

export interface LogStore {
  /**
   * Keeps a complete journal, which is in this local file. The store takes the file over: the caller only removes it, if it
   * is still there. When called again for a key, the last journal counts.
   * @throws LogStoreUnavailable; the error of a file operation, such as ENOSPC
   */
  put(key: LogKey, journal: string, signal: AbortSignal): Promise<void>;
  /**
   * The journal's bytes from its beginning; undefined if it is not here. Reads only as fast as its reader.
   * @throws LogStoreUnavailable
   */
  read(key: LogKey, signal: AbortSignal): Promise<AsyncIterable<Uint8Array> | undefined>;
}

/** The only expected error of a log store. */
export class LogStoreUnavailable extends Error {
  override readonly name = "LogStoreUnavailable";
}
