/** A job's one result: the one that its kind, or what was sent about it, asks for. */
import type { JobResult } from "../../../src/shared/job.ts";
import type { ReceivedResult } from "../jobs/client.ts";
import type { DrillJob } from "../jobs/job.ts";
import type { Cancellation } from "../jobs/sender.ts";
import { LEASE_TTL_MS, MAX_ATTEMPTS } from "../site/site.ts";
import type { FaultLog } from "./fault-log.ts";
import { type Finding, NOTHING } from "./finding.ts";

/** Why a job may end as cancelled. */
export interface CancelReasons {
  readonly cancellation: Cancellation | undefined;
  /** The ids of the other jobs with its `supersede` key. */
  readonly group: readonly string[];
}

export const NOT_CANCELLED: CancelReasons = { cancellation: undefined, group: [] };

/** Failures that a job of the kind has to end in; the others succeed. */
const FAILURES: Readonly<Partial<Record<DrillJob["kind"], string>>> = {
  failing: "BUILD_FAILED",
  invalid: "INVALID_JOB",
};

export function checkResult(
  job: DrillJob,
  [first]: readonly ReceivedResult[],
  reasons: CancelReasons = NOT_CANCELLED,
): Finding {
  if (job.kind === "malformed")
    return first
      ? wrong(`a message without a readable id got the result ${first.text.slice(0, 200)}`)
      : NOTHING;
  if (!first) return { lost: 1, problems: [{ rule: "lost", what: "no result" }] };
  const { status, error, attempt } = first.result;
  const outcome = `${status} at attempt ${attempt}, ${error?.code}: ${error?.message}`;
  if (status === "CANCELLED") return checkCancelled(first.result, reasons);
  const expected = FAILURES[job.kind];
  if (status === "SUCCESS" && expected === undefined) return { ...NOTHING, succeeded: 1 };
  if (status === "FAILED" && error?.code === expected) return { ...NOTHING, failed: 1 };
  const isGivenUp = status === "FAILED" && error?.retryable === true && attempt >= MAX_ATTEMPTS;
  return isGivenUp ? { ...NOTHING, failedByFaults: 1 } : wrong(`${job.kind} job ended ${outcome}`);
}

function wrong(what: string): Finding {
  return { problems: [{ rule: "wrong result", what }] };
}

function checkCancelled({ error }: JobResult, { cancellation, group }: CancelReasons): Finding {
  const superseding = /superseded by job (\S+)/.exec(error?.message ?? "")?.[1];
  const isRight = superseding === undefined ? cancellation !== undefined : group.includes(superseding);
  return isRight ? { ...NOTHING, cancelled: 1 } : wrong(`cancelled without a reason: ${error?.message}`);
}

/** Of the jobs with one `supersede` key, one at least has its true outcome, unless each was cancelled by a request. */
export function checkGroup(results: readonly (ReceivedResult | undefined)[]): Finding {
  const isEachSuperseded = results.every(
    (received) => received?.result.error?.message.includes("superseded by") === true,
  );
  if (results.length === 0 || !isEachSuperseded) return NOTHING;
  return wrong("all jobs with this supersede key were cancelled by each other");
}

/** The request for the tag was sent well after the one to cancel was accepted, which had no effect. */
export function checkCancelTook(
  cancellation: Cancellation | undefined,
  lastPutAt: number | undefined,
  faults: FaultLog,
): Finding {
  const acceptedAt = cancellation?.acceptedAt;
  if (acceptedAt === undefined || lastPutAt === undefined) return NOTHING;
  if (lastPutAt < acceptedAt + LEASE_TTL_MS) return NOTHING;
  if (faults.hasForgotten({ from: acceptedAt, until: lastPutAt })) return NOTHING;
  return wrong("its tag was put after the request to cancel it had been accepted");
}

/** How often a job's message was sent, beyond the first time, and what may have repeated its result. */
export interface Repeats {
  readonly duplicates: number;
  readonly faults: FaultLog;
}

export function checkFurtherResults(
  [first, ...further]: readonly ReceivedResult[],
  { duplicates, faults }: Repeats,
): Finding {
  let [repeated, foundAgain, doubled, unasked] = [0, 0, 0, 0];
  const problems: { rule: string; what: string }[] = [];
  for (const again of further) {
    if (!first) break;
    const since = { from: first.sentAt, until: again.at };
    if (again.text === first.text || isRefusedAgain(first.result, again.result)) {
      repeated += 1;
      if (!faults.hasHarmed([], ["messages"], since) && !faults.wasBusy(since)) unasked += 1;
    } else if (isRunAgain(first.result, again.result) && faults.hasForgotten(since)) foundAgain += 1;
    else {
      doubled += 1;
      problems.push({ rule: "doubled", what: `${summary(first.result)}, and then ${summary(again.result)}` });
    }
  }
  if (unasked > duplicates)
    problems.push({
      rule: "repeated",
      what: `${unasked} more results, for ${duplicates} more messages, and no fault`,
    });
  return { repeated, foundAgain, doubled, problems };
}

/** An invalid message has no record: each of its deliveries is refused with a new result. */
function isRefusedAgain(first: JobResult, again: JobResult): boolean {
  return [first, again].every(({ error }) => error?.code === "INVALID_JOB");
}

function summary({ status, attempt, image_digest, finished_at }: JobResult): string {
  return `${status} (attempt ${attempt}, ${image_digest}, finished at ${finished_at})`;
}

/**
 * docs/messages.md, Identity and Cancelling: after a loss of Redis a job may run again, and then finds its image
 * already made; a cancelled one whose message still waits is built, and so is another job under its id.
 */
function isRunAgain(first: JobResult, again: JobResult): boolean {
  if (first.deployment_version !== again.deployment_version) return true;
  if ([first, again].some(({ status }) => status === "CANCELLED")) return true;
  return first.status === again.status && first.image_digest === again.image_digest;
}
