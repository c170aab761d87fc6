/** Submits a job to the queue that all clients use, so that Intake handles it, and waits until it is recorded. */
import { randomUUID } from "node:crypto";
import { sleep } from "../../shared/abort.ts";
import { type MessageRules, type ReadMessage, readJobMessage } from "../job/message.ts";
import { LeasesUnavailable } from "../leases/leases.ts";
import type { JobQueue, MessageProperties } from "../queue/queue.ts";
import { type JobIdentity, type JobRecords, RecordsUnavailable } from "../records/job-records.ts";

export type Acceptance =
  | { readonly kind: "accepted"; readonly jobId: string }
  | { readonly kind: "invalid"; readonly problems: readonly string[] }
  /** The signal has aborted before the broker answered: the job may be submitted or not. */
  | { readonly kind: "unconfirmed"; readonly jobId: string }
  /** The id is that of another job, which differs in these fields. */
  | { readonly kind: "conflict"; readonly fields: readonly string[] };

type Job = Extract<ReadMessage, { kind: "job" }>;

export interface SubmitParts {
  readonly queue: Pick<JobQueue, "submit">;
  readonly records: Pick<JobRecords, "differingFields">;
  readonly rules: MessageRules;
  /** See known-regions.ts. */
  readonly regions: { problemOf(message: Job): Promise<string | undefined> };
}

/** How long a request may wait for the broker. */
export const SUBMIT_TIMEOUT_MS = 10_000;

const POLL_INTERVAL_MS = 5;
/** The broker has confirmed the job by then; waiting only makes it visible to the client's next request. */
const POLL_TIMEOUT_MS = 2000;

/** Where else the result is sent to. */
export type SenderProperties = Pick<MessageProperties, "replyTo" | "correlationId">;

/** Resolves when the broker has confirmed the job, or `signal` aborts. */
export async function submitJob(
  parts: SubmitParts,
  body: Buffer,
  signal: AbortSignal,
  properties: SenderProperties = {},
): Promise<Acceptance> {
  const message = readJobMessage(body, {}, parts.rules);
  if (message.kind === "invalid") return { kind: "invalid", problems: message.problems };
  const problem = await regionProblem(parts, message);
  if (problem !== undefined) return { kind: "invalid", problems: [problem] };
  const { identity } = message;
  const jobId = message.explicitId ?? randomUUID();
  let fields = await differingFields(parts.records, jobId, identity, 0);
  if (fields.length === 0) {
    try {
      await parts.queue.submit(body, { ...properties, messageId: jobId }, signal);
    } catch (error) {
      if (signal.aborted) return { kind: "unconfirmed", jobId };
      throw error;
    }
    // Intake may have accepted another message with the id in the meantime; it then dead-letters this one.
    fields = await differingFields(parts.records, jobId, identity, POLL_TIMEOUT_MS);
  }
  return fields.length === 0 ? { kind: "accepted", jobId } : { kind: "conflict", fields };
}

/** Undefined while it is not known because servers are unavailable: then Intake decides. */
async function regionProblem({ regions }: SubmitParts, message: Job): Promise<string | undefined> {
  try {
    return await regions.problemOf(message);
  } catch (error) {
    if (error instanceof LeasesUnavailable || error instanceof RecordsUnavailable) return undefined;
    throw error;
  }
}

/** Of the job with this id, once it is known. None while it is not, or while the records are unavailable. */
async function differingFields(
  records: SubmitParts["records"],
  jobId: string,
  identity: JobIdentity,
  timeoutMs: number,
): Promise<readonly string[]> {
  const deadlineMs = performance.now() + timeoutMs;
  try {
    for (;;) {
      const fields = await records.differingFields(jobId, identity);
      if (fields || performance.now() >= deadlineMs) return fields ?? [];
      await sleep(POLL_INTERVAL_MS);
    }
  } catch (error) {
    if (!(error instanceof RecordsUnavailable)) throw error;
    return [];
  }
}
