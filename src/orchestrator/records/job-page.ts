/** Collects one page of the list of jobs from batches of records. */
import type { JobListing, JobPage, JobPlace, JobSummary } from "./job-records.ts";
import { MAX_RECORDS_READ } from "./record-limits.ts";

const BATCH = 100;

export interface ListedJob {
  readonly place: JobPlace;
  /** Undefined if the record has expired. */
  readonly summary: JobSummary | undefined;
}

/** @param readAfter returns the next jobs of the list; fewer than `count` only at its end */
export async function pageOf(
  { matches, limit, after, sinceMs = 0 }: JobListing,
  readAfter: (after: JobPlace | undefined, count: number) => Promise<readonly ListedJob[]>,
): Promise<JobPage> {
  const jobs: JobSummary[] = [];
  let place = after;
  for (let read = 0; read < MAX_RECORDS_READ; ) {
    const batch = await readAfter(place, BATCH);
    for (const listed of batch) {
      place = listed.place;
      if (place.acceptedAtMs < sinceMs) return { jobs, next: undefined };
      read++;
      if (listed.summary && matches(listed.summary)) jobs.push(listed.summary);
      if (jobs.length === limit) return { jobs, next: place };
    }
    if (batch.length < BATCH) return { jobs, next: undefined };
  }
  return { jobs, next: place };
}
