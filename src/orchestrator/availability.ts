/**
 * Availability: while records or leases do not answer this orchestrator, it can neither accept nor assign jobs, but
 * other orchestrators may. It then returns the jobs that it holds and that do not run, and takes none until they answer
 * again. Running jobs keep their messages: their workers' leases are confirmed from these.
 */
import type { Logger } from "../shared/logging.ts";
import type { Dispatcher } from "./dispatcher.ts";
import type { Intake } from "./intake.ts";
import type { Leases } from "./leases/leases.ts";
import type { JobRecords } from "./records/job-records.ts";

const POLL_INTERVAL_MS = 250;
/** Long enough for a failover, which should not move jobs. */
const RETURN_JOBS_AFTER_MS = 4000;

export interface AvailabilityParts {
  readonly leases: Pick<Leases, "isReady">;
  readonly records: Pick<JobRecords, "isReady">;
  readonly intake: Pick<Intake, "pause" | "resume">;
  readonly dispatcher: Pick<Dispatcher, "pause" | "resume">;
  readonly logger: Logger;
}

export class Availability {
  #timer: NodeJS.Timeout | undefined;
  /** The first check in a row that found them unavailable: before it, this process may not have run for a while. */
  #unavailableSinceMs: number | undefined;
  #isPaused = false;

  constructor(private readonly parts: AvailabilityParts) {}

  start(): void {
    this.#timer = setInterval(() => this.#check(), POLL_INTERVAL_MS);
  }

  stop(): void {
    clearInterval(this.#timer);
  }

  #check(): void {
    const { leases, records } = this.parts;
    if (leases.isReady && records.isReady) {
      this.#unavailableSinceMs = undefined;
      this.#resume();
      return;
    }
    const nowMs = performance.now();
    this.#unavailableSinceMs ??= nowMs;
    if (nowMs - this.#unavailableSinceMs >= RETURN_JOBS_AFTER_MS) this.#pause();
  }

  #pause(): void {
    if (this.#isPaused) return;
    this.#isPaused = true;
    const { intake, dispatcher, logger } = this.parts;
    logger.warn("job records and leases unavailable; waiting jobs return to their queues, and none is taken");
    Promise.all([intake.pause(), dispatcher.pause()]).catch((error: unknown) =>
      logger.error({ err: error }, "failed to return waiting jobs to their queues"),
    );
  }

  #resume(): void {
    if (!this.#isPaused) return;
    this.#isPaused = false;
    const { intake, dispatcher, logger } = this.parts;
    logger.info("job records and leases available again; taking jobs");
    intake.resume();
    dispatcher.resume();
  }
}
