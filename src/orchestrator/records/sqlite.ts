/** Job records in the embedded SQLite file. */
import type { Database } from "bun:sqlite";
import type { JobEvent, JobResult, KnownImage } from "../../shared/job.ts";
import { finalState } from "../../shared/job.ts";
import type { JournalStep } from "../../shared/log-journal.ts";
import { differingNames, type Fingerprints, fingerprintsOf, newSalt } from "./fingerprints.ts";
import { type Batch, type BatchLimits, type ListedJob, pageOf, sizeOf } from "./job-page.ts";
import {
  type Admission,
  type AdmissionRequest,
  type Ending,
  type Finish,
  type FinishOptions,
  type JobIdentity,
  type JobListing,
  type JobPage,
  type JobRecord,
  type JobRecords,
  type JobSummary,
  PUBLISHER_TTL_MS,
  type PublicJob,
  RecordsUnavailable,
  type RetryBasis,
  type RetrySource,
  type SupersedeGroup,
  supersedeName,
  type UnnumberedEvent,
} from "./job-records.ts";
import {
  activeMemoryMs,
  IMAGE_MEMORY_MS,
  MAX_EVENTS,
  MAX_IMAGES,
  MAX_IMAGES_RETURNED,
  WAITING_MEMORY_MS,
} from "./record-limits.ts";
import { forgetLogPlaces, LOG_PLACES_SCHEMA } from "./sqlite-log-places.ts";

const SCHEMA = `
  CREATE TABLE IF NOT EXISTS job_records (
    job_id TEXT PRIMARY KEY,
    job TEXT,
    accepted_at INTEGER,
    queued INTEGER NOT NULL DEFAULT 0,
    seq INTEGER NOT NULL DEFAULT 0,
    reply_to TEXT NOT NULL DEFAULT '[]',
    result TEXT,
    published INTEGER NOT NULL DEFAULT 0,
    expires_at INTEGER NOT NULL
  );
  CREATE INDEX IF NOT EXISTS job_records_by_end ON job_records (expires_at);
  CREATE TABLE IF NOT EXISTS job_events (
    job_id TEXT NOT NULL REFERENCES job_records (job_id) ON DELETE CASCADE,
    seq INTEGER NOT NULL,
    event TEXT NOT NULL,
    PRIMARY KEY (job_id, seq)
  );
  -- Of their results, without the logs: reading those for a list would take too long.
  CREATE TABLE IF NOT EXISTS job_summaries (
    job_id TEXT PRIMARY KEY REFERENCES job_records (job_id) ON DELETE CASCADE,
    summary TEXT NOT NULL
  );
  CREATE TABLE IF NOT EXISTS superseding (
    place INTEGER PRIMARY KEY AUTOINCREMENT,
    supersede_key TEXT NOT NULL,
    job_id TEXT NOT NULL REFERENCES job_records (job_id) ON DELETE CASCADE,
    UNIQUE (supersede_key, job_id)
  );
  CREATE TABLE IF NOT EXISTS known_images (
    place INTEGER PRIMARY KEY AUTOINCREMENT,
    repository TEXT NOT NULL,
    inputs TEXT NOT NULL,
    digest TEXT NOT NULL,
    expires_at INTEGER NOT NULL,
    UNIQUE (repository, inputs, digest)
  );
`;

const LATER_COLUMNS = {
  correlation_id: "TEXT",
  publisher: "TEXT",
  publisher_until: "INTEGER NOT NULL DEFAULT 0",
  salt: "TEXT",
  fingerprints: "TEXT",
  retry_basis: "TEXT",
  steps: "TEXT",
  changed_at: "INTEGER",
};

/** The order of the list of jobs. */
const LIST_INDEX = `
  CREATE INDEX IF NOT EXISTS job_records_by_time ON job_records (coalesce(accepted_at, changed_at, 0), job_id)
`;

/** A version without summaries may have stored these results. */
const ADD_MISSING_SUMMARIES = `
  INSERT INTO job_summaries (job_id, summary)
  SELECT job_id, json_remove(result, '$.logs') FROM job_records
  WHERE job_id NOT IN (SELECT job_id FROM job_summaries) AND result IS NOT NULL
`;

