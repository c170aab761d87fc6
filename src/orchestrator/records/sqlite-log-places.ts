/** Places of logs in the embedded SQLite file. It has one orchestrator, which needs no address and no right to copy. */
import type { Database } from "bun:sqlite";
import { RecordsUnavailable } from "./job-records.ts";
import { type LogPlace, type LogPlaces, PLACE_KINDS, type PlacedLog, type TenantRun } from "./log-places.ts";

export const LOG_PLACES_SCHEMA = `
  CREATE TABLE IF NOT EXISTS log_places (
    job_id TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    place TEXT NOT NULL,
    expires_at INTEGER NOT NULL,
    PRIMARY KEY (job_id, attempt)
  );
  CREATE INDEX IF NOT EXISTS log_places_by_end ON log_places (expires_at);
`;

export interface SqliteLogPlacesOptions {
  /** See embedded-database.ts; closed by its owner. */
  readonly database: Database;
  readonly memoryMs: number;
}

export class SqliteLogPlaces implements LogPlaces {
  readonly #database: Database;

  constructor(private readonly options: SqliteLogPlacesOptions) {
    this.#database = options.database;
    this.#database.run(LOG_PLACES_SCHEMA);
  }

  start(): void {
    // The database is open.
  }

  async note(run: TenantRun, place: LogPlace): Promise<void> {
    this.#attempt(() => {
      this.#database.run("DELETE FROM log_places WHERE expires_at <= ?", [Date.now()]);
      const known = this.#places(run.jobId).get(run.attempt)?.kind ?? "missing";
      if (PLACE_KINDS.indexOf(known) > PLACE_KINDS.indexOf(place.kind)) return;
      this.#database.run(
        "INSERT OR REPLACE INTO log_places (job_id, attempt, place, expires_at) VALUES (?, ?, ?, ?)",
        [
          run.jobId,
          run.attempt,
          JSON.stringify({ ...place, tenant: run.tenant } satisfies PlacedLog),
          Date.now() + this.options.memoryMs,
        ],
      );
    });
  }

  async find(jobId: string): Promise<ReadonlyMap<number, PlacedLog>> {
    return this.#attempt(() => this.#places(jobId));
  }

  async claim(run: TenantRun): Promise<"granted" | "kept"> {
    return this.#attempt(() => {
      const kind = this.#places(run.jobId).get(run.attempt)?.kind ?? "missing";
      return kind === "missing" ? "granted" : "kept";
    });
  }

  async announce(): Promise<void> {
    // No other orchestrator asks for it.
  }

  async withdraw(): Promise<void> {
    // No other orchestrator asks for it.
  }

  async addressOf(): Promise<undefined> {
    return undefined;
  }

  async close(): Promise<void> {
    // Closed by its owner.
  }

  #places(jobId: string): ReadonlyMap<number, PlacedLog> {
    const rows = this.#database
      .query<{ attempt: number; place: string }, [string, number]>(
        "SELECT attempt, place FROM log_places WHERE job_id = ? AND expires_at > ?",
      )
      .all(jobId, Date.now());
    return new Map(rows.map(({ attempt, place }) => [attempt, JSON.parse(place) as PlacedLog]));
  }

  #attempt<T>(transaction: () => T): T {
    try {
      return this.#database.transaction(transaction)();
    } catch (cause) {
      throw new RecordsUnavailable("a transaction of the embedded database failed", { cause });
    }
  }
}

/** Of all attempts. */
export function forgetLogPlaces(database: Database, jobId: string): void {
  database.run("DELETE FROM log_places WHERE job_id = ?", [jobId]);
}
