/** The logs of jobs, for the admin API: of one attempt, or followed from attempt to attempt until the job has ended. */
import type { JobState } from "../../shared/job.ts";
import { isFinalEntry, type JournalEntry } from "../../shared/log-journal.ts";
import type { Leases } from "../leases/leases.ts";
import type { JobRecord, JobRecords } from "../records/job-records.ts";
import type { LogPlaces } from "../records/log-places.ts";
import { type AttemptLogs, LogMissing, type ReadOptions } from "./attempt-log.ts";
import { JobProgress, type Progress } from "./job-progress.ts";

/** Where a disconnected reader resumes: after this entry. Attempt 0: at the beginning of the latest attempt. */
export interface LogPosition {
  readonly attempt: number;
  readonly seq: number;
}

export const LOG_START: LogPosition = { attempt: 0, seq: 0 };

/** After all of an attempt whose last entry cannot be read. No log has as many entries. */
const LAST_SEQ = 999_999_999_999_999;

export type Followed =
  | { readonly kind: "entries"; readonly position: LogPosition; readonly entries: readonly JournalEntry[] }
  /** In place of an attempt's log, or of the rest of it: why it cannot be read, and what the result has of its lines. */
  | {
      readonly kind: "replacement";
      readonly position: LogPosition;
      readonly notice: string;
      readonly lines: readonly string[];
    }
  | { readonly kind: "end"; readonly position: LogPosition; readonly state: JobState };

export interface JobLogsParts {
  readonly records: Pick<JobRecords, "find" | "ending">;
  readonly places: Pick<LogPlaces, "find">;
  readonly leases: Pick<Leases, "find">;
  readonly attempts: AttemptLogs;
}

/** A job with logs. */
export interface LoggedJob {
  readonly jobId: string;
  /** It may have expired before the logs. */
  readonly record: JobRecord | undefined;
  /** The result's, once the job has ended; 0 if no attempt has begun. */
  readonly latestAttempt: number;
}

export class JobLogs {
  readonly #progress: JobProgress;

  constructor(private readonly parts: JobLogsParts) {
    this.#progress = new JobProgress(parts);
  }

  /** Undefined: the job is not known. @throws RecordsUnavailable, LeasesUnavailable */
  async find(jobId: string): Promise<LoggedJob | undefined> {
    const { records, places, leases } = this.parts;
    const [record, placed, claim] = await Promise.all([
      records.find(jobId),
      places.find(jobId),
      leases.find(jobId),
    ]);
    if (!record && placed.size === 0) return undefined;
    const events = record?.events ?? [];
    const latestAttempt =
      record?.result?.attempt ??
      Math.max(claim?.attempt ?? 0, ...placed.keys(), ...events.map(({ attempt }) => attempt));
    return { jobId, record, latestAttempt };
  }

  /** See AttemptLogs.read. */
  read(
    { jobId, record }: LoggedJob,
    attempt: number,
    options: ReadOptions,
    signal: AbortSignal,
  ): AsyncGenerator<readonly JournalEntry[]> {
    const known = { jobId, attempt, events: record?.events ?? [] };
    return this.parts.attempts.read(known, options, signal);
  }

  /**
   * `follow` can come to the end of the job: if its record has expired, only the log of its last attempt has its state.
   * @throws LogMissing, RecordsUnavailable, LeasesUnavailable
   */
  async checkEnd(job: LoggedJob, signal: AbortSignal): Promise<void> {
    if (job.record) return;
    const reading = this.read(job, job.latestAttempt, { afterSeq: 0, pastOnly: true }, signal);
    await reading.next();
    await reading.return(undefined);
  }

  /**
   * Everything after `start` until the job has ended, or `signal` aborts.
   * @throws LogMissing: a log cannot be read now, or the job's record has expired; RecordsUnavailable, LeasesUnavailable
   */
  async *follow(jobId: string, start: LogPosition, signal: AbortSignal): AsyncGenerator<Followed> {
    let position = start.attempt > 0 ? start : await this.#firstPosition(jobId, signal);
    while (!signal.aborted) {
      if (position.attempt > 0) {
        for await (const followed of this.#followAttempt(jobId, position, signal)) {
          position = followed.position;
          yield followed;
        }
      }
      const next = await this.#afterAttempt(jobId, position.attempt, signal);
      if (next === "ended") {
        yield { kind: "end", position, state: await this.#finalState(jobId, position, signal) };
        return;
      }
      position = { attempt: next, seq: 0 };
    }
  }

  /** Attempt 0: the job has ended without an attempt. */
  async #firstPosition(jobId: string, signal: AbortSignal): Promise<LogPosition> {
    let attempt = (await this.find(jobId))?.latestAttempt ?? 0;
    while (attempt === 0 && !signal.aborted) {
      const { ending, claimed = 0 } = await this.#progress.next(jobId);
      attempt = ending.kind === "ended" ? ending.attempt : claimed;
      if (ending.kind !== "active") break;
    }
    return { attempt, seq: 0 };
  }

