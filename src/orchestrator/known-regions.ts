/**
 * Known Regions: the worker regions for which jobs may wait in ready queues. They are those of the settings, and those of
 * workers. Any sender may invent a region, and its ready queues would use memory of the broker for ever.
 */
import { Listeners } from "../shared/listeners.ts";
import type { Logger } from "../shared/logging.ts";
import type { ReadMessage } from "./job/message.ts";
import { type Leases, LeasesUnavailable } from "./leases/leases.ts";
import type { JobRecords } from "./records/job-records.ts";

/** Long enough for a restart of a region's only worker, which deregisters. */
const REMEMBER_MS = 60 * 60 * 1000;
/** The leases report a change with every job. */
const MIN_REFRESH_INTERVAL_MS = 1000;
const MAX_LISTED = 20;

export interface KnownRegionsParts {
  readonly leases: Pick<Leases, "workers" | "onChange">;
  readonly records: Pick<JobRecords, "find">;
  /** `BLACKTREE_REGIONS` */
  readonly regions: readonly string[];
  /** The orchestrator's own region. */
  readonly region: string;
  readonly regionFallback: readonly string[];
  /** What happens to jobs for other regions. */
  readonly unknownRegion: "wait" | "refuse";
  readonly logger: Logger;
  /** Monotonic clock of tests. */
  readonly nowMs?: () => number;
}

type JobMessage = Pick<Extract<ReadMessage, { kind: "job" }>, "job" | "explicitId" | "publicJob">;

export class KnownRegions {
  readonly #configured: ReadonlySet<string>;
  /** Regions of workers, and when one was last registered there. */
  readonly #ofWorkers = new Map<string, number>();
  readonly #nowMs: () => number;
  readonly #listeners: Listeners;
  /** The read that has begun last; never rejects. */
  #reading: Promise<void> = Promise.resolve();
  #nextRead: Promise<void> | undefined;
  #refreshedAtMs = Number.NEGATIVE_INFINITY;
  #timer: NodeJS.Timeout | undefined;
  #isStopped = false;

  constructor(private readonly parts: KnownRegionsParts) {
    this.#nowMs = parts.nowMs ?? (() => performance.now());
    this.#configured = new Set([...parts.regions, parts.region, ...parts.regionFallback]);
    this.#listeners = new Listeners((error) =>
      parts.logger.error({ err: error }, "listener of known regions failed"),
    );
  }

  start(): void {
    this.parts.leases.onChange(() => this.#refreshSoon());
  }

  stop(): void {
    this.#isStopped = true;
    clearTimeout(this.#timer);
  }

  /** As of the last `refresh`. */
  get all(): readonly string[] {
    return [...new Set([...this.#configured, ...this.#ofWorkers.keys()])];
  }

  /** As of the last `refresh`. */
  has(region: string): boolean {
    return this.#configured.has(region) || this.#ofWorkers.has(region);
  }

  /** Also for a worker that has just registered. @throws LeasesUnavailable */
  async knows(region: string): Promise<boolean> {
    if (!this.has(region)) await this.refresh();
    return this.has(region);
  }

  /** Calls back after another region has become known. */
  onGain(listener: () => void): void {
    this.#listeners.add(listener);
  }

  /**
   * Reads the workers' regions. A read that has begun may miss a worker that has registered meanwhile, so calls during a
   * read wait for the next one, which they share: any number of jobs for unknown regions causes one read at a time.
   * @throws LeasesUnavailable
   */
  refresh(): Promise<void> {
    this.#nextRead ??= this.#reading.then(() => {
      this.#nextRead = undefined;
      const read = this.#readWorkers();
      this.#reading = read.catch(() => undefined);
      return read;
    });
    return this.#nextRead;
  }

  async #readWorkers(): Promise<void> {
    this.#refreshedAtMs = this.#nowMs();
    const regions = new Set((await this.parts.leases.workers()).map(({ region }) => region));
    const nowMs = this.#nowMs();
    const hasGained = [...regions].some((region) => !this.has(region));
    for (const region of regions) this.#ofWorkers.set(region, nowMs);
    for (const [region, seenAtMs] of this.#ofWorkers) {
      if (nowMs - seenAtMs > REMEMBER_MS) this.#ofWorkers.delete(region);
    }
    if (hasGained) this.#listeners.notify();
  }

  /**
   * Why a new job must be refused; undefined when it may wait. The region of a job that was accepted earlier may have
   * been known then. @throws LeasesUnavailable, RecordsUnavailable
   */
  async problemOf({ job, explicitId, publicJob }: JobMessage): Promise<string | undefined> {
    if (this.parts.unknownRegion === "wait" || (await this.knows(job.workerRegion))) return undefined;
    const isNew = explicitId === undefined || !(await this.parts.records.find(explicitId));
    return isNew ? this.#describeUnknown(publicJob) : undefined;
  }

  /** Does not repeat the region: it may be a secret in the wrong field. */
  #describeUnknown(publicJob: JobMessage["publicJob"]): string {
    const isDefault = publicJob.worker_region == null;
    const field = isDefault ? "region (worker_region is missing)" : "worker_region";
    const orElse = isDefault ? ", or set worker_region" : "";
    return `${field}: not a known worker region; expected ${this.#listed()}; start a worker in the region or add it to BLACKTREE_REGIONS${orElse}`;
  }

  #listed(): string {
    const [listed, more] = [this.all.slice(0, MAX_LISTED), this.all.length - MAX_LISTED];
    return `one of ${listed.join(", ")}${more > 0 ? ` and ${more} more` : ""}`;
  }

  #refreshSoon(): void {
    if (this.#isStopped || this.#timer) return;
    const dueAtMs = this.#refreshedAtMs + MIN_REFRESH_INTERVAL_MS;
    this.#timer = setTimeout(() => void this.#refreshNow(), Math.max(0, dueAtMs - this.#nowMs()));
  }

  async #refreshNow(): Promise<void> {
    this.#timer = undefined;
    try {
      await this.refresh();
    } catch (error) {
      // The Redis client logs its own failures; a change is reported when it is connected again.
      if (!(error instanceof LeasesUnavailable))
        this.parts.logger.error({ err: error }, "failed to read the workers' regions");
    }
  }
}
