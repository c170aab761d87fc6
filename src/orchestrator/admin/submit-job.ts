/** Submits a job to the queue that all clients use, so that Intake handles it, and waits until it is recorded. */
import { randomUUID } from "node:crypto";
import { sleep } from "../../shared/abort.ts";
import { type MessageRules, readJobMessage } from "../job/message.ts";
import type { JobQueue } from "../queue/queue.ts";
import { type JobRecords, RecordsUnavailable } from "../records/job-records.ts";

export type Acceptance =
  | { readonly kind: "accepted"; readonly jobId: string }
  | { readonly kind: "invalid"; readonly problems: readonly string[] };

export interface SubmitParts {
  readonly queue: Pick<JobQueue, "submit">;
  readonly records: Pick<JobRecords, "find">;
  readonly rules: MessageRules;
}

const POLL_INTERVAL_MS = 5;
/** The broker has confirmed the job by then; waiting only makes it visible to the client's next request. */
const POLL_TIMEOUT_MS = 2000;

/** Resolves when the broker has confirmed the job. @throws the signal's reason; the job may be submitted or not. */
export async function submitJob(parts: SubmitParts, body: Buffer, signal: AbortSignal): Promise<Acceptance> {
  const message = readJobMessage(body, {}, parts.rules);
  if (message.kind === "invalid") return { kind: "invalid", problems: message.problems };
  const jobId = message.explicitId ?? randomUUID();
  await parts.queue.submit(body, { messageId: jobId }, signal);
  await waitUntilKnown(parts.records, jobId);
  return { kind: "accepted", jobId };
}

async function waitUntilKnown(records: SubmitParts["records"], jobId: string): Promise<void> {
  const deadlineMs = performance.now() + POLL_TIMEOUT_MS;
  try {
    while (!(await records.find(jobId)) && performance.now() < deadlineMs) await sleep(POLL_INTERVAL_MS);
  } catch (error) {
    if (!(error instanceof RecordsUnavailable)) throw error;
  }
}
