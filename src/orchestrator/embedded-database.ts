/** The one file behind the embedded queue and records: SQLite, held by one process at a time. */
import { Database, SQLiteError } from "bun:sqlite";
import { chmodSync, closeSync, openSync } from "node:fs";

export class DatabaseInUse extends Error {
  override readonly name = "DatabaseInUse";
}

/**
 * Whoever opens it closes it, after the queue and the records that use it.
 * @throws DatabaseInUse when another process (or this one) has it open.
 */
export function openEmbeddedDatabase(path: string): Database {
  // Bodies are kept as submitted, secrets included. SQLite gives its journal the mode of the file.
  closeSync(openSync(path, "a", 0o600));
  chmodSync(path, 0o600);
  const database = new Database(path, { readwrite: true, create: true, strict: true });
  try {
    // In this mode the lock is the kernel's and lasts as long as the process: nothing is left of it after a kill.
    database.run("PRAGMA locking_mode = EXCLUSIVE");
    database.run("PRAGMA journal_mode = WAL");
    database.run("PRAGMA synchronous = FULL");
    // The lock is only taken with the first write.
    database.run("BEGIN IMMEDIATE");
    database.run("COMMIT");
    return database;
  } catch (error) {
    database.close();
    if (error instanceof SQLiteError && error.code === "SQLITE_BUSY") {
      throw new DatabaseInUse(`${path} is in use by another process`, { cause: error });
    }
    throw error;
  }
}
