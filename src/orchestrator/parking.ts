/**
 * Parking: publishes an accepted job to the queue in which it waits. A job for a known region waits in its ready queue.
 * Jobs for other regions share queues, since any number of region names must not create more of them: a job that may fall
 * back waits for the fallback regions; any other one is parked, and moves to its ready queue once its region is known.
 */
import type { Job } from "../shared/job.ts";
import type { Logger } from "../shared/logging.ts";
import type { KnownRegions } from "./known-regions.ts";
import { LeasesUnavailable } from "./leases/leases.ts";
import type { JobQueue, ReadyMessage } from "./queue/queue.ts";

/** In the names of the ready queues that jobs for unknown regions share while they may fall back. Not a valid region. */
export const FALLBACK_QUEUES = "_fallback";
/** For jobs that an orchestrator with other settings has parked since the last check. */
const CHECK_INTERVAL_MS = 5 * 60 * 1000;
/** A check publishes every parked job again: with many of them, it must not keep the broker busy. */
const MAX_CHECKING_SHARE = 0.05;
const RETRY_INTERVAL_MS = 1000;
const LOG_INTERVAL_MS = 60 * 60 * 1000;
const MAX_LOGGED_REGIONS = 1000;

export interface ParkingParts {
  readonly queue: Pick<JobQueue, "isReady" | "regions" | "addRegion" | "offer" | "park" | "unpark">;
  readonly regions: KnownRegions;
  readonly regionFallback: readonly string[];
  readonly logger: Logger;
  /** Monotonic clock of tests. */
  readonly nowMs?: () => number;
}

export class Parking {
  /** Unknown regions by the time of their last log line, oldest first. */
  readonly #loggedAtMs = new Map<string, number>();
  #isUnparking = false;
  #isDue = false;
  #isStopped = false;
  #nextCheck: NodeJS.Timeout | undefined;

  constructor(private readonly parts: ParkingParts) {}

  start(): void {
    this.parts.regions.onGain(() => this.#unparkSoon());
    this.#unparkSoon();
  }

  /** A check of the parked jobs that has begun ends with the queue. */
  stop(): void {
    this.#isStopped = true;
    clearTimeout(this.#nextCheck);
  }

  /** Resolves when the broker has confirmed the job. @throws LeasesUnavailable: it was not published */
  async offer(job: Job, message: ReadyMessage, signal: AbortSignal): Promise<void> {
    const { queue, regions } = this.parts;
    const { workerRegion, priority } = job;
    const region = await this.#readyRegionOf(job);
    if (region !== undefined) return queue.offer({ region, priority }, message, signal);
    await queue.park({ region: workerRegion, priority }, message, signal);
    this.#logParked(job);
    // If the region has become known meanwhile, the check of the parked jobs may have missed this one.
    if (regions.has(workerRegion)) this.#unparkSoon();
  }

  async #readyRegionOf({ workerRegion, regionPolicy }: Job): Promise<string | undefined> {
    if (await this.parts.regions.knows(workerRegion)) return workerRegion;
    return regionPolicy === "prefer" && this.#hasFallback ? FALLBACK_QUEUES : undefined;
  }

  get #hasFallback(): boolean {
    return this.parts.regionFallback.length > 0;
  }

  /** Once per region and hour. */
  #logParked({ jobId, workerRegion }: Job): void {
    const nowMs = (this.parts.nowMs ?? (() => performance.now()))();
    const loggedAtMs = this.#loggedAtMs.get(workerRegion) ?? Number.NEGATIVE_INFINITY;
    if (nowMs - loggedAtMs < LOG_INTERVAL_MS) return;
    this.#loggedAtMs.delete(workerRegion);
    this.#loggedAtMs.set(workerRegion, nowMs);
    const [oldest] = this.#loggedAtMs.keys();
    if (oldest !== undefined && this.#loggedAtMs.size > MAX_LOGGED_REGIONS) this.#loggedAtMs.delete(oldest);
    this.parts.logger.warn(
      { job_id: jobId, worker_region: workerRegion },
      "job waits for an unknown worker region; start a worker there, or add the region to BLACKTREE_REGIONS",
    );
  }

  /** One check at a time; a region that becomes known during a check causes another one. */
  #unparkSoon(): void {
    if (this.#isStopped) return;
    this.#isDue = true;
    if (!this.#isUnparking) void this.#unparkWhileDue();
  }

  async #unparkWhileDue(): Promise<void> {
    const startedAtMs = performance.now();
    this.#isUnparking = true;
    try {
      while (this.#isDue && !this.#isStopped) await this.#unpark();
      const tookMs = performance.now() - startedAtMs;
      this.#unparkIn(Math.max(CHECK_INTERVAL_MS, tookMs / MAX_CHECKING_SHARE));
    } catch (error) {
      // Lost connections are logged by their clients.
      if (!this.#isStopped && this.parts.queue.isReady && !(error instanceof LeasesUnavailable))
        this.parts.logger.warn({ err: error }, "failed to check the parked jobs, retrying");
      this.#unparkIn(RETRY_INTERVAL_MS);
    } finally {
      this.#isUnparking = false;
    }
  }

  #unparkIn(delayMs: number): void {
    clearTimeout(this.#nextCheck);
    if (!this.#isStopped) this.#nextCheck = setTimeout(() => this.#unparkSoon(), delayMs);
  }

  async #unpark(): Promise<void> {
    const { queue, regions } = this.parts;
    await regions.refresh();
    this.#isDue = false;
    // Only these: of a region that becomes known during the check, later jobs would move before earlier ones.
    const known = new Set(regions.all);
    for (const region of [...known, ...(this.#hasFallback ? [FALLBACK_QUEUES] : [])]) {
      if (!queue.regions().includes(region)) await queue.addRegion(region);
    }
    await queue.unpark((region) => known.has(region));
  }
}
