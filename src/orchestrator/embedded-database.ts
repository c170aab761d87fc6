/** The SQLite file of the embedded queue and records; one process at a time has it open. */
import { Database, SQLiteError } from "bun:sqlite";
import { chmodSync, closeSync, openSync } from "node:fs";

export class DatabaseInUse extends Error {
  override readonly name = "DatabaseInUse";
}

/**
 * The caller closes it, after the queue and the records that use it.
 * @throws DatabaseInUse when another process (or this one) has it open.
 */
export function openEmbeddedDatabase(path: string): Database {
  // Message bodies are stored as submitted, with secrets. SQLite creates its journal with the mode of the file.
  closeSync(openSync(path, "a", 0o600));
  chmodSync(path, 0o600);
  const database = new Database(path, { readwrite: true, create: true, strict: true });
  try {
    // In this mode the kernel holds the lock for the lifetime of the process: it does not remain after a kill.
    database.run("PRAGMA locking_mode = EXCLUSIVE");
    database.run("PRAGMA journal_mode = WAL");
    database.run("PRAGMA synchronous = FULL");
    // Else a deleted message, with its secrets, stays in unused parts of the file.
    database.run("PRAGMA secure_delete = ON");
    // SQLite acquires the lock with the first write.
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
