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
   * Copies a complete journal from this local file, which is not changed afterwards; when called again for a key, the last
   * one counts.
   * @throws LogStoreUnavailable; errors of the file and of the folder that it is copied to, such as ENOSPC
   */
  put(key: LogKey, journal: string, signal: AbortSignal): Promise<void>;
  /**
   * The journal's bytes from its beginning; undefined if it is not here. Reads only as fast as its reader.
   * @throws LogStoreUnavailable; the signal's reason
   */
  read(key: LogKey, signal: AbortSignal): Promise<AsyncIterable<Uint8Array> | undefined>;
}

/** The only expected error of a log store. */
export class LogStoreUnavailable extends Error {
  override readonly name = "LogStoreUnavailable";
}
