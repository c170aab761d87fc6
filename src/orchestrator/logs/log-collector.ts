/**
 * Log Collector: copies the log of each ended attempt from its worker to the log store, and then acknowledges the run,
 * so that the worker deletes it. The orchestrator that has handled the attempt begins at once. If it dies before it has
 * acknowledged the run, the worker continues to report the run to all orchestrators, and one of them takes over.
 *
 * No result waits for this. A log that cannot be kept is recorded as missing, with the reason.
 */
import { type FileHandle, open, rm } from "node:fs/promises";
import { status } from "@grpc/grpc-js";
import { sleep } from "../../shared/abort.ts";
import { Backoff } from "../../shared/backoff.ts";
import { isFinalEntry } from "../../shared/log-journal.ts";
import type { Logger } from "../../shared/logging.ts";
import { hasStatus, isTransportFault, RpcError } from "../../shared/rpc/status.ts";
import { type JobRecords, RecordsUnavailable } from "../records/job-records.ts";
import { COPY_TTL_MS, type LogPlace, type LogPlaces, type TenantRun } from "../records/log-places.ts";
import type { WorkerClient } from "../workers/worker-client.ts";
import { lastEntryOf } from "./journal-blocks.ts";
import type { LogFolder } from "./log-folder.ts";
import { type LogStore, LogStoreUnavailable } from "./log-store.ts";
import { WorkerConnections } from "./worker-connections.ts";

/** A run that has ended, on this incarnation of a worker. */
export interface RunAtWorker {
  readonly jobId: string;
  readonly attempt: number;
  readonly workerId: string;
  readonly incarnation: string;
  readonly address: string;
}

export interface EndedRun extends RunAtWorker {
  readonly tenant: string;
}

/** What Result Handler and Health Checker need of it. */
export interface LogCollection {
  /** The attempt is handled: its log is copied, and its run acknowledged, some time later. */
  keep(run: EndedRun): void;
  /** A worker still reports this ended run, although its attempt is handled. Called again with each report. */
  adopt(run: RunAtWorker): void;
  /** The attempt's worker was lost, and its log with it, unless the worker returns. */
  lost(run: EndedRun, reason: string): void;
}

export interface LogCollectorParts {
  readonly store: LogStore;
  readonly folder: LogFolder;
  /** Of a log that `store` keeps. */
  readonly place: LogPlace;
  readonly places: LogPlaces;
  readonly records: Pick<JobRecords, "find">;
  readonly logger: Logger;
  connectDedicated(address: string): WorkerClient;
  /** How long another orchestrator may leave a run unacknowledged before this one takes over. Default 3 s. */
  readonly adoptAfterMs?: number;
  /** How long a copy is tried that gets no further, because connections fail or the store is unavailable. Default 60 s. */
  readonly giveUpAfterMs?: number;
}

interface Pending {
  readonly run: EndedRun;
  readonly sinceMs: number;
}

interface Reported {
  readonly firstMs: number;
  lastMs: number;
}

/** Also a bound on open files. */
const MAX_COPIES = 16;
const ADOPT_AFTER_MS = 3000;
/** Copies that take longer are announced, so that no other orchestrator takes them over. */
const CLAIM_INTERVAL_MS = 1000;
const RETRY_DELAY = { initialMs: 200, maxMs: 5000 };
const GIVE_UP_AFTER_MS = 60_000;
/** A worker reports its runs more often. */
const FORGET_REPORTED_MS = 60_000;

export class LogCollector implements LogCollection {
  readonly #parts: LogCollectorParts;
  /** By job and attempt. */
  readonly #pending = new Map<string, Pending>();
  readonly #waiting: Pending[] = [];
  readonly #reported = new Map<string, Reported>();
  readonly #stopping = new AbortController();
  readonly #connections: WorkerConnections;
  #copies = 0;
  #idle: (() => void)[] = [];
  #timer: NodeJS.Timeout | undefined;

  constructor(parts: LogCollectorParts) {
    this.#parts = parts;
    this.#connections = new WorkerConnections(parts.connectDedicated);
  }

  start(): void {
    this.#timer = setInterval(() => this.#claimSlowOnes(), CLAIM_INTERVAL_MS);
  }

