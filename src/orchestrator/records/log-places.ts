/**
 * Where the log of each ended attempt is. An entry lives for the longer of job memory and log age after its last
 * change, or until JobRecords.admit begins another job with the same id. Losing entries costs access to logs, never a
 * job. Redis (redis-log-places.ts) and the embedded SQLite file (sqlite-log-places.ts) implement this interface, and both
 * pass tests/integration/orchestrator/records/log-places-contract.ts.
 */
import type { RunRef } from "../../shared/job.ts";

export type LogPlace =
  /** In the folder of the orchestrator with this id. */
  | { readonly kind: "orchestrator"; readonly id: string }
  /** In a store that every orchestrator reads. The one with this id has uploaded it, and may still have it. */
  | { readonly kind: "store"; readonly id: string }
  | { readonly kind: "missing"; readonly reason: string };

/** An attempt, and the tenant of its job, by which log stores find its log. */
export interface TenantRun extends RunRef {
  readonly tenant: string;
}

export const PLACE_KINDS = [
  "missing",
  "orchestrator",
  "store",
] as const satisfies readonly LogPlace["kind"][];

export type PlacedLog = LogPlace & { readonly tenant: string };

/** A right to copy a log ends this many ms after its last `claim` call. */
export const COPY_TTL_MS = 5000;

/** Each method rejects with RecordsUnavailable while the server does not answer. */
export interface LogPlaces {
  /** Connects, and keeps reconnecting until `close`. Does not fail without a server. */
  start(): void;
  /** A place replaces only those of the same kind, and those before it: missing, orchestrator, store. */
  note(run: TenantRun, place: LogPlace): Promise<void>;
  /** By attempt. */
  find(jobId: string): Promise<ReadonlyMap<number, PlacedLog>>;
  /**
   * Asks for the right to copy a log, or renews it. "kept": it is copied already. "taken": another orchestrator copies
   * it.
   */
  claim(run: TenantRun, orchestratorId: string): Promise<"granted" | "taken" | "kept">;
  /** Other orchestrators reach this one at this address for `ttlMs`. */
  announce(orchestratorId: string, address: string, ttlMs: number): Promise<void>;
  /** They do not from now on. */
  withdraw(orchestratorId: string): Promise<void>;
  /** Undefined: that orchestrator does not run. */
  addressOf(orchestratorId: string): Promise<string | undefined>;
  close(): Promise<void>;
}
