/**
 * Uploads journals from this machine's folder (directory-store.ts) to a log store that all orchestrators share.
 *
 * The folder decides what is uploaded: `pending()` lists at the start what earlier starts have left, and `add()` adds
 * what is stored later. Each upload is tried until it succeeds or its file does not exist anymore. After a success,
 * `onUploaded` records where the journal is; then `uploaded()` makes the folder forget that it was pending, so that a
 * crash between any of these steps repeats the upload, and loses none.
 */
import { access } from "node:fs/promises";
import { sleep, waitAtMost } from "../../shared/abort.ts";
import { Backoff, type BackoffBounds } from "../../shared/backoff.ts";
import type { Logger } from "../../shared/logging.ts";
import type { LogKey, LogStore } from "./log-store.ts";

export interface PendingUpload {
  readonly key: LogKey;
  /** Of the complete journal. It is not changed anymore, and its removal ends the attempts to upload it. */
  readonly path: string;
}

/** The folder: remembers over restarts which journals are not uploaded yet, for example with a marker beside each. */
export interface PendingUploads {
  /** In any order. */
  pending(): AsyncIterable<PendingUpload>;
  /** From now on `pending` does not list it. Called again after an error, and also for a file that was removed. */
  uploaded(key: LogKey): Promise<void>;
}

export interface UploadParts {
  readonly store: Pick<LogStore, "put"> & { check(signal: AbortSignal): Promise<void> };
  readonly folder: PendingUploads;
  readonly logger: Logger;
  readonly retryDelay?: BackoffBounds;
  /** Called again after an error. */
  onUploaded(key: LogKey): Promise<void>;
}

interface Item extends PendingUpload {
  /** The store has it, but `onUploaded` or the folder has failed. */
  isStored: boolean;
  /** It was added again while it was uploaded: its file may be another one. */
  isReplaced: boolean;
}

const UPLOADS_AT_ONCE = 2;
const RETRY_DELAY = { initialMs: 1000, maxMs: 60_000 };
const STOP_MS = 3000;

export class LogUploads {
  readonly #items = new Map<string, Item>();
  /** A failed upload goes to the end, so that the others do not wait for it. */
  readonly #waiting: Item[] = [];
  readonly #failed = new Set<Item | "check">();
  /** Logged already, until all uploads work again. */
  readonly #reasons = new Set<string>();
  readonly #delay: Backoff;
  readonly #stopped = new AbortController();
  #added = Promise.withResolvers<void>();
  #running: Promise<unknown> = Promise.resolve();

  constructor(private readonly parts: UploadParts) {
    this.#delay = this.#newDelay();
  }

  /** Number of journals that the store does not have yet. */
  get pending(): number {
    return this.#items.size;
  }

  start(): void {
    const uploads = Array.from({ length: UPLOADS_AT_ONCE }, () => this.#uploadAll());
    this.#running = Promise.all([this.#check(), this.#addEarlier(), ...uploads]);
  }

  /** Waits only for a limited time until the parts of unfinished uploads are removed. */
  async stop(): Promise<void> {
    this.#stopped.abort(new Error("the orchestrator stops"));
    this.#added.resolve();
    await waitAtMost(STOP_MS, this.#running);
  }

  add({ key, path }: PendingUpload): void {
    const id = idOf(key);
    const known = this.#items.get(id);
    if (known) {
      known.isReplaced = true;
      return;
    }
    const item = { key, path, isStored: false, isReplaced: false };
    this.#items.set(id, item);
    this.#enqueue(item);
  }

  /** Repeated until it succeeds. Uploads do not wait for it: it needs permissions that they do not need. */
  async #check(): Promise<void> {
    const { signal } = this.#stopped;
    const delay = this.#newDelay();
    while (!signal.aborted) {
      try {
        await this.parts.store.check(signal);
        this.parts.logger.info("log store reached");
        this.#failed.delete("check");
        return this.#reportRecovery();
      } catch (error) {
        this.#failed.add("check");
        this.#report(error);
        await sleep(delay.nextMs(), signal).catch(() => undefined);
      }
    }
  }

  async #addEarlier(): Promise<void> {
    try {
      for await (const upload of this.parts.folder.pending()) {
        if (this.#stopped.signal.aborted) return;
        if (!this.#items.has(idOf(upload.key))) this.add(upload);
      }
    } catch (error) {
      this.#report(error);
    }
  }

  async #uploadAll(): Promise<void> {
    const { signal } = this.#stopped;
    while (!signal.aborted) {
      const item = this.#waiting.shift();
      if (item === undefined) await this.#added.promise;
      else if (await this.#upload(item)) this.#delay.reset();
      else await sleep(this.#delay.nextMs(), signal).catch(() => undefined);
    }
  }

  /** @returns false after a failure that may pass */
  async #upload(item: Item): Promise<boolean> {
    try {
      await this.#store(item);
    } catch (error) {
      if (!item.isStored && !(await exists(item.path))) return this.#giveUp(item);
      this.#failed.add(item);
      this.#report(error);
      this.#enqueue(item);
      return false;
    }
    if (item.isReplaced) this.#enqueue(item);
    else this.#forget(item);
    this.#reportRecovery();
    return true;
  }

  /** Its file does not exist anymore. */
  async #giveUp(item: Item): Promise<true> {
    this.#forget(item);
    this.parts.logger.warn(fieldsOf(item), "log removed before its upload");
    await this.parts.folder.uploaded(item.key).catch((error: unknown) => this.#report(error));
    return true;
  }

  async #store(item: Item): Promise<void> {
    const { store, folder, onUploaded } = this.parts;
    if (item.isReplaced || !item.isStored) {
      item.isReplaced = item.isStored = false;
      await store.put(item.key, item.path, this.#stopped.signal);
      item.isStored = true;
    }
    await onUploaded(item.key);
    if (!item.isReplaced) await folder.uploaded(item.key);
  }

  #newDelay(): Backoff {
    return new Backoff(this.parts.retryDelay ?? RETRY_DELAY);
  }

  #forget(item: Item): void {
    this.#items.delete(idOf(item.key));
    this.#failed.delete(item);
  }

  #enqueue(item: Item): void {
    this.#waiting.push(item);
    this.#added.resolve();
    this.#added = Promise.withResolvers();
  }

  #report(error: unknown): void {
    const reason = error instanceof Error ? error.message : String(error);
    if (this.#stopped.signal.aborted || this.#reasons.has(reason)) return;
    this.#reasons.add(reason);
    this.parts.logger.error({ reason, pending: this.pending }, "log uploads failing");
  }

  #reportRecovery(): void {
    if (this.#failed.size > 0 || this.#reasons.size === 0) return;
    this.#reasons.clear();
    this.parts.logger.info({ pending: this.pending }, "log uploads work again");
  }
}

/** No tenant contains a slash. */
function idOf({ tenant, jobId, attempt }: LogKey): string {
  return `${tenant}/${jobId}/${attempt}`;
}

function fieldsOf({ key }: PendingUpload) {
  return { job_id: key.jobId, attempt: key.attempt, tenant: key.tenant };
}

function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  );
}