  /** Up to the attempt's final state. It may not have begun. */
  async *#followAttempt(
    jobId: string,
    start: LogPosition,
    signal: AbortSignal,
  ): AsyncGenerator<Exclude<Followed, { kind: "end" }>> {
    let position = start;
    while (!signal.aborted && position.seq < LAST_SEQ) {
      try {
        for await (const entries of this.#entriesAfter(jobId, position, signal)) {
          position = { ...position, seq: entries.at(-1)?.seq ?? position.seq };
          yield { kind: "entries", position, entries };
        }
        return;
      } catch (error) {
        if (!(error instanceof LogMissing)) throw error;
        if (isOver(position.attempt, await this.#progress.now(jobId))) {
          if (error.isTemporary) throw error;
          yield await this.#replacement(jobId, position, error);
          return;
        }
      }
      await this.#progress.next(jobId);
    }
  }

  async *#entriesAfter(
    jobId: string,
    { attempt, seq }: LogPosition,
    signal: AbortSignal,
  ): AsyncGenerator<readonly JournalEntry[]> {
    const job = await this.#known(jobId);
    yield* this.read(job, attempt, { afterSeq: seq, pastOnly: false }, signal);
  }

  /** With lines from the result only if nothing else of this attempt was sent. */
  async #replacement(
    jobId: string,
    { attempt, seq }: LogPosition,
    why: LogMissing,
  ): Promise<Extract<Followed, { kind: "replacement" }>> {
    const result = (await this.find(jobId))?.record?.result;
    const lines = seq === 0 && result?.attempt === attempt ? result.logs : [];
    const what = seq === 0 ? `the log of attempt ${attempt}` : `the rest of the log of attempt ${attempt}`;
    const notice = `[${what} is missing: ${why.message}]`;
    return { kind: "replacement", position: { attempt, seq: LAST_SEQ }, notice, lines };
  }

  /** Resolves when the job has ended or has a later attempt. @throws LogMissing */
  async #afterAttempt(jobId: string, attempt: number, signal: AbortSignal): Promise<number | "ended"> {
    let progress = await this.#progress.now(jobId);
    while (!signal.aborted && !isOver(attempt, progress)) progress = await this.#progress.next(jobId);
    const last = await this.#lastAttempt(jobId, progress);
    return last !== undefined && last <= attempt ? "ended" : attempt + 1;
  }

  /** Undefined: the job may have further attempts. */
  async #lastAttempt(jobId: string, { ending }: Progress): Promise<number | undefined> {
    if (ending.kind === "unknown") return (await this.#known(jobId)).latestAttempt;
    return ending.kind === "ended" ? ending.attempt : undefined;
  }

  /** If the job's record has expired, the journal has it. */
  async #finalState(jobId: string, { attempt, seq }: LogPosition, signal: AbortSignal): Promise<JobState> {
    const job = await this.#known(jobId);
    if (job.record) return job.record.state;
    const afterSeq = seq < LAST_SEQ ? seq - 1 : 0;
    for await (const entries of this.read(job, attempt, { afterSeq, pastOnly: true }, signal)) {
      const last = entries.at(-1);
      if (last && isFinalEntry(last) && "state" in last) return last.state;
    }
    throw expired();
  }

  /** @throws LogMissing */
  async #known(jobId: string): Promise<LoggedJob> {
    const job = await this.find(jobId);
    if (!job) throw expired();
    return job;
  }
}

function expired(): LogMissing {
  return new LogMissing("the job's record has expired", false);
}

/** The attempt has no future entries. */
function isOver(attempt: number, { ending, claimed = 0 }: Progress): boolean {
  return ending.kind !== "active" || claimed > attempt;
}
