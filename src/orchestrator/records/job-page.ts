/** Collects one page of the list of jobs from batches of records. */
import type { JobListing, JobPage, JobPlace, JobSummary } from "./job-records.ts";
import { MAX_BYTES_READ, MAX_RECORDS_READ } from "./record-limits.ts";

const BATCH = 100;
/** A record may have a megabyte. */
const BATCH_BYTES = 4_000_000;

export interface ListedJob {
  readonly place: JobPlace;
  /** Undefined if the record has expired. */
  readonly summary: JobSummary | undefined;
  /** Size of the summary as it is stored. */
  readonly bytes: number;
}

export interface Batch {
  readonly jobs: readonly ListedJob[];
  /** No job follows them. */
  readonly isLast: boolean;
}

/** A batch has at most `count` jobs, and ends with the job with which it reaches `bytes`. */
export interface BatchLimits {
  readonly count: number;
  readonly bytes: number;
}

export function sizeOf(...texts: readonly (string | null | undefined)[]): number {
  return texts.reduce((sum, text) => sum + (text?.length ?? 0), 0);
}

export async function pageOf(
  { matches, limit, after, sinceMs = 0 }: JobListing,
  readAfter: (after: JobPlace | undefined, limits: BatchLimits) => Promise<Batch>,
): Promise<JobPage> {
  const jobs: JobSummary[] = [];
  let place = after;
  let bytes = 0;
  for (let read = 0; read < MAX_RECORDS_READ && bytes < MAX_BYTES_READ; ) {
    const batch = await readAfter(place, { count: BATCH, bytes: BATCH_BYTES });
    for (const listed of batch.jobs) {
      place = listed.place;
      if (place.acceptedAtMs < sinceMs) return { jobs, next: undefined };
      read++;
      bytes += listed.bytes;
      if (listed.summary && matches(listed.summary)) jobs.push(listed.summary);
      if (jobs.length === limit) return { jobs, next: place };
    }
    if (batch.isLast) return { jobs, next: undefined };
  }
  return { jobs, next: place };
}