interface RecordRow {
  readonly job: string | null;
  readonly accepted_at: number | null;
  readonly queued: number;
  readonly seq: number;
  readonly reply_to: string;
  readonly correlation_id: string | null;
  readonly result: string | null;
  readonly published: number;
  readonly publisher: string | null;
  readonly publisher_until: number;
  readonly salt: string | null;
  readonly fingerprints: string | null;
  readonly retry_basis: string | null;
  readonly steps: string | null;
  /** Of its state; missing in a record of a version that did not store it. */
  readonly changed_at: number | null;
}

export interface SqliteJobRecordsOptions {
  /** See embedded-database.ts; closed by its owner. */
  readonly database: Database;
  /** How long a record is stored after its job's end. */
  readonly jobMemoryMs: number;
}

export class SqliteJobRecords implements JobRecords {
  readonly #database: Database;
  #started = false;

  constructor(private readonly options: SqliteJobRecordsOptions) {
    this.#database = options.database;
    this.#database.run("PRAGMA foreign_keys = ON");
    this.#database.run(SCHEMA);
    this.#database.run(LOG_PLACES_SCHEMA);
    addMissingColumns(this.#database);
    this.#database.run(LIST_INDEX);
    this.#database.run(ADD_MISSING_SUMMARIES);
  }

  start(): void {
    this.#started = true;
  }

  get isReady(): boolean {
    return this.#started;
  }

  async admit(request: AdmissionRequest): Promise<Admission> {
    const { jobId, job, identity, retryBasis, acceptedAt, replyTo, correlationId } = request;
    return this.#atomically(() => {
      // An ended job whose record has expired had the same id: its logs are not those of this job.
      if (!this.#row(jobId)) forgetLogPlaces(this.#database, jobId);
      const known = this.#openRow(jobId);
      const fields = differingFrom(known, identity);
      if (fields.length > 0) return { kind: "conflict", fields };
      if (known.result !== null) return { kind: "finished", result: JSON.parse(known.result) as JobResult };
      if (known.job === null) this.#storeIdentity(jobId, identity);
      const firstAcceptedAt = known.accepted_at ?? acceptedAt.getTime();
      this.#database.run(
        `UPDATE job_records SET job = ?, accepted_at = ?, reply_to = ?, correlation_id = ?, retry_basis = ?,
           changed_at = ? WHERE job_id = ?`,
        [
          known.job ?? JSON.stringify(job),
          firstAcceptedAt,
          JSON.stringify(withReplyTo(known, replyTo)),
          known.job === null ? (correlationId ?? null) : known.correlation_id,
          known.job === null && retryBasis ? JSON.stringify(retryBasis) : known.retry_basis,
          known.changed_at ?? Date.now(),
          jobId,
        ],
      );
      if (!known.queued) return { kind: "new", acceptedAt: new Date(firstAcceptedAt) };
      return { kind: "active", unchangedForMs: unchangedForMs(known) };
    });
  }

  async differingFields(jobId: string, identity: JobIdentity): Promise<readonly string[] | undefined> {
    return this.#atomically(() => {
      const known = this.#row(jobId);
      return known ? differingFrom(known, identity) : undefined;
    });
  }

  async queued(jobId: string): Promise<boolean> {
    return this.#atomically(() => {
      const { result } = this.#openRow(jobId);
      this.#database.run("UPDATE job_records SET queued = 1 WHERE job_id = ?", [jobId]);
      return result !== null;
    });
  }

  async messageLost(jobId: string, sinceMs: number): Promise<boolean> {
    return this.#atomically(() => {
      const known = this.#openRow(jobId);
      if (!known.queued || known.result !== null || unchangedForMs(known) < sinceMs) return false;
      this.#database.run("UPDATE job_records SET queued = 0, changed_at = ? WHERE job_id = ?", [
        Date.now(),
        jobId,
      ]);
      return true;
    });
  }

  async append(event: UnnumberedEvent): Promise<JobEvent> {
    return this.#atomically(() => {
      const { job_id, tenant, attempt, state, at, ...details } = event;
      const known = this.#openRow(job_id);
      // A job without a record has lost it. QUEUED precedes the offer, which may never be confirmed; later states follow it.
      const hasLostRecord = known.job === null && known.result === null;
      const queued = known.queued || (hasLostRecord && state !== "QUEUED") ? 1 : 0;
      const seq = known.seq + 1;
      const numbered: JobEvent = { job_id, tenant, attempt, seq, state, at, ...details };
      this.#database.run("UPDATE job_records SET seq = ?, queued = ?, changed_at = ? WHERE job_id = ?", [
        seq,
        queued,
        Date.now(),
        job_id,
      ]);
      this.#database.run("INSERT INTO job_events (job_id, seq, event) VALUES (?, ?, ?)", [
        job_id,
        seq,
        JSON.stringify(numbered),
      ]);
      this.#database.run("DELETE FROM job_events WHERE job_id = ? AND seq <= ?", [job_id, seq - MAX_EVENTS]);
      return numbered;
    });
  }

  async finish(
    result: JobResult,
    publisher: string,
    { isWaiting = false, steps }: FinishOptions = {},
  ): Promise<Finish> {
    const memoryMs = isWaiting ? WAITING_MEMORY_MS : this.options.jobMemoryMs;
    return this.#atomically(() => {
      const known = this.#openRow(result.job_id);
      if (known.result === null) {
        this.#database.run("UPDATE job_records SET result = ?, steps = ?, expires_at = ? WHERE job_id = ?", [
          JSON.stringify(result),
          steps ? JSON.stringify(steps) : null,
          Date.now() + memoryMs,
          result.job_id,
        ]);
        const { logs: _, ...summary } = result;
        this.#database.run("INSERT INTO job_summaries (job_id, summary) VALUES (?, ?)", [
          result.job_id,
          JSON.stringify(summary),
        ]);
      }
      if (known.published) return { kind: "published" };
      if (known.publisher !== publisher && Date.now() < known.publisher_until) return { kind: "publishing" };
      this.#database.run("UPDATE job_records SET publisher = ?, publisher_until = ? WHERE job_id = ?", [
        publisher,
        Date.now() + PUBLISHER_TTL_MS,
        result.job_id,
      ]);
      return {
        kind: "publish",
        result: known.result === null ? result : (JSON.parse(known.result) as JobResult),
        replyTo: withReplyTo(known),
        correlationId: known.correlation_id ?? undefined,
      };
    });
  }

  async publishing(jobId: string, publisher: string): Promise<void> {
    this.#setPublisherUntil(jobId, publisher, Date.now() + PUBLISHER_TTL_MS);
  }

  async unpublished(jobId: string, publisher: string): Promise<void> {
    this.#setPublisherUntil(jobId, publisher, 0);
  }

  async settled(jobId: string): Promise<void> {
    this.#atomically(() => {
      this.#database.run(
        "UPDATE job_records SET expires_at = min(expires_at, ?) WHERE job_id = ? AND result IS NOT NULL",
        [Date.now() + this.options.jobMemoryMs, jobId],
      );
    });
  }

  async result(jobId: string): Promise<JobResult | undefined> {
    return this.#atomically(() => {
      const text = this.#row(jobId)?.result;
      return text ? (JSON.parse(text) as JobResult) : undefined;
    });
  }

  async ending(jobId: string): Promise<Ending> {
    return this.#atomically(() => {
      const row = this.#row(jobId);
      if (!row) return { kind: "unknown" };
      if (row.result === null) return { kind: "active" };
      return { kind: "ended", attempt: (JSON.parse(row.result) as JobResult).attempt };
    });
  }

  async supersede(group: SupersedeGroup, jobId: string): Promise<readonly string[]> {
    const name = supersedeName(group);
    return this.#atomically(() => {
      this.#openRow(jobId);
      this.#database.run("INSERT OR IGNORE INTO superseding (supersede_key, job_id) VALUES (?, ?)", [
        name,
        jobId,
      ]);
      return this.#database
        .query<{ job_id: string }, [string, string]>(
          `SELECT earlier.job_id FROM superseding AS earlier
           JOIN superseding AS own ON own.supersede_key = earlier.supersede_key AND earlier.place < own.place
           WHERE own.supersede_key = ? AND own.job_id = ? ORDER BY earlier.place`,
        )
        .all(name, jobId)
        .map(({ job_id }) => job_id);
    });
  }

  async superseded(group: SupersedeGroup, jobId: string): Promise<void> {
    this.#atomically(() => {
      this.#database.run("DELETE FROM superseding WHERE supersede_key = ? AND job_id = ?", [
        supersedeName(group),
        jobId,
      ]);
    });
  }

  async rememberImage(repository: string, { inputs, digest }: KnownImage): Promise<void> {
    this.#atomically(() => {
      this.#database.run("DELETE FROM known_images WHERE expires_at <= ?", [Date.now()]);
      this.#database.run(
        "INSERT OR REPLACE INTO known_images (repository, inputs, digest, expires_at) VALUES (?, ?, ?, ?)",
        [repository, inputs, digest, Date.now() + IMAGE_MEMORY_MS],
      );
      this.#database.run(
        `DELETE FROM known_images WHERE repository = ?1 AND place NOT IN
           (SELECT place FROM known_images WHERE repository = ?1 ORDER BY place DESC LIMIT ?2)`,
        [repository, MAX_IMAGES],
      );
    });
  }

  async knownImages(repository: string): Promise<readonly KnownImage[]> {
    return this.#atomically(() =>
      this.#database
        .query<KnownImage, [string, number]>(
          "SELECT inputs, digest FROM known_images WHERE repository = ? ORDER BY place DESC LIMIT ?",
        )
        .all(repository, MAX_IMAGES_RETURNED),
    );
  }

  async published(jobId: string): Promise<void> {
    this.#atomically(() => {
      this.#database.run("UPDATE job_records SET published = 1 WHERE job_id = ? AND result IS NOT NULL", [
        jobId,
      ]);
    });
  }

  list(listing: JobListing): Promise<JobPage> {
    return pageOf(listing, async (after, limits) =>
      this.#atomically(() => {
        const rows = this.#database
          .query<ListRow, [number, string]>(
            `SELECT job_id, job, coalesce(accepted_at, changed_at, 0) AS at,
               (SELECT summary FROM job_summaries WHERE job_summaries.job_id = job_records.job_id) AS summary,
               (SELECT event FROM job_events WHERE job_events.job_id = job_records.job_id ORDER BY seq DESC LIMIT 1)
                 AS event
             FROM job_records WHERE at <= ?1 AND (at, job_id) < (?1, ?2) ORDER BY at DESC, job_id DESC`,
          )
          .iterate(after?.acceptedAtMs ?? Number.MAX_SAFE_INTEGER, after?.jobId ?? "");
        return readBatch(rows, limits);
      }),
    );
  }

  async find(jobId: string): Promise<JobRecord | undefined> {
    return this.#atomically(() => {
      const row = this.#row(jobId);
      const events = this.#database
        .query<{ event: string }, [string]>("SELECT event FROM job_events WHERE job_id = ? ORDER BY seq")
        .all(jobId)
        .map(({ event }) => JSON.parse(event) as JobEvent);
      const result = row?.result ? (JSON.parse(row.result) as JobResult) : undefined;
      if (!row || (row.job === null && !result && events.length === 0)) return undefined;
      return {
        jobId,
        job: row.job === null ? {} : (JSON.parse(row.job) as PublicJob),
        acceptedAt: new Date(row.accepted_at ?? result?.accepted_at ?? events[0]?.at ?? 0),
        state: result ? finalState(result) : (events.at(-1)?.state ?? "QUEUED"),
        events,
        result,
        steps: row.steps === null ? undefined : (JSON.parse(row.steps) as JournalStep[]),
      };
    });
  }

  async retrySource(jobId: string): Promise<RetrySource | undefined> {
    return this.#atomically(() => {
      const row = this.#row(jobId);
      if (!row) return undefined;
      return {
        basis: row.retry_basis === null ? undefined : (JSON.parse(row.retry_basis) as RetryBasis),
        replyTo: withReplyTo(row),
        correlationId: row.correlation_id ?? undefined,
      };
    });
  }

  async close(): Promise<void> {
    this.#started = false;
  }

  #storeIdentity(jobId: string, identity: JobIdentity): void {
    const salt = newSalt();
    this.#database.run("UPDATE job_records SET salt = ?, fingerprints = ? WHERE job_id = ?", [
      salt,
      JSON.stringify(fingerprintsOf(identity, salt)),
      jobId,
    ]);
  }

  #setPublisherUntil(jobId: string, publisher: string, untilMs: number): void {
    this.#atomically(() => {
      this.#database.run("UPDATE job_records SET publisher_until = ? WHERE job_id = ? AND publisher = ?", [
        untilMs,
        jobId,
        publisher,
      ]);
    });
  }

  /** The job's row, created if missing. Extends the expiry of an active job's row. */
  #openRow(jobId: string): RecordRow {
    const expiresAt = Date.now() + activeMemoryMs(this.options.jobMemoryMs);
    this.#database.run(
      `INSERT INTO job_records (job_id, expires_at) VALUES (?1, ?2)
       ON CONFLICT (job_id) DO UPDATE SET expires_at = ?2 WHERE result IS NULL`,
      [jobId, expiresAt],
    );
    const row = this.#row(jobId);
    if (!row) throw new Error(`the record of job ${jobId} disappeared within a transaction`);
    return row;
  }

  #row(jobId: string): RecordRow | null {
    return this.#database.query<RecordRow, [string]>("SELECT * FROM job_records WHERE job_id = ?").get(jobId);
  }

  /** One transaction, in which expired records do not exist. */
  #atomically<T>(decide: () => T): T {
    if (!this.#started) throw new RecordsUnavailable("the job records have not been started, or are closed");
    try {
      return this.#database.transaction(() => {
        this.#database.run("DELETE FROM job_records WHERE expires_at <= ?", [Date.now()]);
        return decide();
      })();
    } catch (cause) {
      throw new RecordsUnavailable("a transaction of the embedded database failed", { cause });
    }
  }
}

