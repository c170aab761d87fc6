import { type ApiClient, ApiError } from "./api-client.ts";
import { describeWaiting, type ShownWaiting } from "./why.ts";

/** A free worker takes a job much earlier. */
const HINT_AFTER_MS = 2000;

/** Prints why the job waits if it still does after two seconds. To be stopped once it runs. */
export function hintWhileWaiting(api: ApiClient, jobId: string, print: (text: string) => void): () => void {
  let isStopped = false;
  const hint = async () => {
    try {
      const waiting = await api.get<ShownWaiting>(`/api/v1/jobs/${encodeURIComponent(jobId)}/waiting`);
      if (!isStopped && waiting.is_waiting) print(describeWaiting(waiting));
    } catch (error) {
      // The code that follows the log reports that the API does not answer.
      if (!(error instanceof ApiError)) throw error;
    }
  };
  const timer = setTimeout(() => void hint(), HINT_AFTER_MS);
  return () => {
    isStopped = true;
    clearTimeout(timer);
  };
}
