import type { Logger } from "../../shared/logging.ts";
import type { GitSettings } from "../../shared/repository-url.ts";
import type { HostPort } from "../../shared/settings/parsers.ts";
import type { Cancellation } from "../job/cancellation.ts";
import type { Leases } from "../leases/leases.ts";
import type { JobLogs } from "../logs/job-logs.ts";
import type { JobQueue } from "../queue/queue.ts";
import type { JobRecords } from "../records/job-records.ts";
import type { WorkerClient } from "../workers/worker-client.ts";
import type { Acceptance, SenderProperties } from "./submit-job.ts";

export interface AdminParts {
  readonly queue: Pick<JobQueue, "isReady" | "problems">;
  readonly leases: Leases;
  readonly records: JobRecords;
  readonly logs: JobLogs;
  /** Names of the servers of queue and leases in the response of /readyz. */
  readonly names: { readonly queue: string; readonly leases: string };
  readonly region: string;
  readonly git: GitSettings;
  /** Worker regions in which jobs may wait. */
  readonly regions: {
    has(region: string): boolean;
    knows(region: string): Promise<boolean>;
    readonly all: readonly string[];
  };
  readonly regionFallback: readonly string[];
  readonly unsupportedAfterMs: number;
  readonly token: string;
  readonly listen: HostPort;
  /** Allowed in the header `Host`, besides the names of this machine. */
  readonly hosts: readonly string[];
  readonly logger: Logger;
  /** How long a followed log is silent before its reader gets a comment. Default: 15 s. */
  readonly heartbeatMs?: number;
  connect(address: string): WorkerClient;
  /** Resolves when the broker has confirmed the job; rejects with the signal's reason. */
  submit(body: Buffer, signal: AbortSignal, properties?: SenderProperties): Promise<Acceptance>;
  cancel(jobId: string, reason: string): Promise<Cancellation>;
}