  /** Runs that are not acknowledged are left to other orchestrators, or to the next start. */
  stop(): void {
    clearInterval(this.#timer);
    this.#stopping.abort(new Error("the orchestrator stops"));
    this.#connections.close();
  }

  /** Resolves when no log is to be copied. */
  async idle(): Promise<void> {
    if (this.#pending.size > 0) await new Promise<void>((resolve) => this.#idle.push(resolve));
  }

  keep(run: EndedRun): void {
    const key = keyOf(run);
    if (this.#pending.has(key)) return;
    const pending = { run, sinceMs: performance.now() };
    this.#pending.set(key, pending);
    this.#waiting.push(pending);
    this.#next();
  }

  adopt(run: RunAtWorker): void {
    const key = keyOf(run);
    if (this.#pending.has(key) || !this.#isLeft(key)) return;
    this.#reported.delete(key);
    this.#adopt(run).catch((error: unknown) => {
      // The next ping reports the run again.
      if (error instanceof RecordsUnavailable) return;
      this.#parts.logger.error({ err: error, job_id: run.jobId }, "failed to take over a log");
    });
  }

  lost(run: EndedRun, reason: string): void {
    this.#noteOnce(run, { kind: "missing", reason }).catch((error: unknown) => {
      const { jobId: job_id, attempt } = run;
      this.#parts.logger.warn({ err: error, job_id, attempt }, "failed to record that a log is missing");
    });
  }

