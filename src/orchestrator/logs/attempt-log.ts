/**
 * Reads the log of one attempt wherever it is: at the worker while the attempt runs and until its log is copied, then
 * in this orchestrator's store, in another orchestrator's, or in a store that all of them share. A reading continues
 * in the next place when the log moves or a connection breaks.
 */
import { status } from "@grpc/grpc-js";
import { sleep } from "../../shared/abort.ts";
import { Backoff } from "../../shared/backoff.ts";
import type { JobEvent, RunRef } from "../../shared/job.ts";
import { isFinalEntry, type JournalEntry } from "../../shared/log-journal.ts";
import { hasStatus, RpcError } from "../../shared/rpc/status.ts";
import type { Leases } from "../leases/leases.ts";
import type { LogPlaces, PlacedLog } from "../records/log-places.ts";
import type { WorkerClient } from "../workers/worker-client.ts";
import { decodeBlock, entriesAfter, wholeEntries } from "./journal-blocks.ts";
import { type LogKey, type LogStore, LogStoreUnavailable } from "./log-store.ts";

/** The log cannot be read, now or ever; the message says why. */
export class LogMissing extends Error {
  override readonly name = "LogMissing";
  constructor(
    message: string,
    /** It exists, but the process that has it does not answer. */
    readonly isTemporary: boolean,
  ) {
    super(message);
  }
}

export interface AttemptLogParts {
  readonly store: LogStore;
  /** The store of all orchestrators (BLACKTREE_LOG_STORE). */
  readonly shared: LogStore | undefined;
  /** Of this orchestrator's log folder. */
  readonly id: string;
  readonly places: LogPlaces;
  readonly leases: Pick<Leases, "find" | "workers">;
  /** A client with a dedicated connection: log readers can be arbitrarily slow. */
  connectDedicated(address: string): WorkerClient;
  readPeer(address: string, key: LogKey, afterSeq: number, signal: AbortSignal): AsyncIterable<Uint8Array>;
}

/** An attempt, with the events of its job, which name its worker. */
export interface KnownAttempt extends RunRef {
  readonly events: readonly JobEvent[];
}

export interface ReadOptions {
  readonly afterSeq: number;
  /** The entries that exist now, although the attempt may go on. */
  readonly pastOnly: boolean;
}

interface RunPlace {
  readonly address: string;
  readonly incarnation: string;
  /** The run has the job's claim: it may not have begun. */
  readonly isClaimed: boolean;
}

type KeptPlace = Exclude<PlacedLog, { readonly kind: "missing" }>;

type Open = (afterSeq: number) => AsyncIterable<Uint8Array>;

const RETRY_DELAY = { initialMs: 50, maxMs: 1000 };
/** After a failure, without an entry since. A try to connect takes up to 3 s. */
const GIVE_UP_AFTER_MS = 5000;

export class AttemptLogs {
  constructor(private readonly parts: AttemptLogParts) {}

  /**
   * The entries after `afterSeq` in batches, up to the attempt's final state, or the last present one with `pastOnly`.
   * @throws LogMissing, RecordsUnavailable, LeasesUnavailable
   */
  async *read(
    attempt: KnownAttempt,
    { afterSeq, pastOnly }: ReadOptions,
    signal: AbortSignal,
  ): AsyncGenerator<readonly JournalEntry[]> {
    const delay = new Backoff(RETRY_DELAY);
    let lastSeq = afterSeq;
    let failingSinceMs: number | undefined;
    while (!signal.aborted) {
      let failure: Error | undefined;
      let hasRead = false;
      try {
        const open = await this.#find(attempt, pastOnly, signal);
        for await (const block of entriesAfter(wholeEntries(open(lastSeq)), lastSeq)) {
          const entries = decodeBlock(block);
          const last = entries.at(-1);
          if (last === undefined) continue;
          lastSeq = last.seq;
          failingSinceMs = undefined;
          delay.reset();
          hasRead = true;
          yield entries;
          if (isFinalEntry(last)) return;
        }
        // Nothing follows the final state of an attempt, at which `afterSeq` may be.
        if (pastOnly || !hasRead) return;
      } catch (error) {
        if (signal.aborted) return;
        if (!(error instanceof RpcError || error instanceof LogStoreUnavailable)) throw error;
        failure = error;
      }
      if (signal.aborted) return;
      const nowMs = performance.now();
      failingSinceMs ??= nowMs;
      if (nowMs - failingSinceMs > GIVE_UP_AFTER_MS) throw unreadable(failure);
      await sleep(delay.nextMs(), signal).catch(() => undefined);
    }
  }

  /** Of this orchestrator's own store, for other orchestrators. Undefined if it is not there. */
  async readOwn(
    key: LogKey,
    afterSeq: number,
    signal: AbortSignal,
  ): Promise<AsyncIterable<Buffer> | undefined> {
    const chunks = await this.parts.store.read(key, signal);
    return chunks && entriesAfter(wholeEntries(chunks), afterSeq);
  }