interface ListRow {
  readonly job_id: string;
  readonly job: string | null;
  readonly at: number;
  readonly summary: string | null;
  readonly event: string | null;
}

function readBatch(rows: Iterable<ListRow>, limits: BatchLimits): Batch {
  const jobs: ListedJob[] = [];
  let bytes = 0;
  for (const row of rows) {
    if (jobs.length === limits.count || bytes >= limits.bytes) return { jobs, isLast: false };
    const listed = readListRow(row);
    jobs.push(listed);
    bytes += listed.bytes;
  }
  return { jobs, isLast: true };
}

function readListRow({ job_id: jobId, job, at, summary, event }: ListRow): ListedJob {
  const place = { acceptedAtMs: at, jobId };
  const bytes = sizeOf(job, summary, event);
  if (job === null && summary === null && event === null) return { place, summary: undefined, bytes };
  const result = summary === null ? undefined : (JSON.parse(summary) as NonNullable<JobSummary["result"]>);
  const lastState = event === null ? "QUEUED" : (JSON.parse(event) as JobEvent).state;
  return {
    place,
    bytes,
    summary: {
      jobId,
      job: job === null ? {} : (JSON.parse(job) as PublicJob),
      acceptedAt: new Date(at),
      state: result ? finalState(result) : lastState,
      result,
    },
  };
}

/** The file may have been created by a version with fewer columns. */
function addMissingColumns(database: Database): void {
  const present = database
    .query<{ name: string }, []>("SELECT name FROM pragma_table_info('job_records')")
    .all();
  for (const [name, type] of Object.entries(LATER_COLUMNS)) {
    if (present.some((column) => column.name === name)) continue;
    database.run(`ALTER TABLE job_records ADD COLUMN ${name} ${type}`);
  }
}

/** None for a record without fingerprints. */
function differingFrom({ salt, fingerprints }: RecordRow, identity: JobIdentity): readonly string[] {
  if (salt === null || fingerprints === null) return [];
  return differingNames(JSON.parse(fingerprints) as Fingerprints, fingerprintsOf(identity, salt));
}

function unchangedForMs({ changed_at }: RecordRow): number {
  return changed_at === null ? 0 : Date.now() - changed_at;
}

function withReplyTo(row: RecordRow, replyTo?: string): string[] {
  const known = JSON.parse(row.reply_to) as string[];
  return replyTo && !known.includes(replyTo) ? [...known, replyTo] : known;
}