  /** The orchestrator that has handled the attempt had time to acknowledge its run. */
  #isLeft(key: string): boolean {
    const { adoptAfterMs = ADOPT_AFTER_MS } = this.#parts;
    const nowMs = performance.now();
    for (const [other, { lastMs }] of this.#reported) {
      if (nowMs - lastMs > FORGET_REPORTED_MS) this.#reported.delete(other);
    }
    const reported = this.#reported.get(key) ?? { firstMs: nowMs, lastMs: nowMs };
    reported.lastMs = nowMs;
    this.#reported.set(key, reported);
    return nowMs - reported.firstMs >= adoptAfterMs;
  }

  async #adopt(run: RunAtWorker): Promise<void> {
    const { records, places, folder, logger } = this.#parts;
    const { jobId, attempt, workerId: worker_id } = run;
    const record = await records.find(jobId);
    const tenant = record?.result?.tenant ?? record?.events.at(-1)?.tenant;
    // Without a record of the job, no reader could find its log.
    if (typeof tenant !== "string") return this.#acknowledge(run);
    const claim = await places.claim({ jobId, attempt, tenant }, folder.id);
    if (claim === "taken") return;
    if (claim === "kept") return this.#acknowledge(run);
    logger.info({ job_id: jobId, attempt, worker_id }, "copying a log that another orchestrator has left");
    this.keep({ ...run, tenant });
  }

  #next(): void {
    while (this.#copies < MAX_COPIES) {
      const pending = this.#waiting.shift();
      if (!pending) return;
      this.#copies += 1;
      void this.#keepOne(pending).finally(() => {
        this.#copies -= 1;
        this.#pending.delete(keyOf(pending.run));
        if (this.#pending.size === 0) for (const resolve of this.#idle.splice(0)) resolve();
        this.#next();
      });
    }
  }

  /** Never rejects. */
  async #keepOne({ run }: Pending): Promise<void> {
    const { logger, place } = this.#parts;
    const { jobId: job_id, attempt, workerId: worker_id } = run;
    try {
      const missing = await this.#copy(run);
      if (missing !== undefined)
        logger.error({ job_id, attempt, worker_id, reason: missing }, "log of an attempt is not kept");
      await this.#note(run, missing === undefined ? place : { kind: "missing", reason: missing });
      await this.#acknowledge(run);
    } catch (error) {
      if (this.#stopping.signal.aborted) return;
      logger.error({ err: error, job_id, attempt }, "failed to keep a log");
    }
  }

  /** Undefined: the log is kept; else why it is not. @throws the reason of the stop. */
  async #copy(run: EndedRun): Promise<string | undefined> {
    const { signal } = this.#stopping;
    const { store, folder, giveUpAfterMs = GIVE_UP_AFTER_MS } = this.#parts;
    const path = folder.unfinished();
    const delay = new Backoff(RETRY_DELAY);
    let giveUpAtMs = performance.now() + giveUpAfterMs;
    let lastSeq = 0;
    const journal: Journal = { path, lastSeq: 0, isComplete: false };
    try {
      for (;;) {
        try {
          if (!journal.isComplete) await this.#download(run, journal, signal);
          await store.put(run, path, signal);
          return undefined;
        } catch (error) {
          if (signal.aborted) throw signal.reason;
          const mayPass = isTransportFault(error) || error instanceof LogStoreUnavailable;
          if (!mayPass) return this.#reasonOf(error, run);
          if (journal.lastSeq > lastSeq) {
            lastSeq = journal.lastSeq;
            giveUpAtMs = performance.now() + giveUpAfterMs;
            delay.reset();
          } else if (performance.now() > giveUpAtMs) return this.#reasonOf(error, run);
          await sleep(delay.nextMs(), signal);
        }
      }
    } finally {
      await rm(path, { force: true });
    }
  }

  /** Appends what the file lacks. */
  async #download(run: EndedRun, journal: Journal, signal: AbortSignal): Promise<void> {
    const { lastSeq: afterSeq, path } = journal;
    const connection = this.#connections.enter(run.address);
    let file: FileHandle | undefined;
    try {
      file = await open(path, "a", 0o600);
      const options = { afterSeq, pastOnly: false };
      for await (const block of connection.client.readLog(run, run.incarnation, options, signal)) {
        const bytes = Buffer.from(block.buffer, block.byteOffset, block.byteLength);
        await file.appendFile(bytes);
        const last = lastEntryOf(bytes);
        journal.lastSeq = last.seq;
        journal.isComplete = isFinalEntry(last);
      }
      if (!journal.isComplete) throw new RpcError(status.UNAVAILABLE, "the stream ended early");
    } catch (error) {
      if (isTransportFault(error)) connection.isBroken = true;
      throw error;
    } finally {
      await file?.close();
      connection.leave();
    }
  }

  #reasonOf(error: unknown, { workerId }: EndedRun): string {
    const { code, message } = error as NodeJS.ErrnoException;
    if (code === "ENOSPC" || code === "EDQUOT")
      return `the disk of BLACKTREE_LOG_DIR was full on the orchestrator that copied the log (${code})`;
    if (hasStatus(error, status.UNIMPLEMENTED))
      return `worker ${workerId} runs a version that keeps no whole logs`;
    if (hasStatus(error, status.FAILED_PRECONDITION)) return `worker ${workerId} no longer has the log`;
    if (error instanceof RpcError) return `worker ${workerId} could not be read: ${message}`;
    return `the log could not be stored: ${message}`;
  }

  /** Until the records answer: without this entry, other orchestrators do not find the log. */
  async #note(run: EndedRun, place: LogPlace): Promise<void> {
    const delay = new Backoff(RETRY_DELAY);
    for (;;) {
      try {
        return await this.#noteOnce(run, place);
      } catch (error) {
        if (!(error instanceof RecordsUnavailable)) throw error;
        await sleep(delay.nextMs(), this.#stopping.signal);
      }
    }
  }

  #noteOnce({ tenant, jobId, attempt }: TenantRun, place: LogPlace): Promise<void> {
    return this.#parts.places.note({ tenant, jobId, attempt }, place);
  }

  /** If it fails, the worker reports the run again, and an orchestrator acknowledges it then. */
  async #acknowledge(run: RunAtWorker): Promise<void> {
    const connection = this.#connections.enter(run.address);
    try {
      await connection.client.acknowledge(run, run.incarnation);
    } catch (error) {
      if (isTransportFault(error)) connection.isBroken = true;
      const { jobId: job_id, attempt, workerId: worker_id } = run;
      this.#parts.logger.warn({ err: error, job_id, attempt, worker_id }, "failed to acknowledge a run");
    } finally {
      connection.leave();
    }
  }

  #claimSlowOnes(): void {
    const { places, folder, logger } = this.#parts;
    const nowMs = performance.now();
    for (const { run, sinceMs } of this.#pending.values()) {
      if (nowMs - sinceMs < CLAIM_INTERVAL_MS) continue;
      places.claim(run, folder.id).catch((error: unknown) => {
        logger.debug({ err: error, job_id: run.jobId }, `failed to extend a claim of ${COPY_TTL_MS} ms`);
      });
    }
  }
}

interface Journal {
  readonly path: string;
  lastSeq: number;
  isComplete: boolean;
}

function keyOf({ jobId, attempt }: RunAtWorker): string {
  return `${jobId} ${attempt}`;
}