  /** @throws LogMissing */
  async #find(attempt: KnownAttempt, pastOnly: boolean, signal: AbortSignal): Promise<Open> {
    const place = await this.#placeOf(attempt);
    const claimed = await this.#claimedRun(attempt);
    // Of a run that has the claim, the worker has the log; a place may be that of an earlier job with the same id.
    if (isKept(place) && !claimed) return this.#placed(attempt, place, signal);
    const run = claimed ?? (await this.#releasedRun(attempt));
    const why = place?.kind === "missing" ? place.reason : `no log of attempt ${attempt.attempt} is kept`;
    if (!run) throw new LogMissing(why, false);
    return (afterSeq) => this.#fromWorker(attempt, run, { afterSeq, pastOnly }, why, signal);
  }

  async #placeOf({ jobId, attempt }: RunRef): Promise<PlacedLog | undefined> {
    return (await this.parts.places.find(jobId)).get(attempt);
  }

  /** @throws LogMissing when the store does not answer */
  async #stored(
    store: LogStore,
    key: LogKey,
    signal: AbortSignal,
  ): Promise<AsyncIterable<Uint8Array> | undefined> {
    try {
      return await store.read(key, signal);
    } catch (error) {
      if (!(error instanceof LogStoreUnavailable)) throw error;
      throw new LogMissing(`the log cannot be read now: ${error.message}`, true);
    }
  }

  /** @throws LogMissing */
  async #placed({ jobId, attempt }: RunRef, place: KeptPlace, signal: AbortSignal): Promise<Open> {
    const key = { jobId, attempt, tenant: place.tenant };
    const isOwn = place.id === this.parts.id;
    // Another place's log is never here: a file with its name is that of an earlier job with the same id.
    const own = isOwn ? await this.#stored(this.parts.store, key, signal) : undefined;
    if (own) return () => own;
    if (place.kind === "store") return this.#inSharedStore(key, signal);
    if (isOwn) throw removed();
    const address = await this.parts.places.addressOf(place.id);
    if (address !== undefined) return (afterSeq) => this.#fromPeer(address, key, afterSeq, signal);
    throw new LogMissing(
      `the log is in the folder of orchestrator ${place.id}, which does not run; start it, or try again later`,
      true,
    );
  }

  async #inSharedStore(key: LogKey, signal: AbortSignal): Promise<Open> {
    const { shared } = this.parts;
    if (!shared)
      throw new LogMissing(
        "the log is in a bucket: set BLACKTREE_LOG_STORE of this orchestrator as well",
        true,
      );
    const stored = await this.#stored(shared, key, signal);
    if (!stored)
      throw new LogMissing(
        "the log is no longer in the bucket: a lifecycle rule or another program has removed it",
        false,
      );
    return () => stored;
  }

  async *#fromPeer(
    address: string,
    key: LogKey,
    afterSeq: number,
    signal: AbortSignal,
  ): AsyncGenerator<Uint8Array> {
    try {
      yield* this.parts.readPeer(address, key, afterSeq, signal);
    } catch (error) {
      if (!hasStatus(error, status.NOT_FOUND)) throw error;
      throw removed();
    }
  }

  async *#fromWorker(
    attempt: RunRef,
    { address, incarnation, isClaimed }: RunPlace,
    options: ReadOptions,
    why: string,
    signal: AbortSignal,
  ): AsyncGenerator<Uint8Array> {
    const client = this.parts.connectDedicated(address);
    try {
      yield* client.readLog(attempt, incarnation, options, signal);
    } catch (error) {
      if (!hasStatus(error, status.FAILED_PRECONDITION)) throw error;
      // The worker no longer has the log, or has not begun the run.
      const place = await this.#placeOf(attempt);
      if (isKept(place)) yield* (await this.#placed(attempt, place, signal))(options.afterSeq);
      else if (place || !isClaimed || !options.pastOnly) throw new LogMissing(place?.reason ?? why, false);
    } finally {
      client.close();
    }
  }

  async #claimedRun({ jobId, attempt }: RunRef): Promise<RunPlace | undefined> {
    const claim = await this.parts.leases.find(jobId);
    return claim?.attempt === attempt ? { ...claim, isClaimed: true } : undefined;
  }

  /** It has ended, and its worker may still have its log. */
  async #releasedRun({ attempt, events }: KnownAttempt): Promise<RunPlace | undefined> {
    const workerId = events.findLast(
      (event) => event.attempt === attempt && typeof event.worker_id === "string",
    )?.worker_id;
    if (workerId === undefined) return undefined;
    const workers = await this.parts.leases.workers();
    const worker = workers.find((each) => each.workerId === workerId && each.hasLease);
    return worker && { ...worker, isClaimed: false };
  }
}

function isKept(place: PlacedLog | undefined): place is KeptPlace {
  return place !== undefined && place.kind !== "missing";
}

function removed(): LogMissing {
  return new LogMissing(
    "the log has been removed: it was too old, or the logs had reached their size limit",
    false,
  );
}

function unreadable(failure: Error | undefined): LogMissing {
  const reason = failure?.message ?? "it ends before the attempt's final state";
  return new LogMissing(`the log cannot be read now: ${reason}`, true);
}
