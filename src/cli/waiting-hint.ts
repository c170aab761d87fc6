import type { ApiClient } from "./api/client.ts";
import { WAITING } from "./api/shapes.ts";
import { describeWaiting, type ShownWaiting } from "./why.ts";

/** A free worker takes a job much earlier. */
const HINT_AFTER_MS = 2000;

/** Prints why the job waits if it still does after two seconds. To be stopped once it runs. */
export function hintWhileWaiting(api: ApiClient, jobId: string, print: (text: string) => void): () => void {
  let isStopped = false;
  const hint = async () => {
    const path = `/api/v1/jobs/${encodeURIComponent(jobId)}/waiting`;
    const waiting = await api.get<ShownWaiting>(path, WAITING);
    if (!isStopped && waiting.is_waiting) print(describeWaiting(waiting));
  };
  // Nothing waits for the hint, and the code that follows the log reports that the API does not answer.
  const timer = setTimeout(() => void hint().catch(() => undefined), HINT_AFTER_MS);
  return () => {
    isStopped = true;
    clearTimeout(timer);
  };
}
