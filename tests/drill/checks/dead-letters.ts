/** Invalid messages, and other jobs under a known id, are in the dead-letter queue, and no others. */
import type { DeadLetter, ReceivedResult } from "../jobs/client.ts";
import { conflictingMessage, type DrillJob } from "../jobs/job.ts";
import type { FaultLog } from "./fault-log.ts";
import type { Finding } from "./finding.ts";

/** @param letters all that contain the job's id */
export function checkDeadLetters(
  job: DrillJob,
  letters: readonly DeadLetter[],
  [first]: readonly ReceivedResult[],
  faults: FaultLog,
): Finding {
  const other = conflictingMessage(job).deployment_version;
  const hasConflict = job.followUps.some(({ kind }) => kind === "conflict");
  const isRefused = job.kind === "invalid" || job.kind === "malformed";
  const problems: { rule: string; what: string }[] = [];
  const expected = isRefused || hasConflict;
  const unexpected = letters.filter(({ text }) => !isRefused && !(hasConflict && text.includes(other)));
  for (const { reason } of unexpected)
    problems.push({ rule: "dead letter", what: `the message of a job was refused: ${reason}` });
  // The id of a job that Redis has forgotten is free for another one.
  const isForgotten =
    hasConflict && faults.hasForgotten({ from: first?.sentAt ?? 0, until: Number.POSITIVE_INFINITY });
  if (expected && letters.length === 0 && !isForgotten)
    problems.push({
      rule: "dead letter",
      what: "a message that had to be refused is not in the dead-letter queue",
    });
  const [earliest, latest] = [letters[0]?.at ?? 0, letters.at(-1)?.at ?? 0];
  const isRepeatable = faults.hasHarmed([], ["messages"], { from: earliest - 10_000, until: latest });
  if (letters.length > 1 && !isRepeatable && !faults.wasBusy({ from: earliest - 10_000, until: latest }))
    problems.push({
      rule: "dead letter",
      what: `one message is ${letters.length} times in the dead-letter queue`,
    });
  return { deadLetters: letters.length, problems };
}
