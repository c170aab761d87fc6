import type { JobState } from "../../shared/job.ts";

/** Answer to a request to cancel a job. */
export type Cancellation =
  | { readonly kind: "unknown" }
  /** The job has its result: too late, or cancelled before. */
  | { readonly kind: "ended"; readonly state: JobState }
  /** The job is ending or has just ended; `state` is its current state. */
  | { readonly kind: "cancelling"; readonly state: JobState };
