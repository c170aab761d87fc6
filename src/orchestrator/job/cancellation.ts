import type { JobState } from "../../shared/job.ts";

export type Cancellation =
  | { readonly kind: "unknown" }
  /** Too late, or again. */
  | { readonly kind: "ended"; readonly state: JobState }
  /** It ends, or has just done so; `state` is where it is now. */
  | { readonly kind: "cancelling"; readonly state: JobState };
